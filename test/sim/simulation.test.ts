import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../bench/scenario/random.ts";
import type { Scenario } from "../../bench/scenario/types.ts";
import { searchCapacity } from "../../bench/sim/capacity.ts";
import { EventQueue, SimEvent } from "../../bench/sim/event-queue.ts";
import { findPolicy, policyNames } from "../../bench/sim/policies.ts";
import type { SimulationResult } from "../../bench/sim/result.ts";
import { type SimulationOptions, simulate } from "../../bench/sim/simulation.ts";
import { DecisionLog } from "../../daemon/engine/decision-log.ts";
import { Recording, replay } from "../../daemon/engine/recording.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { Scheduler, SchedulerOptions } from "../../daemon/scheduler/types.ts";
import { OVERLOADED, STAND_IN, smallScenario, smallScenarioJson } from "./small-scenario.ts";

const OWN: SimulationOptions = { policy: "slackline", scheduler: (options) => createScheduler(options) };

function run(scenario: Scenario, options: Partial<SimulationOptions> = {}): { result: SimulationResult; log: string } {
  let text = "";
  const log = new DecisionLog((chunk) => {
    text += chunk;
  });
  const result = simulate(scenario, { ...OWN, ...options, observers: [log] });
  log.flush();
  return { result, log: text };
}

/** Every feature at once. */
const RICH = smallScenario({
  devices: [{ name: "gpu0" }, { name: "gpu1", lanes: 2, speed: 0.5 }],
  models: (smallScenarioJson().models as Record<string, unknown>[]).map((model, i) =>
    i === 0 ? { ...model, cpu_replicas: { count: 2, profile: { alpha_ms: 6, beta_ms: 1 } } } : model,
  ),
  noise: 0.1,
  profile_error: 0.1,
  fairness: true,
  gather_ms: 0.2,
  handover_ms: 0.4,
  best_effort_share_min: 0.05,
});

class Marker extends SimEvent {
  readonly #fired: string[];
  readonly #name: string;

  constructor(name: string, fired: string[]) {
    super();
    this.#name = name;
    this.#fired = fired;
  }

  override fire(): void {
    this.#fired.push(this.#name);
  }
}

test("events happen in order of time, and of scheduling where the time is the same", () => {
  const fired: string[] = [];
  const queue = new EventQueue();
  const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => new Marker(name, fired)) as [Marker, Marker, Marker, Marker];
  queue.schedule(a, 20);
  queue.schedule(b, 10);
  queue.schedule(c, 10);
  queue.schedule(d, 5);
  queue.schedule(a, 10);
  queue.cancel(d);
  while (queue.next());
  assert.deepEqual(fired, ["b", "c", "a"]);
  assert.equal(queue.nowUs, 10);
});

test("a queue of many events, moved and cancelled at random, keeps its order", () => {
  const random = new Random(11, "events");
  const queue = new EventQueue();
  const fired: string[] = [];
  const events = Array.from({ length: 200 }, (_, i) => new Marker(String(i), fired));
  for (let i = 0; i < 2_000; i++) {
    const event = events[random.integer(0, 199)]!;
    if (random.uniform() < 0.3) queue.cancel(event);
    else queue.schedule(event, random.integer(0, 50));
  }
  const expected = events.filter(({ position }) => position >= 0);
  expected.sort((x, y) => x.atUs - y.atUs || x.sequence - y.sequence);
  const names = expected.map((event) => String(events.indexOf(event)));
  while (queue.next());
  assert.deepEqual(fired, names);
});

test("the same seed gives the same run, decision by decision", () => {
  const first = run(RICH);
  const second = run(RICH);
  assert.equal(second.log, first.log);
  assert.deepEqual(second.result, first.result);
  assert.notEqual(run(RICH, { seed: 8 }).log, first.log);
});

test("recorded events replayed through the scheduler give the same effects", () => {
  const recording = new Recording();
  const made: SchedulerOptions[] = [];
  const scheduler = (options: SchedulerOptions): Scheduler => {
    made.push(options);
    return createScheduler(options);
  };
  simulate(RICH, { ...OWN, scheduler, recorder: recording.record });
  assert.ok(recording.steps.length > 1_000);
  assert.equal(replay(recording.steps, createScheduler(made[0]!)), null);
});

test("every request with a deadline that arrives in the window ends in exactly one way", () => {
  for (const seed of [1, 2, 3]) {
    const { total, models } = run(RICH, { seed, scale: 2 }).result;
    assert.equal(total.offered, total.on_time + total.late + total.shed, `seed ${seed}`);
    const sum = Object.values(models).reduce((offered, figures) => offered + figures.offered, 0);
    assert.equal(sum, total.offered);
  }
});

