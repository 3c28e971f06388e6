import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Arrivals } from "../../daemon/rpc/arrivals.ts";
import { nextTurn } from "./turns.ts";

function clocked() {
  const clock = { us: 1_000_000, idleUs: 0 };
  const arrivals = new Arrivals(
    () => clock.us,
    () => clock.idleUs,
  );
  const idle = (us: number) => {
    clock.us += us;
    clock.idleUs += us;
  };
  /** Reads for so long, and then turns the event loop once. */
  const turn = async (us: number) => {
    arrivals.latestUs("a");
    clock.us += us;
    await nextTurn();
  };
  return { clock, arrivals, turn, idle };
}

describe("when what is read now arrived", () => {
  it("is when it is read, as long as nothing else was to be read", async () => {
    const { clock, arrivals, turn, idle } = clocked();
    await turn(100);
    idle(5_000_000);
    const nowUs = clock.us;
    assert.deepEqual([arrivals.earliestUs("a"), arrivals.latestUs("a"), arrivals.behindUs()], [nowUs, nowUs, 0]);
  });

  it("is before the turn that reads it", () => {
    const { clock, arrivals } = clocked();
    const beganUs = arrivals.latestUs("a");
    clock.us += 30_000;
    assert.deepEqual(
      [arrivals.earliestUs("a"), arrivals.latestUs("a"), arrivals.behindUs()],
      [beganUs, beganUs, 30_000],
    );
  });

  it("is when a turn began with its connection, however long others took before", () => {
    const { clock, arrivals } = clocked();
    const beganUs = arrivals.latestUs("a");
    clock.us += 300_000;
    assert.deepEqual([arrivals.earliestUs("b"), arrivals.latestUs("b")], [beganUs, clock.us]);
    clock.us += 10_000;
    assert.deepEqual([arrivals.latestUs("a"), arrivals.latestUs("b")], [beganUs, clock.us - 10_000]);
  });

  it("is after a long turn before began with its connection", async () => {
    const { clock, arrivals } = clocked();
    const beganUs = arrivals.latestUs("a");
    clock.us += 20_000;
    arrivals.latestUs("b");
    clock.us += 5_000;
    await nextTurn();
    assert.deepEqual(
      ["b", "a", "c"].map((connection) => arrivals.earliestUs(connection) - beganUs),
      [20_000, 0, 0],
    );
  });

  it("may be since the turn before began, where that took long", async () => {
    const { clock, arrivals, turn } = clocked();
    const beganUs = clock.us;
    await turn(20_000);
    assert.deepEqual([arrivals.earliestUs("a"), arrivals.latestUs("a")], [beganUs, beganUs + 20_000]);
    clock.us += 5_000;
    assert.equal(arrivals.behindUs(), 25_000, "it goes on falling behind");
    await nextTurn();
    assert.deepEqual([arrivals.earliestUs("a"), arrivals.latestUs("a")], [beganUs + 20_000, beganUs + 25_000]);
  });

  it("is not before a turn that read nothing", async () => {
    const { clock, arrivals, turn, idle } = clocked();
    await turn(20_000);
    await nextTurn();
    idle(1_000);
    const nowUs = clock.us;
    assert.deepEqual([arrivals.earliestUs("a"), arrivals.latestUs("a")], [nowUs, nowUs]);
    assert.equal(arrivals.behindUs(), 4_000, "a pause of 1 ms makes up for 16 ms");
  });

  it("does not catch up while the process is busy with something else than reading", async () => {
    const { clock, arrivals, turn } = clocked();
    await turn(20_000);
    await nextTurn();
    clock.us += 1_000;
    assert.equal(arrivals.behindUs(), 20_000);
  });

  it("is behind for no longer than can be made up for within a third of a second", async () => {
    const { arrivals, turn, idle } = clocked();
    for (let turns = 0; turns < 100; turns++) await turn(1_000_000);
    await nextTurn();
    idle(320_000);
    assert.equal(arrivals.behindUs(), 0);
  });
});
