import assert from "node:assert/strict";
import { test } from "node:test";
import { boundCapacity } from "../../bench/bounds/bound-capacity.ts";
import { mostOnTime } from "../../bench/bounds/hindsight-optimum.ts";
import { type Instance, instanceOf, type ModelInstance } from "../../bench/bounds/instance.ts";
import { pricedBound } from "../../bench/bounds/priced-bound.ts";
import { COMPARISON_POLICIES } from "../../bench/policies/index.ts";
import { Random } from "../../bench/scenario/random.ts";
import { parseScenario } from "../../bench/scenario/schema.ts";
import { simulate } from "../../bench/sim/simulation.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { randomScenario } from "./random-scenario.ts";

const TINY = 400;
const SMALL = 60;

/** A model with a few requests whose batches just about fit their deadlines. */
function tinyModel(random: Random, requests: number): ModelInstance {
  const alphaUs = random.integer(0, 3);
  const betaUs = random.integer(1, 6);
  const arrivals = Array.from({ length: requests }, () => random.integer(0, 30)).sort((a, b) => a - b);
  return {
    name: "m",
    arrivalsUs: Float64Array.from(arrivals),
    budgetUs: random.integer(alphaUs + betaUs, 25),
    tableUs: Float64Array.from({ length: random.integer(2, 5) }, (_, b) => (b === 0 ? 0 : alphaUs * b + betaUs)),
  };
}

/** Tries everything: by set of requests served, the least time at which one lane can have served just those. */
function bruteForce(models: readonly ModelInstance[]): number {
  const requests = models.flatMap((model) => [...model.arrivalsUs].map((atUs) => ({ atUs, model })));
  const all = 1 << requests.length;
  const endUs = new Array<number>(all).fill(Number.POSITIVE_INFINITY);
  endUs[0] = 0;
  let most = 0;
  const members = (set: number) => requests.filter((_, i) => (set & (1 << i)) !== 0);
  for (let served = 0; served < all; served++) {
    if (endUs[served] === Number.POSITIVE_INFINITY) continue;
    most = Math.max(most, members(served).length);
    const free = all - 1 - served;
    for (let set = free; set > 0; set = (set - 1) & free) {
      const batch = members(set);
      const { model } = batch[0]!;
      if (batch.length >= model.tableUs.length || batch.some((request) => request.model !== model)) continue;
      const startUs = Math.max(endUs[served]!, ...batch.map(({ atUs }) => atUs));
      const doneUs = startUs + model.tableUs[batch.length]!;
      if (batch.some(({ atUs }) => doneUs > atUs + model.budgetUs)) continue;
      endUs[served | set] = Math.min(endUs[served | set]!, doneUs);
    }
  }
  return most;
}

test("the optimum in hindsight is what trying everything finds", () => {
  for (let seed = 1; seed <= TINY; seed++) {
    const random = new Random(seed, "tiny");
    const model = tinyModel(random, random.integer(1, 7));
    assert.equal(mostOnTime(model), bruteForce([model]), `seed ${seed}`);
  }
});

test("the priced bound is never below what trying everything finds", () => {
  let tight = 0;
  for (let seed = 1; seed <= TINY; seed++) {
    const random = new Random(seed, "tiny");
    const models = Array.from({ length: random.integer(1, 3) }, () => tinyModel(random, random.integer(1, 3)));
    const requests = models.reduce((sum, { arrivalsUs }) => sum + arrivalsUs.length, 0);
    const instance: Instance = { models, lanes: 1, requests, exact: true };
    const most = bruteForce(models);
    const bound = pricedBound(instance, { cellUs: random.integer(1, 4), iterations: 60 });
    assert.ok(bound >= most, `seed ${seed}: ${bound} < ${most}`);
    if (bound === most) tight++;
  }
  assert.ok(tight > TINY / 2, `tight in ${tight} of ${TINY}`);
});

test("no policy serves more on time than the bounds allow", () => {
  for (let seed = 1; seed <= SMALL; seed++) {
    const random = new Random(seed, "bounded");
    const scenario = randomScenario(random);
    const instance = instanceOf(scenario);
    assert.ok(instance !== null);
    const bound = pricedBound(instance, { cellUs: 1000, iterations: 30 });
    const single = instance.models.length === 1 && instance.lanes === 1;
    const optimum = single ? mostOnTime(instance.models[0]!) : bound;
    assert.ok(optimum <= bound, `seed ${seed}: optimum ${optimum}, bound ${bound}`);
    for (const { name, variants } of COMPARISON_POLICIES) {
      const variant = variants[random.integer(0, variants.length - 1)]!;
      const { total } = simulate(scenario, { policy: name, scheduler: variant.create });
      assert.ok(total.on_time <= optimum, `seed ${seed}: ${variant.label} has ${total.on_time} of ${optimum}`);
    }
    const { total } = simulate(scenario, { policy: "own", scheduler: (options) => createScheduler(options) });
    assert.ok(total.on_time <= optimum, `seed ${seed}: the daemon's scheduler has ${total.on_time} of ${optimum}`);
  }
});

test("a bound's capacity is above what a policy carries, and the optimum's is exact", () => {
  const model = {
    name: "m",
    max_batch: 16,
    slo_ms: 50,
    profile: { alpha_ms: 1, beta_ms: 5 },
    arrivals: { process: "poisson", rate_per_s: 500 },
  };
  const scenario = parseScenario({ name: "one", measure_s: 4, models: [model] }, "one");
  const bound = boundCapacity(scenario);
  assert.ok(bound?.exact);
  const loose = boundCapacity({ ...scenario, devices: [{ name: "gpu0", lanes: 1, speed: 1 }], gather_ms: 0.001 });
  assert.ok(loose !== null && !loose.exact && loose.scale >= bound.scale, `${loose?.scale} < ${bound.scale}`);
  const { total } = simulate(scenario, {
    policy: "own",
    scale: bound.scale,
    scheduler: (options) => createScheduler(options),
  });
  assert.ok(total.attainment < 0.99, `${total.attainment} at ${bound.scale}`);
});

test("what can't be bounded is not", () => {
  const scenario = randomScenario(new Random(1, "replicas"), { models: 1, plain: true });
  const models = scenario.models.map((model) => ({
    ...model,
    cpu_replicas: { count: 1, profile: { alpha_ms: 1, beta_ms: 1 } },
  }));
  assert.equal(instanceOf({ ...scenario, models }), null);
  assert.equal(boundCapacity({ ...scenario, models }), null);
});