test("what a model can't answer in time its fallback answers, and what callers asked for is counted once", () => {
  const figures = (model: object, standIn: object = STAND_IN) => {
    const models = [{ ...OVERLOADED, ...model }, standIn];
    return run(smallScenario({ models, best_effort: [], warmup_s: 2, measure_s: 10 })).result;
  };
  const without = figures({}).models.heavy!;
  const { models, total } = figures({ fallback: "small" });
  const with_ = models.heavy!;
  assert.equal(with_.offered, without.offered);
  assert.equal(with_.offered, with_.on_time + with_.late + with_.shed);
  assert.ok(without.attainment < 0.8 && with_.attainment > 0.95, `${without.attainment}, ${with_.attainment}`);
  assert.equal(without.fallback, 0);
  assert.ok(with_.fallback > 0.2 * with_.offered);
  assert.deepEqual([models.small!.offered, total.offered], [0, with_.offered]);
  assert.ok(models.small!.batch_size_mean! > 1);

  const implicit = figures({ fallback: "small", explicit_deadlines: false }).models.heavy!;
  assert.equal(implicit.shed, 0, "what nobody answers in time the model answers late");
  assert.ok(implicit.fallback > 0 && implicit.attainment > 0.9);

  const pairs = figures({ fallback: "small", items: 2 }, { ...STAND_IN, max_batch: 1 }).models.heavy!;
  assert.equal(pairs.fallback, 0, "requests that are too large for it");
});

test("one periodic caller on an idle device is answered in the time of one execution", () => {
  const models = [
    {
      name: "m",
      max_batch: 4,
      slo_ms: 50,
      profile: { alpha_ms: 1, beta_ms: 4 },
      arrivals: { process: "uniform", rate_per_s: 50 },
    },
  ];
  const { total, devices } = run(smallScenario({ models, best_effort: [], measure_s: 2, warmup_s: 0 })).result;
  assert.equal(total.offered, 100);
  assert.equal(total.on_time, 100);
  assert.deepEqual(total.latency_ms, { p50: 5, p90: 5, p99: 5, p999: 5, max: 5 });
  assert.ok(Math.abs(devices.gpu0!.busy_share - 0.25) < 0.003);
  assert.equal(total.batch_size_mean, 1);
});

test("best-effort work fills an idle device, and is counted apart", () => {
  const scenario = smallScenario({
    models: [{ name: "m", max_batch: 4, slo_ms: 50, profile: { alpha_ms: 1, beta_ms: 4 } }],
    best_effort: [{ model: "m", backlog: "infinite" }],
  });
  const { total, devices } = run(scenario).result;
  assert.equal(total.offered, 0);
  assert.equal(total.attainment, 1);
  assert.ok(devices.gpu0!.best_effort_share > 0.98);
  assert.ok(total.best_effort.items_per_s > 490);
});

test("a counted backlog is worked off once", () => {
  const scenario = smallScenario({
    models: [{ name: "m", max_batch: 4, slo_ms: 50, profile: { alpha_ms: 1, beta_ms: 4 } }],
    best_effort: [{ model: "m", backlog: 10 }],
    warmup_s: 0,
  });
  assert.equal(run(scenario).result.total.best_effort.answered, 10);
});

test("a device of twice the speed takes half the time, a second lane takes half the load", () => {
  const busy = (devices: unknown): number =>
    run(smallScenario({ devices, best_effort: [] }), { scale: 0.2 }).result.devices.gpu0!.busy_share;
  const one = busy([{ name: "gpu0" }]);
  assert.ok(Math.abs(busy([{ name: "gpu0", speed: 2 }]) / one - 0.5) < 0.08);
  assert.ok(busy([{ name: "gpu0", lanes: 2 }]) < 0.7 * one);
});

test("models on CPU replicas alone are executed there", () => {
  const models = [
    {
      name: "m",
      max_batch: 2,
      slo_ms: 50,
      devices: [],
      cpu_replicas: { count: 1, profile: { alpha_ms: 2, beta_ms: 1 } },
      arrivals: { process: "uniform", rate_per_s: 20 },
    },
  ];
  const { devices, total } = run(smallScenario({ models, best_effort: [] })).result;
  assert.equal(total.attainment, 1);
  assert.equal(devices.gpu0!.executions, 0);
  assert.equal(devices.cpu!.executions, total.offered);
});

