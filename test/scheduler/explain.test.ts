import assert from "node:assert/strict";
import { test } from "node:test";
import { explainWait } from "../../daemon/scheduler/explain.ts";
import { HISTORY_MAX, Lane } from "../../daemon/scheduler/lane.ts";
import type { QueuedRequest } from "../../daemon/scheduler/request.ts";

/** A lane that executed so many batches, each 10 µs long and 10 µs after the one before: of `own` every second time. */
function laneAfter(executions: number): Lane {
  const lane = new Lane("gpu", "device", 0, 0);
  for (let index = 0; index < executions; index++) {
    const startUs = 20 * index;
    lane.remember({ model: index % 2 === 0 ? "own" : "other", startUs, endUs: startUs + 10, predictedUs: 8 });
  }
  return lane;
}

const requestOf = (arrivedUs: number) =>
  ({ arrivedUs, group: { model: { spec: { model: "own" } } } }) as unknown as QueuedRequest;

test("a request on a lane that has executed nothing was held", () => {
  assert.deepEqual(explainWait(requestOf(100), laneAfter(0), 150), {
    blockedUs: 0,
    ownBatchesUs: 0,
    mispredictedUs: 0,
    heldUs: 50,
  });
});

test("a wait is that for what ended after the request came, however much the lane had executed before", () => {
  for (const executions of [4, HISTORY_MAX, HISTORY_MAX + 1, 3 * HISTORY_MAX - 2]) {
    const endUs = 20 * (executions - 1) + 10;
    const last = executions % 2 === 0 ? "other" : "own";
    // It came in the middle of the last execution but one.
    const waited = explainWait(requestOf(endUs - 25), laneAfter(executions), endUs);
    const [blockedUs, ownBatchesUs] = last === "other" ? [10, 5] : [5, 10];
    assert.deepEqual(waited, { blockedBy: "other", blockedUs, ownBatchesUs, mispredictedUs: 4, heldUs: 10 });
  }
});

test("what is further back than a lane remembers counts as time in which it was busy", () => {
  const executions = HISTORY_MAX + 10;
  const endUs = 20 * (executions - 1) + 10;
  const { blockedUs, ownBatchesUs, heldUs } = explainWait(requestOf(0), laneAfter(executions), endUs);
  const forgottenUs = 20 * 10;
  assert.equal(blockedUs, (10 * HISTORY_MAX) / 2 + forgottenUs);
  assert.equal(ownBatchesUs, (10 * HISTORY_MAX) / 2);
  assert.equal(blockedUs + ownBatchesUs + heldUs, endUs);
});
