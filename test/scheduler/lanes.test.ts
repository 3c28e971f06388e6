import assert from "node:assert/strict";
import { test } from "node:test";
import { linear, World } from "./world.ts";

const quick = linear(1000, 4000, 8);
const slow = linear(10_000, 20_000, 4);

test("two lanes that have a model share its work", () => {
  const world = new World();
  world.lane("a");
  world.lane("b");
  world.model({ model: "m" }, linear(0, 10_000, 1));
  const requests = Array.from({ length: 10 }, () => world.arrive("m", { inUs: 50_000 }));
  world.runFor(60_000);
  for (const { state } of requests) assert.equal(state, "answered");
  assert.deepEqual(new Set(world.started.map(({ lane }) => lane)), new Set(["a", "b"]));
});

test("a lane runs only what is loaded on it", () => {
  const world = new World();
  world.lane("a");
  world.lane("b");
  world.model({ model: "one" }, quick, ["a"]);
  world.model({ model: "two" }, quick, ["b"]);
  for (let i = 0; i < 5; i++) {
    world.arrive("one");
    world.arrive("two");
  }
  world.runFor(100_000);
  for (const { lane, model } of world.started) assert.equal(lane, model === "one" ? "a" : "b");
});

test("when a lane is lost its queue runs on the others, or waits for it to come back", () => {
  const world = new World();
  world.lane("a");
  world.model({ model: "m" }, quick);
  const lost = world.arrive("m", { inUs: 100_000 });
  const queued = world.arrive("m", { inUs: 100_000 });
  world.laneDown("a");
  assert.equal(lost.state, "lost");
  world.runFor(10_000);
  assert.equal(queued.state, "queued");
  world.lane("a");
  world.load("a", "m", quick);
  world.runFor(10_000);
  assert.equal(queued.state, "answered");
});

test("an end that comes from a lane's earlier life is ignored", () => {
  const world = new World();
  world.lane("a");
  world.model({ model: "m" }, quick);
  const { plan } = world.arrive("m");
  world.laneDown("a");
  world.lane("a");
  world.load("a", "m", quick);
  world.arrive("m");
  world.step({ type: "end", lane: "a", execution: plan!.execution, us: 1, ok: true });
  const queued = world.arrive("m");
  assert.equal(queued.state, "queued", "the lane still executes");
});

test("an unloaded model waits; what executes goes on", () => {
  const world = new World();
  world.lane("a");
  world.model({ model: "m" }, quick);
  const executing = world.arrive("m");
  const queued = world.arrive("m");
  world.unload("a", "m");
  world.runFor(20_000);
  assert.deepEqual([executing.state, queued.state], ["answered", "queued"]);
});

test("a model that only replicas have runs there", () => {
  const world = new World();
  world.lane("gpu");
  world.lane("cpu", "replica");
  world.model({ model: "light" }, slow, ["cpu"]);
  const request = world.arrive("light");
  assert.equal(request.plan?.lane, "cpu");
});

test("a replica leaves to the device what the device serves in time", () => {
  const world = new World();
  world.lane("gpu");
  world.lane("cpu", "replica");
  world.model({ model: "m" }, quick, ["gpu"]);
  world.load("cpu", "m", slow);
  for (let i = 0; i < 12; i++) world.arrive("m", { inUs: 60_000 });
  world.runFor(100_000);
  assert.deepEqual(new Set(world.started.map(({ lane }) => lane)), new Set(["gpu"]));
});

test("a replica takes over what the device cannot serve in time", () => {
  const world = new World();
  world.lane("gpu");
  world.lane("cpu", "replica");
  world.model({ model: "m" }, quick, ["gpu"]);
  world.model({ model: "long" }, linear(0, 80_000, 1), ["gpu"]);
  world.load("cpu", "m", slow);
  world.arrive("long", { inUs: 200_000 });
  const spilled = world.arrive("m", { inUs: 60_000 });
  const patient = world.arrive("m", { inUs: 150_000 });
  world.runFor(200_000);
  assert.equal(spilled.plan?.lane, "cpu");
  assert.ok(spilled.endUs <= 60_000);
  assert.equal(patient.plan?.lane, "gpu");
});

test("replicas run best-effort work while the device is busy", () => {
  const world = new World();
  world.lane("gpu");
  world.lane("cpu", "replica");
  world.model({ model: "m" }, quick, ["gpu"]);
  world.load("cpu", "m", slow);
  world.arrive("m");
  assert.equal(world.arrive("m", { inUs: null }).plan?.lane, "cpu");
});
