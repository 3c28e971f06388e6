/** Batches that are given to a lane while it still executes another. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DecisionLog } from "../../daemon/engine/decision-log.ts";
import type { EngineObserver } from "../../daemon/engine/observer.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { EngineRig, linearProfile, modelSpec } from "../support/engine-rig.ts";
import { PuppetDevice } from "../support/puppet-device.ts";

/** A lane that takes 2 ms for one item; after an idle time it needs 0.5 ms more; from 2 ms on it takes the next batch. */
function rig(observers: readonly EngineObserver[] = []): EngineRig {
  return new EngineRig({ scheduler: createScheduler({ handoverUs: 500 }), observers });
}

test("a lane gets its next batch shortly before the predicted end, and it executes when the one before has ended", () => {
  let logged = "";
  const log = new DecisionLog((chunk) => {
    logged += chunk;
  });
  const { clock, device, engine, submit, outcomes } = rig([log]);
  const first = submit();
  const second = submit();
  clock.moveTo(1_999);
  assert.equal(device.started.length, 1);
  clock.moveTo(2_000);
  assert.deepEqual([device.running?.plan.ids, device.following?.plan.ids], [[first], [second]]);
  const lane = engine.snapshot().lanes[0]!;
  assert.deepEqual([lane.executing?.ids, lane.following?.ids], [[first], [second]]);
  clock.moveTo(2_600);
  device.complete([], { executeUs: 2_000 });
  assert.equal(outcomes.get(first)?.type, "answered");
  assert.equal(engine.snapshot().lanes[0]!.executing?.ids[0], second);
  clock.moveTo(4_500);
  // It began before the end of the first was known.
  device.complete([], { executeUs: 2_000 });
  const outcome = outcomes.get(second);
  assert.equal(outcome?.type, "answered");
  assert.equal(outcome?.type === "answered" && outcome.timings.queueUs, 2_500);
  assert.equal(outcome?.type === "answered" && outcome.timings.waited?.ownBatchesUs, 2_600);
  log.flush();
  const lines = logged.split("\n").filter((line) => line.includes('"start"') || line.includes('"end"'));
  assert.deepEqual(
    lines.map((line) => JSON.parse(line)).map(({ t, ev, ids, chosen }) => [t, ev, ids?.[0], chosen]),
    [
      [0, "start", first, undefined],
      [2_600, "end", undefined, undefined],
      [2_600, "start", second, 2_000],
      [4_500, "end", undefined, undefined],
    ],
  );
});

test("one that is cancelled while its batch waits on the lane is told of when the batch has ended, and not answered", () => {
  const told: string[] = [];
  const { clock, device, engine, submit, outcomes } = rig([
    {
      started: ({ plan }) => told.push(`started ${plan.ids}`),
      cancelled: ({ id }, executing) => told.push(`cancelled ${id} ${executing}`),
      ended: ({ plan }) => told.push(`ended ${plan.ids}`),
    },
  ]);
  submit();
  const second = submit();
  clock.moveTo(2_100);
  engine.cancel(second);
  device.complete();
  device.complete();
  assert.deepEqual(told, ["started 1", "ended 1", "started 2", "cancelled 2 true", "ended 2"]);
  assert.equal(outcomes.has(second), false);
  assert.equal(engine.snapshot().accepted, 0);
});

test("what was to follow on a lane that died waits again and runs on another; who was cancelled does not", () => {
  const cancelled: boolean[] = [];
  const { clock, device, engine, submit, outcomes } = rig([
    { cancelled: (_request, executing) => cancelled.push(executing) },
  ]);
  const executing = submit();
  const next = submit();
  const gone = submit();
  clock.moveTo(2_100);
  assert.deepEqual(device.following?.plan.ids, [next, gone]);
  engine.cancel(gone);
  device.die("SIGSEGV");
  assert.deepEqual(outcomes.get(executing), { type: "lost", reason: "SIGSEGV" });
  assert.equal(outcomes.has(next), false);
  assert.deepEqual(cancelled, [false]);
  assert.equal(engine.snapshot().models[0]!.queuedRequests, 1);
  const other = new PuppetDevice("gpu1");
  engine.addLane(other);
  engine.loaded("gpu1", "m", { "": linearProfile(4) });
  assert.deepEqual(other.running?.plan.ids, [next]);
  other.complete();
  assert.equal(outcomes.get(next)?.type, "answered");
});

test("what was to follow on a lost lane is shed where its model has gone meanwhile", () => {
  const { clock, device, engine, submit, outcomes } = rig();
  submit();
  const next = submit();
  clock.moveTo(2_100);
  engine.removeModel("m");
  device.die("SIGSEGV");
  assert.deepEqual(outcomes.get(next), { type: "shed", cause: "unloaded", detail: {} });
});

test("a lane removed in order executes what was to follow too", async () => {
  const { clock, device, engine, submit, outcomes } = rig();
  submit();
  const next = submit();
  clock.moveTo(2_100);
  let idle = false;
  const removed = engine.removeLane("gpu0").then(() => {
    idle = true;
  });
  device.complete();
  await Promise.resolve();
  assert.equal(idle, false);
  device.complete();
  await removed;
  assert.equal(outcomes.get(next)?.type, "answered");
});

test("a batch that fails while another is to follow has its requests tried alone after that one", () => {
  const { clock, device, submit, outcomes } = rig();
  submit();
  const pair = [submit(), submit()];
  clock.moveTo(2_000);
  device.complete();
  assert.deepEqual(device.running?.plan.ids, pair);
  const next = submit();
  clock.moveTo(4_800);
  assert.deepEqual(device.following?.plan.ids, [next]);
  device.fail("bad row");
  assert.deepEqual(device.running?.plan.ids, [next]);
  device.complete();
  for (let i = 0; i < 2; i++) device.complete();
  for (const id of [next, ...pair]) assert.equal(outcomes.get(id)?.type, "answered");
});

test("what was to follow on a lost lane finds its way back into a queue that has filled up meanwhile", () => {
  const { clock, device, engine, submit, outcomes } = rig();
  engine.addModel(modelSpec("m", { queueItemsMax: 1 }));
  submit();
  const next = submit();
  clock.moveTo(2_100);
  const queued = submit();
  const refused = submit();
  assert.equal(outcomes.get(refused)?.type, "shed");
  device.die("SIGSEGV");
  assert.deepEqual([outcomes.has(next), outcomes.has(queued)], [false, false]);
  assert.equal(engine.snapshot().models[0]!.queuedRequests, 2);
});
