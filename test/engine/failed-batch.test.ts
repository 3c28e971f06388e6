/** One bad request must not fail those that share its batch. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { EngineRig } from "../support/engine-rig.ts";

/** Runs one request, and behind it three in one batch, which fails. */
function withFailedBatch(): { rig: EngineRig; ids: number[] } {
  const rig = new EngineRig({ scheduler: createScheduler({ gatherUs: 0 }) });
  rig.submit();
  const ids = [rig.submit(), rig.submit(), rig.submit()];
  rig.device.complete();
  assert.deepEqual(rig.device.running?.plan.ids, ids);
  rig.device.fail("index out of bounds");
  return { rig, ids };
}

test("the requests of a batch that failed run again, each by itself, and only the bad one fails", () => {
  const { rig, ids } = withFailedBatch();
  const [, bad] = ids;
  for (let i = 0; i < ids.length; i++) {
    const { plan } = rig.device.running!;
    assert.equal(plan.ids.length, 1);
    assert.equal(plan.shape, "");
    if (plan.ids[0] === bad) rig.device.fail("index out of bounds");
    else rig.device.complete();
  }
  assert.equal(rig.device.running, null);
  const ends = ids.map((id) => rig.outcomes.get(id)!);
  assert.deepEqual(
    ends.map(({ type }) => type),
    ["answered", "failed", "answered"],
  );
  assert.deepEqual(ends[1], { type: "failed", message: "index out of bounds" });
  assert.equal(rig.engine.snapshot().accepted, 0);
});

test("requests that arrive meanwhile do not join one that runs by itself", () => {
  const { rig, ids } = withFailedBatch();
  const later = [rig.submit(), rig.submit()];
  const batches: (readonly number[])[] = [];
  while (rig.device.running !== null) {
    batches.push(rig.device.running.plan.ids);
    rig.device.complete();
  }
  for (const id of ids) assert.ok(batches.some((batch) => batch.length === 1 && batch[0] === id));
  assert.ok(batches.some((batch) => batch.length === 2 && batch.every((id) => later.includes(id))));
});

test("a request cancelled before its second try is not executed again", () => {
  const { rig, ids } = withFailedBatch();
  const running = rig.device.running!.plan.ids[0]!;
  const [cancelled, other] = ids.filter((id) => id !== running);
  rig.engine.cancel(cancelled!);
  rig.device.complete();
  assert.deepEqual(rig.device.running?.plan.ids, [other]);
  rig.device.complete();
  assert.equal(rig.device.running, null);
  assert.equal(rig.outcomes.has(cancelled!), false);
  assert.equal(rig.engine.snapshot().accepted, 0);
});

test("a request that can't be read gets its error, and those of its batch their answers", () => {
  const rig = new EngineRig({ scheduler: createScheduler({ gatherUs: 0 }) });
  rig.submit();
  const ids = [rig.submit(), rig.submit(), rig.submit()];
  rig.device.complete();
  const error = new Error("gone");
  rig.device.complete([], {}, new Map([[ids[1]!, error]]));
  assert.deepEqual(
    ids.map((id) => rig.outcomes.get(id)!.type),
    ["answered", "unreadable", "answered"],
  );
  assert.deepEqual(rig.outcomes.get(ids[1]!), { type: "unreadable", error });
  assert.equal(rig.device.running, null);
});
