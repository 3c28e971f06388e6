import assert from "node:assert/strict";
import { test } from "node:test";
import { linear, World, type WorldRequest } from "./world.ts";

function world(bestEffortShareMin = 0): World {
  const made = new World({ bestEffortShareMin });
  made.lane("gpu");
  made.model({ model: "tight", sloUs: 30_000 }, linear(1000, 4000, 8));
  made.model({ model: "batch" }, linear(1000, 4000, 16));
  made.model({ model: "slow" }, linear(0, 60_000, 1));
  return made;
}

const bestEffort = { inUs: null } as const;

test("best-effort work runs in full batches where nothing else is to do", () => {
  const at = world();
  at.arrive("batch", bestEffort);
  for (let i = 0; i < 20; i++) at.arrive("batch", bestEffort);
  at.runFor(100_000);
  assert.deepEqual(
    at.started.map(({ items, reason }) => [items, reason]),
    [
      [1, "fill"],
      [16, "fill"],
      [4, "fill"],
    ],
  );
});

test("best-effort work runs in the order of its arrival", () => {
  const at = world();
  const requests = Array.from({ length: 40 }, () => at.arrive("batch", bestEffort));
  at.runFor(200_000);
  const order = at.started.flatMap(({ ids }) => ids);
  assert.deepEqual(
    order,
    requests.map(({ id }) => id),
  );
});

test("fill goes before work that has slack, and behind work that has none", () => {
  const roomy = world();
  roomy.arrive("slow", { inUs: 1_000_000 });
  roomy.arrive("batch", bestEffort);
  roomy.arrive("tight", { inUs: 500_000 });
  roomy.runFor(200_000);
  assert.deepEqual(
    roomy.started.map(({ model }) => model),
    ["slow", "batch", "tight"],
  );
  const tight = world();
  tight.arrive("slow", { inUs: 1_000_000 });
  tight.arrive("batch", bestEffort);
  tight.arrive("tight", { inUs: 68_000 });
  tight.runFor(200_000);
  assert.deepEqual(
    tight.started.map(({ model }) => model),
    ["slow", "tight", "batch"],
  );
});

test("fill is cut to what the slack holds", () => {
  const at = world();
  at.arrive("slow", { inUs: 1_000_000 });
  for (let i = 0; i < 16; i++) at.arrive("batch", bestEffort);
  at.arrive("tight", { inUs: 82_000 });
  at.runFor(60_000);
  const fill = at.started[1]!;
  assert.equal(fill.reason, "fill");
  assert.ok(fill.items < 16, `${fill.items}`);
  at.runFor(100_000);
  assert.equal([...at.requests.values()].filter(({ state }) => state === "shed").length, 0);
});

test("after late answers fill leaves more room", () => {
  const first = (late: number): string => {
    const at = new World({
      durationUs: ({ model, steps }) => (model.startsWith("stray") ? 50_000 : steps[0]!.predictedUs),
    });
    at.lane("gpu");
    at.model({ model: "tight", sloUs: 30_000 }, linear(1000, 4000, 8));
    at.model({ model: "batch" }, linear(1000, 4000, 16));
    at.model({ model: "slow" }, linear(0, 60_000, 1));
    for (let i = 0; i < late; i++) {
      // Another each time: of one that has strayed the scheduler knows it.
      at.model({ model: `stray${i}` }, linear(0, 20_000, 1));
      const { id } = at.arrive(`stray${i}`, { inUs: 30_000 });
      at.runFor(1_000_000);
      assert.equal(at.requests.get(id)!.state, "answered");
    }
    at.runFor(20_000_000);
    const before = at.started.length;
    at.arrive("slow", { inUs: 1_000_000 });
    for (let i = 0; i < 16; i++) at.arrive("batch", bestEffort);
    at.arrive("tight", { inUs: 96_000 });
    at.runFor(200_000);
    const next = at.started[before + 1]!;
    return `${next.model} ${next.items}`;
  };
  assert.equal(first(0), "batch 16");
  assert.equal(first(1), "batch 16");
  assert.equal(first(12), "batch 12");
});

test("best-effort work expires when nobody waits for it any more", () => {
  const at = world();
  at.arrive("slow", { inUs: 1_000_000 });
  const request = at.arrive("batch", { ...bestEffort, expiresUs: 20_000 });
  at.runFor(100_000);
  assert.deepEqual([request.state, request.cause, request.endUs], ["shed", "expired", 20_000]);
});

/** Twice what the lane can do of `tight`, for a while, with best-effort work waiting all along. */
function overload(at: World, us: number): void {
  const waiting: WorldRequest[] = [];
  for (let t = 0; t < us; t += 500) {
    while (waiting.length < 32 || waiting[waiting.length - 32]!.state !== "queued")
      waiting.push(at.arrive("batch", bestEffort));
    at.arrive("tight", { inUs: 30_000 });
    at.runFor(500);
  }
}

function shareOf(at: World, reasons: readonly string[]): number {
  let us = 0;
  for (const plan of at.started) if (reasons.includes(plan.reason)) us += plan.steps[0]!.predictedUs;
  return us / at.nowUs;
}

test("in overload best-effort work waits for ever without a share", () => {
  const at = world(0);
  overload(at, 3_000_000);
  assert.ok(shareOf(at, ["fill", "share"]) < 0.02);
});

