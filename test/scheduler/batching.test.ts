import assert from "node:assert/strict";
import { test } from "node:test";
import type { BatchPlan } from "../../daemon/scheduler/types.ts";
import { linear, staircase, World, type WorldOptions } from "./world.ts";

function oneModel(profiles = linear(1000, 5000, 16)): World {
  const world = new World();
  world.lane("gpu");
  world.model({ model: "m" }, profiles);
  return world;
}

test("a request on an idle lane starts at once", () => {
  const world = oneModel();
  const request = world.arrive("m");
  assert.equal(request.startUs, 0);
  assert.equal(request.plan?.items, 1);
  assert.equal(request.plan?.reason, "deadline");
});

test("what arrives during an execution runs in one batch behind it, in order of deadlines", () => {
  const world = oneModel();
  world.arrive("m");
  const late = world.arrive("m", { inUs: 90_000 });
  const soon = world.arrive("m", { inUs: 60_000 });
  world.runUntil(6000);
  assert.deepEqual(world.started[1]?.ids, [soon.id, late.id]);
});

test("a batch is padded to the bucket that holds it", () => {
  const world = oneModel(staircase([1, 1000], [4, 1200], [8, 1300]));
  world.arrive("m");
  for (let i = 0; i < 6; i++) world.arrive("m");
  world.runUntil(1000);
  assert.deepEqual([world.started[1]?.items, world.started[1]?.bucket], [6, 8]);
  assert.equal(world.started[1]?.steps[0]?.predictedUs, 1300);
});

test("a batch is cut to a smaller bucket where padding would cost more than it brings", () => {
  const world = oneModel(staircase([1, 1000], [4, 1200], [16, 9000]));
  world.arrive("m");
  for (let i = 0; i < 5; i++) world.arrive("m");
  world.runUntil(1000);
  assert.equal(world.started[1]?.items, 4);
});

test("a batch holds no more items than meet the earliest deadline", () => {
  const world = oneModel();
  world.arrive("m");
  for (let i = 0; i < 16; i++) world.arrive("m", { inUs: 6000 + 9500 });
  world.runUntil(6000);
  assert.equal(world.started[1]?.items, 4, "four take 9 ms");
});

test("requests of several items are never split", () => {
  const world = oneModel();
  world.arrive("m");
  const sizes = [6, 5, 4, 3].map((items) => world.arrive("m", { items }));
  world.runFor(200_000);
  for (const request of sizes) {
    assert.equal(request.state, "answered");
    assert.ok(world.started.filter(({ ids }) => ids.includes(request.id)).length === 1);
  }
  assert.deepEqual(world.started[1]?.ids, [2, 3, 4], "fifteen items of sixteen; three more would not fit");
});

test("requests of different shapes do not share a batch", () => {
  const world = oneModel({ a: linear(1000, 5000, 16)[""]!, b: linear(1000, 5000, 16)[""]! });
  world.arrive("m", { shape: "a" });
  for (const shape of ["a", "b", "a", "b"]) world.arrive("m", { shape });
  world.runFor(100_000);
  assert.deepEqual(
    world.started.map(({ shape, items }) => [shape, items]),
    [
      ["a", 1],
      ["a", 2],
      ["b", 2],
    ],
  );
});

test("a shape that a device never warmed runs only in slack, and one that needs no warming runs like others", () => {
  const world = oneModel();
  const odd = world.arrive("m", { shape: "odd" });
  assert.equal(odd.demoted, true);
  assert.equal(odd.plan?.reason, "fill");
  world.model({ model: "any" }, { "*": linear(1000, 5000, 16)[""]! });
  world.runFor(50_000);
  assert.equal(world.arrive("any", { shape: "odd" }).plan?.reason, "deadline");
});

test("what was staged before the end of a batch is confirmed with later arrivals appended", () => {
  const world = new World({ gatherUs: 500 });
  world.lane("gpu");
  world.model({ model: "m" }, linear(1000, 5000, 16));
  world.arrive("m");
  const first = world.arrive("m");
  world.runUntil(5500);
  assert.deepEqual(
    world.staged.map(({ ids }) => ids),
    [[first.id]],
  );
  const second = world.arrive("m");
  world.runUntil(6000);
  assert.deepEqual(world.started[1]?.ids, [first.id, second.id]);
  assert.equal(world.started[1]?.execution, world.staged[0]?.execution);
});

test("a cancelled request leaves its queue; one that executes is only forgotten", () => {
  const world = oneModel();
  const executing = world.arrive("m");
  const queued = world.arrive("m");
  const other = world.arrive("m");
  world.cancel(queued);
  world.cancel(executing);
  world.runFor(50_000);
  assert.deepEqual(
    world.started.map(({ ids }) => ids),
    [[executing.id], [other.id]],
  );
});

/** A lane that a batch of `first` keeps for 5 ms, and behind it a heavy request and a more urgent light one, of a model with so many ms between requests. */
function heavyAndLight(
  lightGapMs: number,
  { lightInUs = 80_000, ...options }: WorldOptions & { lightInUs?: number } = {},
) {
  const world = new World(options);
  world.lane("gpu");
  world.model({ model: "first" }, linear(1000, 4000, 8));
  world.model({ model: "heavy", sloUs: 400_000 }, linear(0, 30_000, 1));
  world.model({ model: "light" }, linear(1000, 1000, 8));
  for (let round = 0; round < 30; round++) {
    world.arrive("light");
    if (round % 5 === 0) world.arrive("heavy");
    world.runFor(1000 * Math.max(40, lightGapMs));
    for (let atMs = 0; lightGapMs < 40 && atMs < 40; atMs += lightGapMs) {
      world.arrive("light");
      world.runFor(1000 * lightGapMs);
    }
  }
  world.runFor(100_000);
  const before = world.started.length;
  world.arrive("first", { inUs: 80_000 });
  world.arrive("heavy", { inUs: 100_000 });
  const light = world.arrive("light", { inUs: lightInUs });
  world.runFor(100_000);
  return { order: world.started.slice(before).map(({ model }) => model), light, dueUs: light.arrivedUs + lightInUs };
}

