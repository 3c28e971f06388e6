import assert from "node:assert/strict";
import { test } from "node:test";
import type { AcceptedRequest, Execution, RequestTimings } from "../../daemon/engine/ports.ts";
import { EngineTallies } from "../../daemon/metrics/engine-tallies.ts";
import { TallyStatistics } from "../../daemon/metrics/statistics.ts";
import type { BatchPlan, WaitExplanation } from "../../daemon/scheduler/types.ts";
import { EngineRig } from "../support/engine-rig.ts";
import { PuppetDevice } from "../support/puppet-device.ts";

function observed(): { readonly rig: EngineRig; readonly tallies: EngineTallies } {
  const tallies = new EngineTallies({ unixMs: () => 1_700_000_000_000 });
  return { rig: new EngineRig({ observers: [tallies] }), tallies };
}

/** Each accepted request is in exactly one of the ends. */
function assertBalanced(tallies: EngineTallies): void {
  for (const tally of tallies.models.values()) {
    const ended = tally.answered + tally.shedTotal + tally.failed + tally.lost + tally.cancelled;
    assert.equal(ended, tally.requests);
    assert.equal(tally.pending, 0);
  }
}

test("answers are counted as on time, late or best-effort, with their times", () => {
  const { rig, tallies } = observed();
  rig.submit({ deadlineUs: 50_000 });
  rig.submit({ deadlineUs: null });
  rig.submit({ deadlineUs: 60_000, items: 2 });
  const tally = tallies.model("m");
  assert.equal(tally.pending, 2, "the first executes at once");
  rig.clock.advance(2_000);
  rig.device.complete([], { executeUs: 1_900 });
  while (rig.device.running !== null) {
    rig.clock.advance(100_000);
    rig.device.complete([], { executeUs: 99_000, gatherUs: 7, collectUs: 3 });
  }
  assert.deepEqual([tally.requests, tally.onTime, tally.late, tally.bestEffort], [3, 1, 1, 1]);
  assert.equal(tally.bestEffortRequests, 1);
  assert.equal(tally.misses.execution, 1, "its wait was short against its execution");
  assert.equal(tally.inferredItems, 4);
  assert.equal(tally.lastInferenceMs, 1_700_000_000_000);
  assertBalanced(tallies);
});

test("statistics have equal counts for the parts of computing, and times by batch size", () => {
  const { rig, tallies } = observed();
  const statistics = new TallyStatistics(tallies);
  assert.equal(statistics.statistics("m"), null);
  rig.submit();
  rig.submit();
  rig.submit({ items: 2 });
  rig.clock.advance(2_000);
  rig.device.complete([], { gatherUs: 10, executeUs: 1_500, collectUs: 5 });
  rig.clock.advance(4_000);
  rig.device.complete([], { gatherUs: 20, executeUs: 3_500, collectUs: 6 });
  assert.equal(rig.device.running, null);
  const found = statistics.statistics("m")!;
  assert.deepEqual(found, {
    lastInferenceMs: 1_700_000_000_000,
    items: 4,
    executions: 2,
    success: { count: 3, us: 2_000 + 2 * 6_000 },
    fail: { count: 0, us: 0 },
    queue: { count: 3, us: 2 * 2_000 },
    computeInput: { count: 3, us: 10 + 2 * 20 },
    computeInfer: { count: 3, us: 1_500 + 2 * 3_500 },
    computeOutput: { count: 3, us: 5 + 2 * 6 },
    cacheHit: { count: 0, us: 0 },
    cacheMiss: { count: 0, us: 0 },
    batches: [
      {
        size: 1,
        computeInput: { count: 1, us: 10 },
        computeInfer: { count: 1, us: 1_500 },
        computeOutput: { count: 1, us: 5 },
      },
      {
        size: 3,
        computeInput: { count: 1, us: 20 },
        computeInfer: { count: 1, us: 3_500 },
        computeOutput: { count: 1, us: 6 },
      },
    ],
  });
  const counts = statistics.modelCounts("m");
  assert.deepEqual([counts.requests, counts.on_time, counts.executions, counts.items, counts.slots], [3, 3, 2, 4, 4]);
  assert.equal(counts.busy_us.deadline, 6_000);
  assert.deepEqual(statistics.laneCounts("gpu0").executions, { deadline: 2, fill: 0, share: 0 });
  assert.equal(statistics.modelCounts("never asked").requests, 0);
  assert.equal(statistics.laneCounts("no lane").restarts, 0);
});

test("failed, lost, shed and cancelled requests are counted once each", () => {
  const { rig, tallies } = observed();
  const tally = tallies.model("m");
  rig.submit();
  rig.device.fail("out of memory");
  rig.submit();
  const queued = rig.submit();
  rig.engine.cancel(queued);
  assert.equal(tally.pending, 0);
  rig.device.die("killed");
  rig.engine.addLane(new PuppetDevice());
  assert.deepEqual([tally.failed, tally.lost, tally.cancelledQueued], [1, 1, 1]);
  rig.submit({ model: "other" });
  assert.equal(tallies.model("other").shed.unloaded, 1);
  assert.deepEqual(tally.misses, { failed: 1, lost: 1 });
  const lane = tallies.lanes.get("gpu0")!;
  assert.deepEqual([lane.starts, lane.losses, lane.up], [2, 1, true]);
  assert.equal(new TallyStatistics(tallies).laneCounts("gpu0").restarts, 1);
  assertBalanced(tallies);
});

