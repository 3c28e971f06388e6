import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelSpec } from "../../daemon/scheduler/types.ts";
import { linear, World, type WorldOptions, type WorldRequest } from "./world.ts";

interface Offer {
  readonly model: string;
  readonly everyUs: number;
  readonly inUs: number;
  readonly tenant?: string;
  readonly shape?: string;
}

/** Runs offered loads side by side for a time; returns the requests of each. */
function run(world: World, us: number, offers: readonly Offer[]): WorldRequest[][] {
  const due = offers.map(({ everyUs }) => everyUs);
  const made: WorldRequest[][] = offers.map(() => []);
  while (world.nowUs < us) {
    const at = Math.min(...due);
    world.runUntil(at);
    offers.forEach(({ model, everyUs, inUs, tenant = "", shape = "" }, i) => {
      if (due[i]! > at) return;
      due[i] = at + everyUs;
      made[i]!.push(world.arrive(model, { inUs, tenant, shape }));
    });
  }
  return made;
}

function onTime(requests: readonly WorldRequest[]): number {
  const ended = requests.filter(({ state }) => state === "answered" || state === "shed");
  return (
    ended.filter(({ endUs, deadlineUs, state }) => state === "answered" && endUs <= deadlineUs!).length / ended.length
  );
}

/** A light model that alone fills the device one and a half times, and a heavy one. */
function contended(options: WorldOptions = {}, heavy: Partial<ModelSpec> = {}): World {
  const world = new World({ checkOrder: options.tenantMinShares === undefined, ...options });
  world.lane("gpu");
  world.model({ model: "light" }, linear(1000, 2000, 8));
  world.model({ model: "heavy", ...heavy }, linear(5000, 20_000, 4));
  return world;
}

const LIGHT = { model: "light", everyUs: 900, inUs: 40_000 };
const HEAVY = { model: "heavy", everyUs: 40_000, inUs: 200_000 };

function deviceShare(world: World, model: string, lane: string = "gpu"): number {
  let us = 0;
  for (const plan of world.started) if (plan.model === model && plan.lane === lane) us += plan.steps[0]!.predictedUs;
  return us / world.nowUs;
}

test("without a promise the model that costs most for each request goes short in overload", () => {
  const world = contended();
  run(world, 5_000_000, [LIGHT, HEAVY]);
  assert.ok(deviceShare(world, "heavy") < 0.15, `${deviceShare(world, "heavy")}`);
});

test("a model gets the share that it is promised, even in overload", () => {
  const world = contended({}, { minShare: 0.3 });
  run(world, 5_000_000, [LIGHT, HEAVY]);
  const share = deviceShare(world, "heavy");
  assert.ok(share > 0.27 && share < 0.4, `${share}`);
});

test("a promise to a model without work costs the others nothing", () => {
  const world = contended({}, { minShare: 0.5 });
  run(world, 2_000_000, [LIGHT]);
  assert.ok(deviceShare(world, "light") > 0.95);
});

test("weight draws loss to the models that have less of it", () => {
  const plain = contended();
  const weighed = contended({}, { weight: 50 });
  const [, before] = run(plain, 5_000_000, [LIGHT, HEAVY]);
  const [, after] = run(weighed, 5_000_000, [LIGHT, HEAVY]);
  assert.ok(onTime(after!) > onTime(before!) + 0.2, `${onTime(before!)} → ${onTime(after!)}`);
});

test("fairness brings the models' shares of requests on time together", () => {
  const gap = (fairness: boolean): number => {
    const world = contended({ fairness });
    world.model({ model: "medium" }, linear(2000, 8000, 8));
    const [light, medium] = run(world, 10_000_000, [LIGHT, { model: "medium", everyUs: 6000, inUs: 80_000 }]);
    return Math.abs(onTime(light!) - onTime(medium!));
  };
  assert.ok(gap(true) < gap(false) - 0.1, `${gap(false)} → ${gap(true)}`);
});