test("in overload best-effort work gets the share that it is promised, and not much more", () => {
  const at = world(0.2);
  overload(at, 3_000_000);
  const share = shareOf(at, ["fill", "share"]);
  assert.ok(share > 0.18 && share < 0.25, `${share}`);
});

test("a small share is enough for a batch that takes long, in the end", () => {
  const at = world(0.02);
  const request = at.arrive("slow", bestEffort);
  at.runFor(60_000);
  const next = at.arrive("slow", bestEffort);
  for (let t = 0; t < 6_000_000; t += 500) {
    at.arrive("tight", { inUs: 30_000 });
    at.runFor(500);
  }
  assert.equal(request.state, "answered");
  assert.equal(next.state, "answered");
});

test("deadlines that nobody could meet keep no room free for others like them", () => {
  const at = world();
  for (let i = 0; i < 300; i++) {
    assert.equal(at.arrive("tight", { inUs: 4_500 }).cause, "late");
    at.runFor(5_000);
  }
  const requests = Array.from({ length: 64 }, () => at.arrive("batch", bestEffort));
  at.runFor(150_000);
  assert.deepEqual(new Set(requests.map(({ state }) => state)), new Set(["answered"]));
  assert.equal(at.started.length, 5);
});

test("after a burst of deadlines too short to fill beside them, fill is held back no longer than others of them are likely", () => {
  const at = world();
  at.arrive("batch", bestEffort);
  at.runFor(100_000);
  for (let i = 0; i < 200; i++) {
    at.arrive("tight", { inUs: 6_000 });
    at.runFor(5_000);
  }
  const lastUs = at.nowUs;
  const requests = Array.from({ length: 64 }, () => at.arrive("batch", bestEffort));
  at.runFor(10_000);
  assert.ok(
    requests.every(({ state }) => state === "queued"),
    "another one is likely",
  );
  at.runFor(1_990_000);
  const endUs = Math.max(...requests.map(({ endUs }) => endUs));
  assert.ok(requests.every(({ state }) => state === "answered"));
  assert.ok(endUs - lastUs < 1_200_000, `${endUs - lastUs}`);
});

test("fill leaves room for callers in a hurry, whatever time others of their model have", () => {
  const at = new World({ bestEffortShareMin: 0 });
  at.lane("gpu");
  at.model({ model: "m", sloUs: 40_000 }, linear(500, 2000, 16));
  at.model({ model: "backlog" }, linear(2000, 15_000, 32));
  const hurried: WorldRequest[] = [];
  at.arrive("m", { inUs: 86_400_000_000 });
  for (let i = 0; i < 1200; i++) {
    at.runFor(16_700);
    while (at.openCount() < 64) at.arrive("backlog", bestEffort);
    if (i % 5 === 0) at.arrive("m", { inUs: 10_000_000 });
    else hurried.push(at.arrive("m", { inUs: 40_000 }));
  }
  at.runFor(100_000);
  const met = hurried.filter(({ state, endUs, deadlineUs }) => state === "answered" && endUs <= deadlineUs!);
  assert.ok(met.length > 0.98 * hurried.length, `${met.length} of ${hurried.length}`);
  assert.ok(at.started.filter(({ model }) => model === "backlog").length > 200, "and the device is not left idle");
});

test("backlogs that fit in no gap keep those behind them from no gap that they fit in", () => {
  const at = new World({ bestEffortShareMin: 0, checkOrder: false });
  at.lane("gpu");
  at.model({ model: "m", sloUs: 40_000 }, linear(1000, 2000, 8));
  for (let i = 0; i < 6; i++) at.model({ model: `heavy${i}` }, linear(5000, 60_000, 4));
  at.model({ model: "light" }, linear(500, 2000, 8));
  for (let i = 0; i < 20; i++) {
    at.runFor(33_000);
    at.arrive("m", { inUs: 40_000 });
  }
  for (let i = 0; i < 6; i++) at.arrive(`heavy${i}`, bestEffort);
  const light = Array.from({ length: 20 }, () => at.arrive("light", bestEffort));
  for (let i = 0; i < 30; i++) {
    at.runFor(33_000);
    at.arrive("m", { inUs: 40_000 });
  }
  for (const { state } of light) assert.equal(state, "answered");
});

test("a batch is cut for the sake of shorter deadlines, but not while best-effort work waits for the time that this takes", () => {
  const sizes = (waiting: boolean): number[] => {
    const at = new World();
    at.lane("gpu");
    at.model({ model: "tight", sloUs: 20_000 }, linear(100, 900, 8));
    at.model({ model: "heavy", sloUs: 100_000 }, linear(1000, 1000, 16));
    at.model({ model: "slow" }, linear(0, 200_000, 1));
    for (let i = 0; i < 10; i++) {
      at.arrive("tight", { inUs: 20_000 });
      at.runFor(30_000);
    }
    at.arrive("tight", { inUs: 20_000 });
    for (let i = 0; i < 16; i++) at.arrive("heavy", { inUs: 100_000 });
    if (waiting) at.arrive("slow", bestEffort);
    at.runFor(300_000);
    return at.started.filter(({ model }) => model === "heavy").map(({ items }) => items);
  };
  assert.ok(sizes(false)[0]! < 16);
  assert.deepEqual(sizes(true), [16]);
});
