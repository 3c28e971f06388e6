/** The next batch is started behind the one that executes, so that a device does not wait for it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { linear, World } from "./world.ts";

const profile = linear(1000, 9000, 8);

/** Runs a model by single requests until what can be learnt of it is; returns the time then. */
function runOften(world: World): number {
  world.lane("gpu");
  world.model({ model: "m" }, profile);
  for (let i = 0; i < 200; i++) {
    world.arrive("m");
    world.runFor(20_000);
  }
  return world.nowUs;
}

test("a device gets its next batch that long before the predicted end, once", () => {
  const world = new World({ handoverUs: 1000 });
  world.lane("gpu");
  world.model({ model: "m" }, profile);
  world.arrive("m");
  const next = world.arrive("m");
  // It was idle: it began to execute after 1 ms, and will end after 11.
  world.runUntil(9999);
  assert.equal(next.state, "queued");
  world.runUntil(10_000);
  assert.equal(next.state, "executing");
  const after = world.arrive("m");
  world.runUntil(10_900);
  assert.equal(after.state, "queued", "one follows, no more");
  world.runUntil(21_000);
  assert.deepEqual([next.startUs, next.endUs, after.startUs], [11_000, 21_000, 21_000]);
});

test("what comes while the end is near or overdue follows at once", () => {
  const world = new World({ handoverUs: 1000, durationUs: () => 13_000 });
  world.lane("gpu");
  world.model({ model: "m" }, profile);
  world.arrive("m");
  world.runUntil(13_000);
  const late = world.arrive("m");
  assert.equal(late.state, "executing");
  world.runUntil(14_000);
  assert.equal(late.startUs, 14_000);
});

test("an execution that ends early is followed when its end is told", () => {
  const world = new World({ handoverUs: 1000, durationUs: () => 7000 });
  world.lane("gpu");
  world.model({ model: "m" }, profile);
  world.arrive("m");
  const next = world.arrive("m");
  world.runUntil(8000);
  assert.deepEqual([next.state, next.startUs], ["executing", 8000]);
});

test("a lane that is idle goes before one that is about to end", () => {
  const world = new World({ handoverUs: 1000 });
  world.lane("a");
  world.lane("b");
  world.model({ model: "m" }, profile);
  world.arrive("m");
  world.runUntil(10_500);
  assert.equal(world.arrive("m").plan?.lane, "b");
});

test("what a batch behind another will need is taken into account when requests are refused", () => {
  const world = new World({ handoverUs: 1000 });
  world.lane("gpu");
  world.model({ model: "m", shedImplicit: true }, linear(0, 10_000, 1));
  world.arrive("m");
  world.arrive("m");
  world.runUntil(10_500);
  // The device is taken until 21 ms; this one would end at 31.
  const refused = world.arrive("m", { inUs: 15_000 });
  const taken = world.arrive("m", { inUs: 21_000 });
  assert.deepEqual([refused.state, refused.cause], ["shed", "late"]);
  world.runUntil(35_000);
  assert.equal(taken.state, "answered");
});

test("replicas are not given a second batch", () => {
  const world = new World({ handoverUs: 5000 });
  world.lane("cpu", "replica");
  world.model({ model: "m" }, profile);
  world.arrive("m");
  const next = world.arrive("m");
  world.runUntil(9900);
  assert.equal(next.state, "queued");
});

test("the batch behind another is lost with the lane, and a new lane of the name starts empty", () => {
  const world = new World({ handoverUs: 1000 });
  world.lane("gpu");
  world.model({ model: "m" }, profile);
  world.arrive("m");
  const next = world.arrive("m");
  world.runUntil(10_500);
  world.laneDown("gpu");
  assert.equal(next.state, "lost");
  world.lane("gpu");
  world.load("gpu", "m", profile);
  assert.equal(world.arrive("m").state, "executing");
});

test("best-effort work follows too, and deadlines that come meanwhile are next", () => {
  const world = new World({ handoverUs: 1000 });
  world.lane("gpu");
  world.model({ model: "m", sloUs: 100_000 }, profile);
  world.arrive("m", { inUs: null });
  const fill = world.arrive("m", { inUs: null });
  world.runUntil(10_000);
  assert.equal(fill.plan?.reason, "fill");
  const urgent = world.arrive("m", { inUs: 40_000 });
  world.runUntil(60_000);
  assert.deepEqual([urgent.state, urgent.startUs], ["answered", 21_000]);
});

test("how long an idle device waits is learnt, and the next batch starts no earlier than that needs", () => {
  const world = new World({ handoverUs: 1000, idleUs: 200 });
  const startUs = runOften(world);
  world.arrive("m");
  const next = world.arrive("m");
  world.runUntil(startUs + 9900);
  assert.equal(next.state, "queued");
  // About 10.2 ms less 0.2.
  world.runUntil(startUs + 10_050);
  assert.equal(next.state, "executing");
  world.runUntil(startUs + 30_000);
  assert.equal(next.startUs, startUs + 10_200);
});

test("where executions are often shorter than predicted, the next batch starts as much earlier", () => {
  let short = false;
  const world = new World({
    handoverUs: 1000,
    durationUs: (plan) => {
      short = !short;
      return plan.steps[0]!.predictedUs * (short ? 0.8 : 1.2);
    },
  });
  const startUs = runOften(world);
  const predictedUs = world.arrive("m").plan!.steps[0]!.predictedUs;
  const next = world.arrive("m");
  world.runUntil(startUs + Math.round(0.7 * predictedUs));
  assert.equal(next.state, "queued");
  // A fifth before the predicted end, and the hand-over before that: the device was idle.
  world.runUntil(startUs + Math.round(0.85 * predictedUs));
  assert.equal(next.state, "executing");
});

test("what follows is chosen so that its deadlines hold although the execution before it takes longer than predicted", () => {
  let ratio = 1.2;
  const world = new World({ handoverUs: 1000, durationUs: (plan) => plan.steps[0]!.predictedUs * ratio });
  world.lane("gpu");
  world.model({ model: "m" }, profile);
  for (let i = 0; i < 400; i++) {
    ratio = 2 - ratio;
    world.arrive("m");
    world.runFor(20_000);
  }
  ratio = 1.2;
  const deadlineUs = world.nowUs + 33_000;
  world.arrive("m");
  // All eight would take 21 ms with a margin, from the predicted end at 11.
  const waiting = Array.from({ length: 8 }, () => world.arrive("m", { inUs: 33_000 }));
  world.runUntil(deadlineUs);
  const first = waiting.filter(({ plan }) => plan === waiting[0]!.plan);
  assert.ok(first.length > 1);
  for (const { state, endUs } of first) assert.deepEqual([state, endUs <= deadlineUs], ["answered", true]);
});