test("a tenant with a promised share is served while another floods the same model", () => {
  const flood = { ...LIGHT, everyUs: 400, tenant: "flood" };
  const small = { ...LIGHT, everyUs: 31_700, tenant: "small" };
  const before = run(contended(), 3_000_000, [flood, small])[1]!;
  const after = run(contended({ tenantMinShares: { small: 0.3 } }), 3_000_000, [flood, small])[1]!;
  assert.ok(onTime(before) < 0.8, `${onTime(before)}`);
  assert.ok(onTime(after) > 0.95, `${onTime(after)}`);
});

test("a model keeps its promised share when its requests are of many shapes", () => {
  const world = new World({ checkOrder: false });
  world.lane("gpu");
  world.model({ model: "light" }, linear(1000, 2000, 8));
  world.model({ model: "heavy", minShare: 0.3 }, { "*": linear(1000, 4000, 4)[""]! });
  const shapes = Array.from({ length: 16 }, (_, i) => {
    return { model: "heavy", everyUs: 60_000 + 100 * i, inUs: 100_000, shape: `x:${i}` };
  });
  run(world, 5_000_000, [LIGHT, ...shapes]);
  const share = deviceShare(world, "heavy");
  assert.ok(share > 0.27, `${share}`);
});

test("what replicas do is not taken off promised shares of the device", () => {
  const world = contended({ bestEffortShareMin: 0.05, checkOrder: false }, { minShare: 0.3 });
  world.model({ model: "backlog" }, linear(1000, 4000, 8));
  world.lane("cpu", "replica");
  world.load("cpu", "heavy", linear(10_000, 40_000, 4));
  world.lane("cpu2", "replica");
  world.model({ model: "elsewhere" }, linear(1000, 20_000, 8), ["cpu2"]);
  for (let i = 0; i < 2000; i++) {
    world.arrive("backlog", { inUs: null });
    world.arrive("elsewhere", { inUs: null });
  }
  run(world, 5_000_000, [LIGHT, { ...HEAVY, everyUs: 10_000 }]);
  const [heavy, backlog] = [deviceShare(world, "heavy"), deviceShare(world, "backlog")];
  assert.ok(heavy > 0.27, `${heavy}`);
  assert.ok(backlog > 0.045, `${backlog}`);
  assert.ok(deviceShare(world, "elsewhere", "cpu2") > 0.9);
});

test("a tenant's weight draws loss to other tenants' models, as a model's own does", () => {
  const goldOnTime = (weight: number): number => {
    const world = new World({ checkOrder: false, tenantWeights: { gold: weight } });
    world.lane("gpu");
    world.model({ model: "light" }, linear(1000, 2000, 8));
    world.model({ model: "heavy" }, linear(3000, 6000, 8));
    const gold = { model: "heavy", everyUs: 7000, inUs: 40_000, tenant: "gold" };
    return onTime(run(world, 5_000_000, [LIGHT, gold])[1]!);
  };
  assert.ok(goldOnTime(1) < 0.1, `${goldOnTime(1)}`);
  assert.ok(goldOnTime(10) > 0.9, `${goldOnTime(10)}`);
});

test("replicas that share a model's load evenly are not taken for overloaded", () => {
  const world = new World({ checkOrder: false });
  for (let i = 0; i < 4; i++) world.lane(`cpu${i}`, "replica");
  world.model({ model: "m" }, linear(10_000, 2000, 8));
  // More than twice what one of them could do, by deadlines of all sorts.
  const offers = [28_000, 33_000, 40_000, 47_000, 52_000].map((inUs, i) => {
    return { model: "m", everyUs: 13_000 + 970 * i, inUs };
  });
  const requests = run(world, 20_000_000, offers).flat();
  const sacrificed = requests.filter(({ cause }) => cause === "sacrificed").length;
  assert.ok(sacrificed < 0.001 * requests.length, `${sacrificed} of ${requests.length}`);
});
