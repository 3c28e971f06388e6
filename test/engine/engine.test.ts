import assert from "node:assert/strict";
import { test } from "node:test";
import type { EngineObserver } from "../../daemon/engine/observer.ts";
import type { Outcome, RequestTimings } from "../../daemon/engine/ports.ts";
import type { InputTensor, Tensor } from "../../daemon/engine/tensors.ts";
import type { Scheduler, SchedulerEffect, SchedulerEvent } from "../../daemon/scheduler/types.ts";
import { EngineRig, modelSpec, request } from "../support/engine-rig.ts";
import { PuppetDevice } from "../support/puppet-device.ts";

function answered(outcome: Outcome | undefined): Outcome & { type: "answered" } {
  assert.equal(outcome?.type, "answered");
  return outcome as Outcome & { type: "answered" };
}

test("answers a request with timings from its arrival to its end", () => {
  const rig = new EngineRig();
  rig.clock.moveTo(500);
  const first = rig.submit();
  const second = rig.submit({ deadlineUs: 10_000 });
  rig.clock.moveTo(2_500);
  rig.device.complete([], { gatherUs: 7, executeUs: 1_900, collectUs: 3 });
  assert.deepEqual(answered(rig.outcomes.get(first)).timings, {
    gatherUs: 7,
    executeUs: 1_900,
    collectUs: 3,
    queueUs: 0,
    batchItems: 1,
    bucket: 1,
    lane: "gpu0",
    lateUs: 0,
    waited: null,
  } satisfies RequestTimings);
  assert.equal(rig.outcomes.has(second), false);
  rig.clock.moveTo(10_400);
  rig.device.complete();
  const { queueUs, lateUs } = answered(rig.outcomes.get(second)).timings;
  assert.deepEqual({ queueUs, lateUs }, { queueUs: 2_000, lateUs: 400 });
});

test("starts the next batch before it answers the one that ended", () => {
  const order: string[] = [];
  const rig = new EngineRig();
  const start = rig.device.start.bind(rig.device);
  rig.device.start = (execution) => {
    order.push(`start ${execution.plan.ids}`);
    start(execution);
  };
  for (let i = 0; i < 2; i++) rig.engine.submit(request(), (_outcome, { id }) => order.push(`answer ${id}`));
  rig.device.complete();
  assert.deepEqual(order, ["start 1", "start 2", "answer 1"]);
});

test("tells observers of an end before the start that it made room for", () => {
  const order: string[] = [];
  const observer: EngineObserver = {
    started: ({ plan }) => order.push(`started ${plan.ids}`),
    ended: ({ plan }) => order.push(`ended ${plan.ids}`),
  };
  const rig = new EngineRig({ observers: [observer] });
  rig.submit();
  rig.submit();
  rig.device.complete();
  assert.deepEqual(order, ["started 1", "ended 1", "started 2"]);
});

test("releases a batch after all its answers were given", () => {
  const rig = new EngineRig();
  const releasedAtAnswer: number[] = [];
  rig.submit();
  for (let i = 0; i < 3; i++) rig.engine.submit(request(), () => releasedAtAnswer.push(rig.device.released.length));
  rig.device.complete();
  rig.device.complete();
  assert.deepEqual(releasedAtAnswer, [1, 1, 1]);
  assert.equal(rig.device.released.length, 2);
});

