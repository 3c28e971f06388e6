import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { ArrivalStream, traceScaleMax } from "../../bench/scenario/arrivals.ts";
import { linearFit, toProfile } from "../../bench/scenario/profile.ts";
import { Random } from "../../bench/scenario/random.ts";
import { readScenario } from "../../bench/scenario/read.ts";
import { MODEL_KEYS, parseScenario, SCENARIO_KEYS, ScenarioError } from "../../bench/scenario/schema.ts";
import { planningBoundPerS } from "../../bench/sim/planning-bound.ts";
import { simulate } from "../../bench/sim/simulation.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { smallScenario, smallScenarioJson } from "./small-scenario.ts";

const folder = mkdtempSync(path.join(tmpdir(), "slackline-scenario-"));
after(() => rmSync(folder, { recursive: true }));

function problemsOf(value: unknown): readonly string[] {
  try {
    parseScenario(value, "test");
  } catch (error) {
    assert.ok(error instanceof ScenarioError);
    return error.problems;
  }
  return [];
}

const withFallbacks = (smallScenarioJson().models as object[]).map((model, i) => ({
  ...model,
  fallback: ["steps", "steps", "missing"][i],
}));

test("all problems of a scenario are told at once, each with its path", () => {
  const problems = [
    ...problemsOf({
      name: "bad",
      models: [
        { name: "a", max_batch: 0, slo_ms: 5, arrivals: { process: "gamma", rate_per_s: 3 } },
        { name: "a", max_batch: 4, slo_ms: 5, items: { min: 3, max: 9 }, devices: ["gpu7"] },
      ],
      best_effort: [{ model: "missing", backlog: "infinite" }],
    }),
    ...problemsOf(smallScenarioJson({ models: withFallbacks })),
  ];
  for (const start of [
    "measure_s: ",
    "models[0].max_batch: ",
    "models[0].arrivals.cv: ",
    "models[1].items: requests of 9 items do not fit into max_batch (4)",
    "models[1].name: 'a' is used more than once",
    "models[1].devices[0]: no device is named 'gpu7'",
    "best_effort[0].model: no model is named 'missing'",
    "models[1].fallback: a model can't be its own",
    "models[2].fallback: no model is named 'missing'",
  ]) {
    assert.ok(
      problems.some((problem) => problem.startsWith(start)),
      `${start} in\n${problems.join("\n")}`,
    );
  }
});

test("what no batch can hold, and more than can be simulated, is refused", () => {
  const model = { name: "m", max_batch: 8, slo_ms: 50, profile: { alpha_ms: 1, beta_ms: 1 } };
  const replicas = {
    count: 1,
    profile: {
      points_ms: [
        [1, 2],
        [4, 5],
      ],
    },
  };
  const best_effort = [{ model: "m", backlog: 5, items: { min: 1, max: 9 } }];
  const problems = [
    ...problemsOf(smallScenarioJson({ models: [model], best_effort })),
    ...problemsOf({ name: "x", measure_s: 1, models: [{ ...model, items: 8, devices: [], cpu_replicas: replicas }] }),
    ...problemsOf({
      name: "x",
      measure_s: 1,
      devices: [{ name: "g", lanes: 257 }],
      models: [{ ...model, max_batch: 1e9, cpu_replicas: { ...replicas, count: 1e9 } }],
    }),
  ];
  assert.deepEqual(problems, [
    "best_effort[0].items: requests of 9 items do not fit into max_batch (8) of 'm'",
    "models[0].items: requests of 8 items do not fit into the replicas' profile's largest bucket (4)",
    "devices[0].lanes: 257 is too much; it is a whole number from 1 to 256",
    "models[0].max_batch: 1000000000 is too much; it is a whole number from 1 to 65536",
    "models[0].cpu_replicas.count: 1000000000 is too much; it is a whole number from 1 to 256",
  ]);
  const beside = { ...model, items: 8, cpu_replicas: replicas };
  assert.deepEqual(problemsOf({ name: "x", measure_s: 1, models: [beside] }), [], "the device holds them");
});

test("names that would give two lanes one name are refused", () => {
  const devices = [{ name: "g", lanes: 2 }, { name: "g/0" }, { name: "cpu/steps/1" }];
  const models = (smallScenarioJson().models as Record<string, unknown>[]).map((model, i) =>
    i === 1 ? { ...model, cpu_replicas: { count: 2, profile: { alpha_ms: 1, beta_ms: 1 } } } : model,
  );
  assert.deepEqual(problemsOf(smallScenarioJson({ devices, models })), [
    "devices[1].name: 'g/0' has a lane 'g/0', and so has 'g'; name one otherwise",
    "models[1].name: 'steps' has a lane 'cpu/steps/1', and so has 'cpu/steps/1'; name one otherwise",
  ]);
});

test("every key of the format is documented", () => {
  const text = readFileSync(path.join(PACKAGE_ROOT, "bench", "scenarios", "README.md"), "utf8");
  for (const key of [...SCENARIO_KEYS, ...MODEL_KEYS]) assert.ok(text.includes(`| \`${key}\` |`), key);
});