test("a long batch runs before more urgent work that still fits behind it and gathers a fuller batch meanwhile", () => {
  const { order, light, dueUs } = heavyAndLight(10);
  assert.deepEqual(order, ["first", "heavy", "light"]);
  assert.ok(light.endUs <= dueUs);
});

test("work that gains next to nothing by waiting is not put off for longer batches", () => {
  assert.deepEqual(heavyAndLight(200).order, ["first", "light", "heavy"]);
});

test("where executions take other than predicted, a long batch goes ahead only with time to spare", () => {
  const exact = heavyAndLight(10, { lightInUs: 46_000 });
  assert.deepEqual(exact.order, ["first", "heavy", "light"]);
  let count = 0;
  const durationUs = (plan: BatchPlan) => Math.round(plan.steps[0]!.predictedUs * (count++ % 2 === 0 ? 0.8 : 1.2));
  const strayed = heavyAndLight(10, { lightInUs: 46_000, durationUs });
  assert.deepEqual(strayed.order, ["first", "light", "heavy"]);
});

test("a batch that would keep the device too long for others is cut where its items take hardly longer in shorter ones, and the device has time for that", () => {
  for (const [pairUs, busyUs, items] of [
    [75_000, 1_000, 1],
    [60_000, 1_000, 2],
    [75_000, 9_000, 2],
  ] as const) {
    const world = new World();
    world.lane("gpu");
    world.model({ model: "light" }, linear(0, busyUs, 1));
    world.model({ model: "heavy", sloUs: 400_000 }, staircase([1, 40_000], [2, pairUs]));
    for (let round = 0; round < 300; round++) {
      world.arrive("light");
      world.runFor(10_000);
    }
    for (let i = 0; i < 3; i++) world.arrive("heavy");
    world.runFor(400_000);
    const batches = world.started.filter(({ model }) => model === "heavy");
    assert.deepEqual([batches[0]!.items, batches[1]!.items], [1, items], `${pairUs} ${busyUs}`);
  }
});

test("explanations of a wait add up to it", () => {
  const world = new World({ durationUs: (plan) => plan.steps[0]!.predictedUs + 500 });
  world.lane("gpu");
  world.model({ model: "a" }, linear(1000, 5000, 16));
  world.model({ model: "b" }, linear(1000, 9000, 16));
  world.arrive("a");
  world.runFor(1000);
  world.arrive("b", { inUs: 20_000 });
  const request = world.arrive("a", { inUs: 80_000 });
  world.runUntil(16_999);
  world.runFor(1);
  assert.equal(request.startUs, 17_000);
  const waited = world.scheduler.explain!(request.plan!.execution).get(request.id)!;
  assert.deepEqual(waited, { blockedUs: 10_500, blockedBy: "b", ownBatchesUs: 5500, mispredictedUs: 1000, heldUs: 0 });
});

test("models that expect work sooner, however many, do not keep a lane from the work there is", () => {
  const world = new World();
  world.lane("gpu");
  const hasty = Array.from({ length: 150 }, (_, i) => `hasty${i}`);
  for (const model of hasty) world.model({ model, sloUs: 50_000 }, linear(100, 100, 4));
  world.model({ model: "patient", sloUs: 500_000 }, linear(1000, 5000, 16));
  for (let round = 0; round < 3; round++) {
    for (const model of hasty) world.arrive(model);
    world.runFor(200_000);
  }
  const request = world.arrive("patient");
  assert.equal(request.startUs, world.nowUs);
});

test("a batch that takes all that a decision looks at is filled up from the rest of the queue", () => {
  const world = oneModel(staircase([1, 1000], [2048, 9000]));
  world.arrive("m", { inUs: 1_000_000 });
  for (let i = 0; i < 3000; i++) world.arrive("m", { inUs: 1_000_000 });
  world.runFor(200_000);
  assert.deepEqual(
    world.started.map(({ items, bucket }) => [items, bucket]),
    [
      [1, 1],
      [2048, 2048],
      [952, 2048],
    ],
  );
});

test("what was learnt of one shape is kept when another is announced", () => {
  const world = new World({ durationUs: () => 2500 });
  world.lane("cpu");
  const told = linear(0, 1000, 4)[""]!;
  world.model({ model: "m" }, { a: told });
  const predicted = (shape: string): number => {
    const { plan } = world.arrive("m", { shape });
    world.runFor(20_000);
    return plan!.steps[0]!.predictedUs;
  };
  for (let i = 0; i < 60; i++) predicted("a");
  const learnt = predicted("a");
  assert.ok(learnt > 2000, `${learnt}`);
  world.load("cpu", "m", { a: told.map((point) => ({ ...point })), b: told });
  assert.ok(predicted("a") >= learnt);
  assert.equal(predicted("b"), 1000);
  // Measured anew, it counts.
  world.load("cpu", "m", { a: linear(0, 4000, 4)[""]!, b: told });
  assert.equal(predicted("a"), 4000);
});
