import assert from "node:assert/strict";
import { test } from "node:test";
import { Arena, type Mapping, mappingOf, mapRegion, PAGE_BYTES } from "../../daemon/device/arena.ts";
import { PageLocks } from "../../daemon/device/page-locks.ts";

const CUDA = { name: "cuda", deviceId: 1 } as const;

/** A device that remembers what is locked. */
class FakeDevice {
  readonly locked = new Map<bigint, number>();
  refuses = false;

  lock({ address, bytes }: Mapping): void {
    if (this.refuses) throw new Error("cuMemHostRegister gave 2");
    this.locked.set(address, bytes);
  }

  unlock({ address }: Mapping): void {
    this.locked.delete(address);
  }
}

function locks(device: FakeDevice) {
  const problems: string[] = [];
  const opened: number[] = [];
  const pageLocks = new PageLocks(
    (problem) => void problems.push(problem),
    (deviceId) => {
      opened.push(deviceId);
      return device;
    },
  );
  return { pageLocks, problems, opened };
}

function slot(): ArrayBuffer {
  const arena = Arena.open();
  const buffer = mapRegion(arena.fd, arena.reserve(PAGE_BYTES));
  arena.close();
  return buffer;
}

test("trial runs for CUDA get memory that is locked until it is given back", () => {
  const device = new FakeDevice();
  const { pageLocks, problems, opened } = locks(device);
  const memory = pageLocks.trialMemory(CUDA);
  const buffer = memory.take(10_000);
  assert.ok(buffer.byteLength >= 10_000);
  new Uint8Array(buffer).fill(7);
  assert.deepEqual([...device.locked.values()], [buffer.byteLength]);
  memory.giveBack(buffer);
  assert.equal(device.locked.size, 0);
  assert.equal(mappingOf(buffer), undefined, "unmapped");
  memory.giveBack(memory.take(1));
  assert.deepEqual(opened, [1], "the device is opened once");
  assert.deepEqual(problems, []);
});

test("for other providers nothing is locked, and no device opened", () => {
  const device = new FakeDevice();
  const { pageLocks, opened } = locks(device);
  const memory = pageLocks.trialMemory({ name: "webgpu", deviceId: 0 });
  memory.giveBack(memory.take(100));
  const used = slot();
  for (let time = 0; time < 3; time++) pageLocks.used(used);
  pageLocks.giveUp(used);
  assert.equal(mappingOf(used), undefined, "unmapped");
  assert.deepEqual(opened, []);
  assert.equal(device.locked.size, 0);
});

test("a slot is locked at its second use, and unlocked before it is unmapped", () => {
  const device = new FakeDevice();
  const { pageLocks } = locks(device);
  const memory = pageLocks.trialMemory(CUDA);
  memory.giveBack(memory.take(1));
  const used = slot();
  pageLocks.used(used);
  assert.equal(device.locked.size, 0);
  pageLocks.used(used);
  pageLocks.used(used);
  assert.deepEqual([...device.locked.values()], [PAGE_BYTES]);
  pageLocks.giveUp(used);
  assert.equal(device.locked.size, 0);
});

test("where the device refuses, all goes on unlocked and one warning tells why", () => {
  const device = new FakeDevice();
  device.refuses = true;
  const { pageLocks, problems } = locks(device);
  const memory = pageLocks.trialMemory(CUDA);
  const buffers = [memory.take(100), memory.take(100)];
  for (const buffer of buffers) {
    new Uint8Array(buffer).fill(1);
    memory.giveBack(buffer);
  }
  const used = slot();
  for (let time = 0; time < 3; time++) pageLocks.used(used);
  pageLocks.giveUp(used);
  assert.deepEqual(problems, ["cuMemHostRegister gave 2"]);
});

test("where there is no device, trial runs lie on the heap", () => {
  const problems: string[] = [];
  const pageLocks = new PageLocks(
    (problem) => void problems.push(problem),
    () => {
      throw new Error("libcuda.so.1: cannot open shared object file");
    },
  );
  const memory = pageLocks.trialMemory(CUDA);
  const buffer = memory.take(100);
  assert.equal(buffer.byteLength, 100);
  assert.equal(mappingOf(buffer), undefined);
  memory.giveBack(buffer);
  memory.giveBack(memory.take(1));
  assert.deepEqual(problems, ["libcuda.so.1: cannot open shared object file"]);
});