test("unknown keys are refused rather than ignored", () => {
  const problems = problemsOf(smallScenarioJson({ measures: 3 }));
  assert.equal(problems.length, 1);
  assert.match(problems[0]!, /measures/);
});

test("a file that is missing or no JSON is named in the error", () => {
  assert.throws(
    () => readScenario(path.join(folder, "none.json")),
    /none\.json: 1 problem\n {2}cannot be read: ENOENT/,
  );
  const file = path.join(folder, "broken.json");
  writeFileSync(file, "{");
  assert.throws(() => readScenario(file), /broken\.json: 1 problem\n {2}not JSON/);
});

test("the same seed gives the same arrivals, another seed others, in order of time", () => {
  const scenario = smallScenario();
  const first = [...new ArrivalStream(scenario)];
  assert.deepEqual([...new ArrivalStream(scenario)], first);
  assert.notDeepEqual([...new ArrivalStream(scenario, { seed: 8 })], first);
  for (let i = 1; i < first.length; i++) assert.ok(first[i]!.atUs >= first[i - 1]!.atUs);
  assert.ok(first.every(({ atUs }) => atUs >= 0 && atUs < 3_500_000));
});

test("a model's arrivals do not depend on the other models", () => {
  const scenario = smallScenario();
  const alone = { ...scenario, models: scenario.models.slice(0, 1) };
  const among = [...new ArrivalStream(scenario)].filter(({ model }) => model === 0);
  assert.deepEqual([...new ArrivalStream(alone)], among);
});

test("rates, gaps' variation, items and deadlines are as asked for", () => {
  const scenario = smallScenario({ measure_s: 400, warmup_s: 0 });
  const arrivals = [...new ArrivalStream(scenario)];
  [150, 40, 30].forEach((rate, model) => {
    const own = arrivals.filter((arrival) => arrival.model === model);
    const gaps = own.slice(1).map(({ atUs }, i) => atUs - own[i]!.atUs);
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    assert.ok(Math.abs(own.length / (rate * 400) - 1) < 0.06, `${own.length} arrivals of model ${model}`);
    assert.ok(Math.abs(deviation / mean - [1, 2, 0][model]!) < 0.1, `variation ${deviation / mean} of model ${model}`);
  });
  const steps = arrivals.filter(({ model }) => model === 1);
  assert.deepEqual([...new Set(steps.map(({ items }) => items))].sort(), [1, 2, 3]);
  const budgets = steps.map(({ budgetUs }) => budgetUs);
  assert.ok(Math.min(...budgets) >= 56_000 && Math.max(...budgets) <= 104_000);
  assert.ok(Math.min(...budgets) < 58_000 && Math.max(...budgets) > 102_000);
  assert.ok(arrivals.every(({ model, explicit }) => explicit === (model !== 2)));
});

test("a rate curve moves arrivals to where it is high", () => {
  const [model] = smallScenarioJson().models as Record<string, unknown>[];
  const arrivals = {
    process: "poisson",
    rate_per_s: 500,
    curve: [
      [0, 0],
      [10, 2],
      [20, 0],
    ],
  };
  const scenario = smallScenario({ models: [{ ...model, arrivals }], measure_s: 20, warmup_s: 0 });
  const seconds = [...new ArrivalStream(scenario)].map(({ atUs }) => atUs / 1e6);
  assert.ok(Math.abs(seconds.length / 10_000 - 1) < 0.05, `${seconds.length} arrivals`);
  const middle = seconds.filter((s) => s >= 5 && s < 15).length / seconds.length;
  assert.ok(Math.abs(middle - 0.75) < 0.02, `${middle} of them in the middle half`);
});

test("a trace is played at its speed, with its own deadlines where it states them", () => {
  const file = path.join(folder, "trace.csv");
  writeFileSync(file, "arrival_us,model,slo_us\n1000,q,\n4000,steps,9000\n");
  const scenario = readScenarioFrom({
    warmup_s: 0,
    trace: { file: "trace.csv", speed: 2, models: { q: "quick" } },
  });
  const arrivals = [...new ArrivalStream(scenario, { scale: 2 })].map(({ atUs, model, budgetUs, explicit }) => ({
    atUs,
    model,
    within: Math.abs(budgetUs / [40_000, 9_000][model]! - 1) <= 0.3,
    explicit,
  }));
  assert.deepEqual(arrivals, [
    { atUs: 250, model: 0, within: true, explicit: true },
    { atUs: 1000, model: 1, within: true, explicit: true },
  ]);
});

function readScenarioFrom(changes: Record<string, unknown>) {
  const models = (smallScenarioJson().models as Record<string, unknown>[]).map(({ arrivals: _, ...model }) => model);
  const file = path.join(folder, "scenario.json");
  writeFileSync(file, JSON.stringify(smallScenarioJson({ models, ...changes })));
  return readScenario(file);
}

