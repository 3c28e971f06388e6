import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  Arena,
  type ArenaBacking,
  mapRegion,
  OutOfArenaMemory,
  PAGE_BYTES,
  type Region,
} from "../../daemon/device/arena.ts";
import { SlotPool } from "../../daemon/device/slots.ts";

const BACKINGS: readonly ArenaBacking[] = ["memfd", "shm"];

describe("arena", { skip: process.platform !== "linux" }, () => {
  for (const backing of BACKINGS) {
    it(`shares what is written between mappings of a ${backing} region, and gives memory back`, () => {
      const arena = Arena.open([backing]);
      const first = arena.reserve(10);
      const second = arena.reserve(3 * PAGE_BYTES);
      assert.deepEqual(
        [first, second],
        [
          { offset: 0, bytes: PAGE_BYTES },
          { offset: PAGE_BYTES, bytes: 3 * PAGE_BYTES },
        ],
      );
      const [one, other] = [mapRegion(arena.fd, second), mapRegion(arena.fd, second)];
      new Uint8Array(one).set([1, 2, 3], 5000);
      assert.deepEqual([...new Uint8Array(other, 5000, 3)], [1, 2, 3]);
      arena.free(first);
      assert.equal(arena.reservedBytes, 3 * PAGE_BYTES);
      // The gap in front is too small for two pages and right for one.
      assert.equal(arena.reserve(2 * PAGE_BYTES).offset, 4 * PAGE_BYTES);
      assert.equal(arena.reserve(PAGE_BYTES).offset, 0);
      arena.close();
    });
  }

  it("refuses more than its limit and more than there is, and stays as it was", () => {
    const limited = Arena.open(["memfd"], 2 * PAGE_BYTES);
    const region = limited.reserve(PAGE_BYTES);
    assert.throws(() => limited.reserve(2 * PAGE_BYTES), OutOfArenaMemory);
    limited.free(region);
    limited.reserve(2 * PAGE_BYTES);
    limited.close();
    const unlimited = Arena.open(["memfd"]);
    assert.throws(() => unlimited.reserve(2 ** 50), OutOfArenaMemory);
    assert.equal(unlimited.reservedBytes, 0);
    unlimited.close();
  });
});

describe("slots", () => {
  for (const shared of process.platform === "linux" ? [true, false] : [false]) {
    it(`are two, and more only when asked for (${shared ? "shared" : "own"} memory)`, () => {
      const arena = shared ? Arena.open() : null;
      const known = new Set<Region>();
      const pool = new SlotPool(arena, {
        added: (region) => known.add(region),
        removed: (region) => known.delete(region),
      });
      pool.resize(PAGE_BYTES);
      const slots = [pool.acquire(100, false)!, pool.acquire(100, false)!];
      assert.equal(pool.acquire(100, false), null);
      const extra = pool.acquire(100, true)!;
      assert.equal(new Set([...slots, extra]).size, 3);
      pool.release(extra);
      pool.release(slots[0]!);
      assert.equal(pool.acquire(100, false), slots[0]);
      // A larger batch makes a slot grow; the slot that is in use stays until it is released.
      pool.release(slots[0]!);
      const grown = pool.acquire(3 * PAGE_BYTES, false)!;
      assert.ok(grown.bytes >= 3 * PAGE_BYTES && grown.buffer!.byteLength >= 3 * PAGE_BYTES);
      new Uint8Array(slots[1]!.buffer!).fill(7);
      pool.resize(2 * PAGE_BYTES);
      assert.equal(new Uint8Array(slots[1]!.buffer!)[99], 7);
      pool.release(slots[1]!);
      pool.release(grown);
      if (arena !== null) assert.equal(arena.reservedBytes, 2 * 2 * PAGE_BYTES);
      pool.resize(0);
      if (arena !== null) assert.equal(arena.reservedBytes, 0);
      assert.equal(known.size, 0);
      arena?.close();
    });
  }

  it("are as many as are wanted, or two where there is no room for more", {
    skip: process.platform !== "linux",
  }, () => {
    const arena = Arena.open(["memfd"], 8 * PAGE_BYTES);
    const pool = new SlotPool(arena, { added: () => {}, removed: () => {} }, 3);
    const count = (): number => {
      const slots = [];
      for (let slot = pool.acquire(1, false); slot !== null; slot = pool.acquire(1, false)) slots.push(slot);
      for (const slot of slots) pool.release(slot);
      return slots.length;
    };
    pool.resize(PAGE_BYTES);
    assert.equal(count(), 3);
    pool.resize(2 * PAGE_BYTES);
    assert.deepEqual([count(), arena.reservedBytes], [2, 4 * PAGE_BYTES]);
    assert.throws(() => pool.resize(4 * PAGE_BYTES), OutOfArenaMemory);
    assert.deepEqual([count(), arena.reservedBytes], [2, 4 * PAGE_BYTES]);
    pool.resize(0);
    assert.equal(arena.reservedBytes, 0);
    arena.close();
  });

  it("do not grow out of all proportion: such a batch has one of its own while it lasts", {
    skip: process.platform !== "linux",
  }, () => {
    const arena = Arena.open();
    const pool = new SlotPool(arena, { added: () => {}, removed: () => {} });
    pool.resize(PAGE_BYTES);
    const grown = pool.acquire(3 * PAGE_BYTES, false)!;
    assert.ok(grown.bytes >= 3 * PAGE_BYTES);
    pool.release(grown);
    const before = arena.reservedBytes;
    const own = pool.acquire(2 ** 40, false, 8 * PAGE_BYTES)!;
    assert.equal(own.bytes, 8 * PAGE_BYTES);
    assert.equal(arena.reservedBytes, before + own.bytes);
    assert.equal(pool.acquire(2 ** 40, false, PAGE_BYTES), grown, "one that is there where it will do");
    pool.release(grown);
    pool.release(own);
    assert.equal(arena.reservedBytes, before);
    pool.resize(0);
    arena.close();
  });

  it("are still there after one could not grow", { skip: process.platform !== "linux" }, () => {
    const arena = Arena.open(["memfd"], 8 * PAGE_BYTES);
    const pool = new SlotPool(arena, { added: () => {}, removed: () => {} });
    pool.resize(2 * PAGE_BYTES);
    for (let time = 0; time < 3; time++) {
      assert.throws(() => pool.acquire(8 * PAGE_BYTES, true), OutOfArenaMemory);
    }
    const least = pool.acquire(8 * PAGE_BYTES, false, 3 * PAGE_BYTES)!;
    assert.equal(least.bytes, 3 * PAGE_BYTES, "of the least size where there is no room for more");
    pool.release(least);
    assert.equal(pool.acquire(8 * PAGE_BYTES, false, PAGE_BYTES), least, "that of before where it will do");
    pool.release(least);
    const slots = [pool.acquire(PAGE_BYTES, false), pool.acquire(PAGE_BYTES, false)];
    assert.ok(!slots.includes(null));
    for (const slot of slots) pool.release(slot!);
    pool.resize(0);
    assert.equal(arena.reservedBytes, 0);
    arena.close();
  });
});