test("replicas are those of the model that has them, however others are named", () => {
  const model = { max_batch: 2, slo_ms: 50, arrivals: { process: "uniform", rate_per_s: 20 } };
  const profile = { alpha_ms: 2, beta_ms: 1 };
  const models = [
    { ...model, name: "a", profile },
    { ...model, name: "a/b", devices: [], cpu_replicas: { count: 1, profile } },
  ];
  const { devices, total } = run(smallScenario({ models, best_effort: [] })).result;
  assert.equal(total.attainment, 1);
  assert.deepEqual([devices.gpu0!.executions, devices.cpu!.executions], [total.offered / 2, total.offered / 2]);
});

test("gathering delays a batch that was not staged", () => {
  const models = [
    {
      name: "m",
      max_batch: 4,
      slo_ms: 50,
      profile: { alpha_ms: 1, beta_ms: 4 },
      arrivals: { process: "uniform", rate_per_s: 10 },
    },
  ];
  const { latency_ms } = run(smallScenario({ models, best_effort: [], gather_ms: 0.7 })).result.total;
  assert.equal(latency_ms.max, 5.7);
});

test("a device stays idle before a batch, unless that was started while it executed the one before", () => {
  const models = [
    {
      name: "m",
      max_batch: 1,
      slo_ms: 50,
      profile: { alpha_ms: 0, beta_ms: 5 },
      arrivals: { process: "uniform", rate_per_s: 10 },
    },
  ];
  const handover = { handover_ms: 0.5, gather_ms: 0 };
  assert.equal(run(smallScenario({ ...handover, models, best_effort: [] })).result.total.latency_ms.max, 5.5);
  const executionsPerS = (handoverUs: number): number => {
    const best_effort = [{ model: "m", backlog: "infinite" }];
    const scheduler = (options: SchedulerOptions): Scheduler => createScheduler({ ...options, handoverUs });
    const { result } = run(smallScenario({ ...handover, models, best_effort }), { scheduler });
    return Math.round(result.devices.gpu0!.executions / result.measured_s);
  };
  assert.equal(executionsPerS(0), 182);
  assert.equal(executionsPerS(500), 200);
});

test("a scenario without profiles cannot be simulated, and the error says where", () => {
  const scenario = smallScenario({ models: [{ name: "m", max_batch: 4, slo_ms: 50 }], best_effort: [] });
  assert.throws(() => run(scenario), /models\[0\]\.profile: 'm' needs a profile/);
});

test("a policy that loses a wake-up is found out", () => {
  const idle: Scheduler = { step: () => [] };
  assert.throws(() => run(smallScenario(), { scheduler: () => idle }), /the policy lost a wake-up/);
});

test("all policies run, and none executes what it may not", () => {
  const scenario = smallScenario({ measure_s: 0.5, warmup_s: 0 });
  for (const name of policyNames()) {
    const policy = findPolicy(name)!;
    const { total } = run(scenario, { policy: name, scheduler: policy.create }).result;
    assert.equal(total.offered, total.on_time + total.late + total.shed, name);
  }
});

test("the capacity search finds the scale at which one model saturates", () => {
  const models = [
    {
      name: "m",
      max_batch: 1,
      slo_ms: 20,
      profile: { alpha_ms: 5, beta_ms: 5 },
      arrivals: { process: "uniform", rate_per_s: 50 },
    },
  ];
  const scenario = smallScenario({ models, best_effort: [], measure_s: 5 });
  const found = searchCapacity((scale) => simulate(scenario, { ...OWN, scale }));
  assert.ok(Math.abs(found.capacity_scale - 2) < 0.04, `scale ${found.capacity_scale}`);
  assert.equal(found.capacity_worst_model_scale, found.capacity_scale);
  assert.ok(found.result.total.attainment >= 0.99);
});

test("execution times stray from the profile as the measured ratios do, each as often as it was measured", () => {
  const [model] = smallScenarioJson().models as Record<string, unknown>[];
  const scenario = smallScenario({
    models: [{ ...model, max_batch: 1, profile: { points_ms: [[1, 2]] }, time_ratios: [0.5, 1, 1, 4] }],
    best_effort: [],
  });
  const { log } = run(scenario);
  const lines = log.trimEnd().split("\n");
  const times = new Map<number, number>();
  let startUs = 0;
  for (const { t, ev } of lines.map((line) => JSON.parse(line) as { t: number; ev: string })) {
    if (ev === "start") startUs = t;
    else if (ev === "end") times.set(t - startUs, (times.get(t - startUs) ?? 0) + 1);
  }
  assert.deepEqual(
    [...times.keys()].sort((a, b) => a - b),
    [1000, 2000, 8000],
  );
  const all = [...times.values()].reduce((sum, count) => sum + count, 0);
  assert.ok(Math.abs(times.get(2000)! / all - 0.5) < 0.1, `${times.get(2000)} of ${all}`);
});