test("a run ends with its trace where that is shorter, and is refused where nothing is left to measure", () => {
  const rows = Array.from({ length: 400 }, (_, i) => `${(i + 1) * 10_000},quick,`);
  writeFileSync(path.join(folder, "short.csv"), `arrival_us,model,slo_us\n${rows.join("\n")}\n`);
  const scenario = readScenarioFrom({ warmup_s: 0.2, measure_s: 3, best_effort: [], trace: { file: "short.csv" } });
  const run = (scale: number) =>
    simulate(scenario, { policy: "slackline", scheduler: (options) => createScheduler(options), scale });
  for (const [scale, measuredS] of [
    [0.5, 3],
    [1, 3],
    [4, 0.8],
  ] as const) {
    const { measured_s, total } = run(scale);
    assert.ok(Math.abs(measured_s - measuredS) < 0.001, `${measured_s} s at ${scale}`);
    assert.ok(Math.abs(total.goodput_per_s / (100 * scale) - 1) < 0.02, `${total.goodput_per_s}/s at ${scale}`);
  }
  assert.throws(
    () => run(21),
    /short\.csv: 1 problem\n {2}at this speed it ends after 0\.190477 s, within the warm-up of 0\.2 s/,
  );
  // Ten of the longest SLO, 80 ms, are left beside the warm-up.
  assert.equal(traceScaleMax(scenario), 4);
  assert.equal(traceScaleMax(smallScenario()), Number.POSITIVE_INFINITY);
});

test("bad traces are told with their lines, unknown models by name", () => {
  writeFileSync(path.join(folder, "bad.csv"), "arrival_us,model,slo_us\n5,quick,\n3,quick,\nx,quick,\n");
  const bad = readScenarioFrom({ trace: { file: "bad.csv" } });
  assert.throws(() => new ArrivalStream(bad), /line 3: arrival_us 3 comes after 5[\s\S]*line 4: expected/);
  writeFileSync(path.join(folder, "other.csv"), "arrival_us,model,slo_us\n5,elsewhere,\n");
  const other = readScenarioFrom({ trace: { file: "other.csv" } });
  assert.throws(() => new ArrivalStream(other), /no model named 'elsewhere'/);
});

test("random numbers have the moments of their distributions", () => {
  const random = new Random(3, "moments");
  const moments = (draw: () => number): [number, number] => {
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < 100_000; i++) {
      const x = draw();
      sum += x;
      squares += x * x;
    }
    return [sum / 1e5, squares / 1e5 - (sum / 1e5) ** 2];
  };
  const near = ([mean, variance]: [number, number], wantedMean: number, wantedVariance: number): void => {
    assert.ok(Math.abs(mean - wantedMean) < 0.02, `mean ${mean}, not ${wantedMean}`);
    assert.ok(Math.abs(variance - wantedVariance) < 0.05 * Math.max(1, wantedVariance), `variance ${variance}`);
  };
  near(
    moments(() => random.uniform()),
    0.5,
    1 / 12,
  );
  near(
    moments(() => random.exponential()),
    1,
    1,
  );
  near(
    moments(() => random.normal()),
    0,
    1,
  );
  near(
    moments(() => random.gamma(0.25)),
    0.25,
    0.25,
  );
  near(
    moments(() => random.gamma(4)),
    4,
    4,
  );
});

test("profiles become buckets in microseconds, up to the largest batch", () => {
  assert.deepEqual(toProfile({ alpha_ms: 1.5, beta_ms: 2 }, 3), [
    { bucket: 1, us: 3500 },
    { bucket: 2, us: 5000 },
    { bucket: 3, us: 6500 },
  ]);
  const points = {
    points_ms: [
      [1, 2],
      [4, 3],
      [16, 9],
    ],
  } as const;
  assert.deepEqual(
    toProfile(points, 8).map(({ bucket }) => bucket),
    [1, 4, 16],
  );
  assert.deepEqual(toProfile(points, 4, 2), [
    { bucket: 1, us: 4000 },
    { bucket: 4, us: 6000 },
  ]);
  const fit = linearFit({
    points_ms: [
      [1, 3],
      [2, 4],
      [4, 6],
    ],
  });
  assert.ok(Math.abs(fit.alphaMs - 1) < 1e-9 && Math.abs(fit.betaMs - 2) < 1e-9);
});

test("the scenarios that schedulers are compared on sit at their planning bounds", () => {
  const bounds: Record<string, number> = { a: 738, b: 657, c: 662, d: 395, e: 395, f: 496, g: 2819, g2: 6273 };
  for (const [name, bound] of Object.entries(bounds)) {
    const scenario = readScenario(path.join(PACKAGE_ROOT, "bench", "scenarios", `${name}.json`));
    const rate = scenario.models.reduce((sum, { arrivals }) => sum + (arrivals?.rate_per_s ?? 0), 0);
    assert.equal(Math.round(planningBoundPerS(scenario)!), bound, name);
    assert.ok(Math.abs(rate / bound - 1) < 0.002, `${name} offers ${rate}`);
  }
});

test("every scenario that is shipped can be read", () => {
  const scenarios = path.join(PACKAGE_ROOT, "bench", "scenarios");
  for (const file of readdirSync(scenarios)) {
    if (file.endsWith(".json")) assert.ok(readScenario(path.join(scenarios, file)).models.length > 0);
  }
});