test("gives each request its rows of each output, and whole what has no batch dimension", () => {
  const rig = new EngineRig();
  rig.submit();
  const pair = rig.submit({ items: 2 });
  const single = rig.submit({ items: 1, outputs: ["label", "score"] });
  rig.device.complete();
  assert.equal(rig.device.running?.plan.bucket, 3);
  const outputs: Tensor[] = [
    { name: "score", datatype: "FP32", shape: [3, 2], data: Uint8Array.from({ length: 24 }, (_, i) => i) },
    { name: "label", datatype: "BYTES", shape: [3], data: ["a", "b", "c"].map((s) => Buffer.from(s)) },
    { name: "version", datatype: "UINT8", shape: [7], data: new Uint8Array(7) },
  ];
  rig.device.complete(outputs);
  const forPair = answered(rig.outcomes.get(pair)).outputs;
  assert.deepEqual(
    forPair.map(({ name, shape }) => [name, shape]),
    [
      ["score", [2, 2]],
      ["label", [2]],
      ["version", [7]],
    ],
  );
  assert.deepEqual([...(forPair[0]!.data as Uint8Array)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  assert.equal((forPair[0]!.data as Uint8Array).buffer, (outputs[0]!.data as Uint8Array).buffer, "a view, not a copy");
  const forSingle = answered(rig.outcomes.get(single)).outputs;
  assert.deepEqual(
    forSingle.map(({ name, shape }) => [name, shape]),
    [
      ["label", [1]],
      ["score", [1, 2]],
    ],
  );
  assert.deepEqual([...(forSingle[1]!.data as Uint8Array)], [16, 17, 18, 19, 20, 21, 22, 23]);
  assert.equal(Buffer.from((forSingle[0]!.data as Uint8Array[])[0]!).toString(), "c");
});

test("cuts padding off the last request's rows", () => {
  const rig = new EngineRig();
  rig.engine.loaded("gpu0", "m", { "": [{ bucket: 4, us: 1000 }] });
  const id = rig.submit({ items: 3 });
  rig.device.complete([{ name: "y", datatype: "UINT8", shape: [4], data: Uint8Array.of(1, 2, 3, 99) }]);
  const output = answered(rig.outcomes.get(id)).outputs[0]!;
  assert.deepEqual([output.shape, [...(output.data as Uint8Array)]], [[3], [1, 2, 3]]);
});

test("a wanted output that the lane does not return fails that request alone", () => {
  const rig = new EngineRig();
  rig.submit();
  const good = rig.submit();
  const bad = rig.submit({ outputs: ["x"] });
  rig.device.complete();
  rig.device.complete([{ name: "y", datatype: "UINT8", shape: [2], data: Uint8Array.of(1, 2) }]);
  assert.equal(rig.outcomes.get(good)?.type, "answered");
  assert.deepEqual(rig.outcomes.get(bad), { type: "failed", message: "the model returned no output 'x'" });
});

test("a failed execution fails its requests with the runtime's message and frees the lane", () => {
  const rig = new EngineRig();
  const first = rig.submit();
  const second = rig.submit();
  rig.device.fail("bad node");
  assert.deepEqual(rig.outcomes.get(first), { type: "failed", message: "bad node" });
  rig.device.complete();
  assert.equal(rig.outcomes.get(second)?.type, "answered");
});

test("a request cancelled in the queue is never executed and never answered", () => {
  const rig = new EngineRig();
  rig.submit();
  const cancelled = rig.submit();
  rig.engine.cancel(cancelled);
  rig.engine.cancel(cancelled);
  rig.device.complete();
  assert.equal(rig.device.running, null);
  assert.equal(rig.outcomes.has(cancelled), false);
  assert.equal(rig.engine.snapshot().accepted, 0);
});

test("a request cancelled while it executes is not answered, and its neighbours get their own rows", () => {
  const rig = new EngineRig();
  rig.submit();
  const [a, b] = [rig.submit(), rig.submit()];
  rig.device.complete();
  rig.engine.cancel(a);
  rig.device.complete([{ name: "y", datatype: "UINT8", shape: [2], data: Uint8Array.of(1, 2) }]);
  assert.equal(rig.outcomes.has(a), false);
  assert.deepEqual([...(answered(rig.outcomes.get(b)).outputs[0]!.data as Uint8Array)], [2]);
});

test("what a lane executed when it died is lost, what was queued runs when the lane is back", () => {
  const rig = new EngineRig();
  const executing = rig.submit();
  const queued = rig.submit();
  rig.device.die("SIGSEGV");
  assert.deepEqual(rig.outcomes.get(executing), { type: "lost", reason: "SIGSEGV" });
  const revived = new PuppetDevice("gpu0");
  rig.engine.addLane(revived);
  rig.engine.loaded("gpu0", "m", { "": [{ bucket: 4, us: 1000 }] });
  assert.deepEqual(revived.running?.plan.ids, [queued]);
  revived.complete();
  assert.equal(rig.outcomes.get(queued)?.type, "answered");
});

test("ends told by a lane that was replaced are ignored", () => {
  const rig = new EngineRig();
  rig.submit();
  const stale = rig.device.running!;
  rig.device.die("killed");
  rig.device.running = stale;
  rig.device.complete();
  assert.equal(rig.outcomes.size, 1);
});

test("a lane removed in order still answers what it executes", async () => {
  const rig = new EngineRig();
  const id = rig.submit();
  let idle = false;
  const removed = rig.engine.removeLane("gpu0").then(() => {
    idle = true;
  });
  await Promise.resolve();
  assert.equal(idle, false);
  rig.device.complete();
  await removed;
  assert.equal(rig.outcomes.get(id)?.type, "answered");
  await rig.engine.removeLane("gpu0");
});

test("a model that is removed sheds its queue and takes no more requests", () => {
  const rig = new EngineRig();
  rig.submit();
  const queued = rig.submit();
  rig.engine.removeModel("m");
  const late = rig.submit();
  for (const id of [queued, late]) {
    assert.deepEqual(rig.outcomes.get(id), { type: "shed", cause: "unloaded", detail: {} });
  }
});

test("drain resolves when the last accepted request has ended", async () => {
  const rig = new EngineRig();
  await rig.engine.drain();
  rig.submit();
  const queued = rig.submit();
  let drained = false;
  const drain = rig.engine.drain().then(() => {
    drained = true;
  });
  rig.device.complete();
  await Promise.resolve();
  assert.equal(drained, false);
  rig.engine.cancel(queued);
  rig.device.complete();
  await drain;
});

test("what replies do is processed after the step they are part of", () => {
  const steps: string[] = [];
  let depth = 0;
  const rig = new EngineRig({ recorder: (event) => steps.push(event.type) });
  steps.length = 0;
  const again = (outcome: Outcome): void => {
    depth++;
    assert.equal(depth, 1, "no reply inside a reply");
    if (outcome.type === "answered" && steps.length < 6) rig.engine.submit(request(), again);
    depth--;
  };
  rig.engine.submit(request(), again);
  rig.device.complete();
  rig.device.complete();
  rig.device.complete();
  assert.deepEqual(steps, ["arrive", "end", "arrive", "end", "arrive", "end"]);
});

test("a reply that cancels its neighbour in the same batch is the last that is answered", () => {
  const rig = new EngineRig();
  rig.submit();
  const neighbour = 3;
  const first = rig.engine.submit(request(), () => rig.engine.cancel(neighbour));
  assert.equal(rig.submit(), neighbour);
  rig.device.complete();
  assert.deepEqual(rig.device.running?.plan.ids, [first, neighbour]);
  rig.device.complete();
  assert.equal(rig.outcomes.has(neighbour), false);
  assert.equal(rig.engine.snapshot().accepted, 0);
});

test("one timer: the last wake-at of a step counts, and null disarms it", () => {
  const script: SchedulerEffect[][] = [];
  const events: SchedulerEvent["type"][] = [];
  const scheduler: Scheduler = {
    step: (event) => {
      events.push(event.type);
      return script.shift() ?? [];
    },
  };
  const rig = new EngineRig({ scheduler });
  events.length = 0;
  script.push([
    { type: "wake-at", atUs: 50 },
    { type: "wake-at", atUs: 30 },
  ]);
  rig.submit();
  assert.equal(rig.clock.dueUs, 30);
  script.push([{ type: "wake-at", atUs: 60 }]);
  rig.clock.moveTo(40);
  assert.equal(rig.clock.dueUs, 60);
  script.push([{ type: "wake-at", atUs: null }]);
  rig.submit();
  rig.clock.moveTo(100);
  assert.deepEqual(events, ["arrive", "wake", "arrive"]);
});

test("a scheduler that breaks the contract stops the engine with a sentence", () => {
  const plan = {
    execution: 1,
    lane: "gpu0",
    model: "m",
    shape: "",
    ids: [99],
    items: 1,
    bucket: 1,
    steps: [{ predictedUs: 1 }],
    reason: "deadline",
  } as const;
  const scheduler: Scheduler = {
    step: (event) => (event.type === "arrive" ? [{ type: "start", plan }] : []),
  };
  const rig = new EngineRig({ scheduler });
  assert.throws(() => rig.submit(), /put request 99 into a batch, but it is not queued/);
});

test("stages reach the lane with payloads, and are skipped where a member has gone", () => {
  const plan = (ids: number[]) =>
    ({
      execution: 1,
      lane: "gpu0",
      model: "m",
      shape: "",
      ids,
      items: ids.length,
      bucket: ids.length,
      steps: [{ predictedUs: 1 }],
      reason: "deadline",
    }) as const;
  const script: SchedulerEffect[][] = [];
  const rig = new EngineRig({ scheduler: { step: () => script.shift() ?? [] } });
  script.push([{ type: "stage", plan: plan([1]) }]);
  rig.submit();
  assert.equal(rig.device.staged?.requests[0]?.id, 1);
  script.push([{ type: "stage", plan: plan([1, 99]) }]);
  rig.submit();
  assert.deepEqual(rig.device.staged?.plan.ids, [1]);
});

test("snapshot counts what is queued by model, and what executes by lane", () => {
  const rig = new EngineRig();
  rig.engine.addModel(modelSpec("n"));
  const held: Tensor = { name: "x", datatype: "FP32", shape: [2, 3], data: new Uint8Array(24) };
  const outside: InputTensor = { ...held, name: "y", data: { byteLength: 24, copyTo: () => {} } };
  rig.submit();
  rig.submit({ items: 2, inputs: [held, outside] });
  rig.submit({ deadlineUs: null });
  const snapshot = rig.engine.snapshot();
  assert.equal(snapshot.accepted, 3);
  assert.deepEqual(snapshot.models, [
    { model: "m", queuedRequests: 2, queuedItems: 3, queuedBytes: 24, queuedBestEffortItems: 1 },
    { model: "n", queuedRequests: 0, queuedItems: 0, queuedBytes: 0, queuedBestEffortItems: 0 },
  ]);
  assert.deepEqual(snapshot.lanes[0]?.executing?.ids, [1]);
});

test("demoted requests count as best-effort work and are answered late", () => {
  const demoted: number[] = [];
  const rig = new EngineRig({ observers: [{ demoted: ({ id }) => demoted.push(id) }] });
  rig.submit({ deadlineUs: null });
  const id = rig.submit({ deadlineUs: 2_500, explicit: false });
  rig.submit({ deadlineUs: 90_000, items: 4 });
  rig.clock.moveTo(2_000);
  rig.device.complete();
  assert.deepEqual(demoted, [id]);
  assert.equal(rig.engine.snapshot().models[0]?.queuedBestEffortItems, 1);
  rig.device.complete();
  rig.clock.moveTo(5_000);
  rig.device.complete();
  assert.equal(answered(rig.outcomes.get(id)).timings.lateUs, 2_500);
});

test("explanations that the scheduler has at the start reach the timings", () => {
  const waited = { blockedUs: 5, ownBatchesUs: 0, mispredictedUs: 0, heldUs: 0 };
  const rig = new EngineRig({
    scheduler: {
      step: (event) =>
        event.type === "arrive"
          ? [
              {
                type: "start",
                plan: {
                  execution: 7,
                  lane: "gpu0",
                  model: "m",
                  shape: "",
                  ids: [event.request.id],
                  items: 1,
                  bucket: 1,
                  steps: [],
                  reason: "deadline",
                },
              },
            ]
          : [],
      explain: (execution) => new Map(execution === 7 ? [[1, waited]] : []),
    },
  });
  const id = rig.submit();
  rig.device.complete();
  assert.deepEqual(answered(rig.outcomes.get(id)).timings.waited, waited);
});