test("a request cancelled while it executes is neither answered nor failed", () => {
  for (const ends of ["complete", "fail", "die"] as const) {
    const { rig, tallies } = observed();
    const id = rig.submit();
    rig.engine.cancel(id);
    if (ends === "complete") rig.device.complete();
    else rig.device[ends]("reason");
    const tally = tallies.model("m");
    assert.deepEqual([tally.cancelledExecuting, tally.answered, tally.failed, tally.lost], [1, 0, 0, 0], ends);
    assertBalanced(tallies);
  }
});

function request(id: number, deadlineUs: number | null): AcceptedRequest {
  return {
    id,
    model: "m/1",
    items: 1,
    shape: "",
    inputs: [],
    outputs: null,
    deadlineUs,
    explicit: false,
    expiresUs: null,
    tenant: "",
    arrivedUs: 0,
    bytes: 4,
  };
}

function execution(requests: readonly AcceptedRequest[], plan: Partial<BatchPlan> = {}): Execution {
  return {
    requests,
    plan: {
      execution: 1,
      lane: "gpu0",
      model: "m/1",
      shape: "",
      ids: requests.map(({ id }) => id),
      items: requests.length,
      bucket: 4,
      steps: [{ predictedUs: 1_000 }],
      reason: "deadline",
      ...plan,
    },
  };
}

function timings(lateUs: number, waited: Partial<WaitExplanation>): RequestTimings {
  return {
    gatherUs: 0,
    executeUs: 1_000,
    collectUs: 0,
    queueUs: 10_000,
    batchItems: 1,
    bucket: 4,
    lane: "gpu0",
    lateUs,
    waited: { blockedUs: 0, ownBatchesUs: 0, mispredictedUs: 0, heldUs: 0, ...waited },
  };
}

test("late answers are counted by the largest part of their wait", () => {
  const tallies = new EngineTallies();
  const waits: readonly Partial<WaitExplanation>[] = [
    { blockedUs: 9_000, ownBatchesUs: 1_000 },
    { ownBatchesUs: 9_000 },
    { mispredictedUs: 5_000, heldUs: 4_000 },
    { heldUs: 2_000 },
    { blockedUs: 999 },
  ];
  for (const [id, waited] of waits.entries()) {
    const batch = execution([request(id, 5_000)]);
    tallies.arrived(batch.requests[0]!);
    tallies.started(batch, 10_000);
    const result = { ok: true, outputs: [], timings: { gatherUs: 0, executeUs: 1_000, collectUs: 0 } } as const;
    tallies.ended(batch, result, [timings(6_000, waited)], 11_000);
  }
  assert.deepEqual(tallies.model("m/1").misses, { blocked: 1, own_batches: 1, mispredicted: 1, held: 1, execution: 1 });
});

test("a demoted request counts as best-effort, however late it is answered", () => {
  const tallies = new EngineTallies();
  const batch = execution([request(1, 5_000)], { reason: "fill" });
  tallies.laneUp("gpu0", "device", 0);
  tallies.arrived(batch.requests[0]!);
  tallies.demoted(batch.requests[0]!);
  tallies.started(batch, 10_000);
  const result = { ok: true, outputs: [], timings: { gatherUs: 0, executeUs: 1_000, collectUs: 0 } } as const;
  tallies.ended(batch, result, [timings(6_000, {})], 11_000);
  const tally = tallies.model("m/1");
  assert.deepEqual([tally.demoted, tally.bestEffort, tally.late, tally.slots], [1, 1, 0, 4]);
  assert.deepEqual(tally.misses, {});
  assert.deepEqual(tally.busyUs, { deadline: 0, fill: 1_000, share: 0 });
});

test("the share of fill is taken of the time that deadline work left, and forgets the past", () => {
  const tallies = new EngineTallies();
  tallies.laneUp("gpu0", "device", 0);
  const run = (reason: BatchPlan["reason"], startUs: number, endUs: number): void => {
    const batch = execution([], { reason });
    tallies.started(batch, startUs);
    const result = { ok: true, outputs: [], timings: { gatherUs: 0, executeUs: 1, collectUs: 0 } } as const;
    tallies.ended(batch, result, [], endUs);
  };
  assert.equal(tallies.idleFillShare("gpu0", 0), 0);
  run("deadline", 0, 4_000_000);
  run("fill", 4_000_000, 7_000_000);
  assert.equal(tallies.idleFillShare("gpu0", 10_000_000), 0.5);
  assert.equal(tallies.idleFillShare("gpu0", 200_000_000), 0);
  assert.equal(tallies.idleFillShare("no lane", 0), 0);
});

test("refusals of unknown models are counted without their names", () => {
  const tallies = new EngineTallies();
  tallies.model("m/1");
  tallies.refused("m/1", "INVALID_ARGUMENT", "invalid");
  tallies.refused("invented/9", "NOT_FOUND", "not_found");
  tallies.refused(null, "NOT_FOUND", "not_found");
  assert.equal(tallies.model("m/1").refused, 1);
  assert.equal(new TallyStatistics(tallies).statistics("m/1")?.fail.count, 1);
  assert.deepEqual([...tallies.models.keys()], ["m/1"]);
  assert.equal(tallies.refusals.get("NOT_FOUND not_found")?.count, 2);
});
