/**
 * Writes the scenarios that schedulers are compared on: A to G2, what single additions to B and D cost, overload, a day,
 * a crowd, many models, and best-effort work beside. Unless their description says otherwise their rates are at the
 * planning bound: scale 1 offers what the bound allows, so a capacity's scale is its share of the bound.
 */
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { writeJson } from "../../tools/command-line/output-file.ts";
import { runTool } from "../../tools/command-line/run-tool.ts";
import { parseScenario } from "../scenario/schema.ts";
import { planningBoundPerS } from "../sim/planning-bound.ts";

const USAGE = `usage: npm run scenarios

Writes the scenarios in bench/scenarios that are made by rule.
`;

const MAX_BATCH = 64;

const round = (value: number): number => Number(value.toPrecision(6));

interface ModelLine {
  readonly alphaMs: number;
  readonly betaMs: number;
  readonly sloMs: number;
  /** Share of the total rate, in any unit. */
  readonly rate: number;
}

interface Workload {
  readonly file: string;
  readonly description: string;
  readonly models: readonly ModelLine[];
  /** Coefficient of variation of the gaps; Poisson where absent. */
  readonly cv?: number;
  /** Load as a share of the planning bound; 1 where absent. */
  readonly at?: number;
  /** An endless best-effort backlog beside it. */
  readonly bestEffort?: boolean;
  /** Only powers of two are buckets; smaller batches are padded. */
  readonly padded?: boolean;
  /** Further fields of every model, and of the scenario. */
  readonly model?: Readonly<Record<string, unknown>>;
  readonly scenario?: Readonly<Record<string, unknown>>;
  /** Change of rate over the run, by model. */
  readonly curve?: (index: number) => [seconds: number, factor: number][];
}

/** Requests a millisecond of the largest batch that leaves room for a second one within the SLO. */
function steadyRate(alphaMs: number, betaMs: number, sloMs: number): number {
  let batch = 1;
  while (batch < MAX_BATCH && 2 * (alphaMs * (batch + 1) + betaMs) <= sloMs) batch++;
  return batch / (alphaMs * batch + betaMs);
}

/** Models that each take about the same share of the device's time. */
function equalTime(lines: readonly (readonly [alphaMs: number, betaMs: number, sloMs: number])[]): ModelLine[] {
  return lines.map(([alphaMs, betaMs, sloMs]) => ({
    alphaMs,
    betaMs,
    sloMs,
    rate: steadyRate(alphaMs, betaMs, sloMs),
  }));
}

function spread(from: number, to: number, index: number, count: number): number {
  return from + ((to - from) * index) / (count - 1);
}

function spreadByRatio(from: number, to: number, index: number, count: number): number {
  return from * (to / from) ** (index / (count - 1));
}

const five = (rate: (rank: number) => number): ModelLine[] =>
  [1, 2, 3, 4, 5].map((rank) => ({ alphaMs: 1.08, betaMs: 5.2, sloMs: 100, rate: rate(rank) }));

const sixMixed = equalTime([
  [1.08, 5.2, 50],
  [1.21, 2.58, 50],
  [0.8, 2.3, 60],
  [2.17, 12.6, 150],
  [3.2, 4.8, 150],
  [6.8, 23.4, 200],
]);

/** α and β each run through their range in a stride of their own, so that neither goes with the SLO or the rate. */
const twenty: ModelLine[] = Array.from({ length: 20 }, (_, i) => ({
  alphaMs: spread(0.3, 1.2, (3 * i) % 20, 20),
  betaMs: spread(1, 6, (13 * i) % 20, 20),
  sloMs: spreadByRatio(25, 200, i, 20),
  rate: 1 / (i + 1),
}));

function lightAndHeavy(lightSloMs: number, heavy: readonly [number, number, number]): ModelLine[] {
  const light = Array.from(
    { length: 8 },
    (_, i) => [spread(0.05, 0.15, i, 8), spread(0.5, 1.5, (3 * i) % 8, 8), lightSloMs] as const,
  );
  return equalTime([...light, heavy]);
}

const one: readonly ModelLine[] = [{ alphaMs: 1.08, betaMs: 5.2, sloMs: 50, rate: 1 }];

const byRank = (rank: number): number => rank ** -0.9;

const twoHundred: ModelLine[] = Array.from({ length: 200 }, (_, i) => ({
  alphaMs: spread(0.3, 1.2, (37 * i) % 200, 200),
  betaMs: spread(1, 6, (113 * i) % 200, 200),
  sloMs: spreadByRatio(50, 500, (71 * i) % 200, 200),
  rate: byRank(i + 1),
}));

/** What each thing that a real service has, and A to G2 leave out, costs by itself. */
function additionsTo(file: string, name: string, models: readonly ModelLine[]): Workload[] {
  const noisy = (share: number) => ({ noise: share, profile_error: share });
  return [
    { file: `${file}-padded`, description: `${name} with powers of two as buckets`, models, padded: true },
    {
      file: `${file}-items`,
      description: `${name} with requests of 1 to 8 items`,
      models,
      model: { items: { min: 1, max: 8 } },
    },
    {
      file: `${file}-spread`,
      description: `${name} with deadlines between half and one and a half times the SLO`,
      models,
      model: { deadline_spread: 0.5 },
    },
    { file: `${file}-noise5`, description: `${name}, times and profiles 5 % off`, models, scenario: noisy(0.05) },
    { file: `${file}-noise10`, description: `${name}, times and profiles 10 % off`, models, scenario: noisy(0.1) },
  ];
}

/** A minute's day: the rate swings from a fifth to nine fifths of its mean, for every other model half a day later. */
function day(index: number): [number, number][] {
  return Array.from({ length: 13 }, (_, i) => {
    const phase = (2 * Math.PI * i) / 12 + (index % 2) * Math.PI;
    return [3 + 5 * i, round(1 - 0.8 * Math.cos(phase))];
  });
}

/** One model's rate rises to eight times what it was within half a second, and falls again after three seconds. */
function crowd(index: number): [number, number][] {
  return index > 0
    ? [[0, 1]]
    : [
        [12, 1],
        [12.5, 8],
        [15.5, 8],
        [16, 1],
      ];
}

function paddedPoints(alphaMs: number, betaMs: number): [number, number][] {
  return [1, 2, 4, 8, 16, 32, 64].map((bucket) => [bucket, round(alphaMs * bucket + betaMs)]);
}

const WORKLOADS: readonly Workload[] = [
  { file: "a", description: "One model, SLO 50 ms", models: one },
  { file: "b", description: "Five equal models, SLO 100 ms", models: five(() => 1) },
  { file: "c", description: "Five models, rates by rank to the power of -0.9", models: five(byRank) },
  { file: "d", description: "Six mixed models of about equal device time", models: sixMixed },
  { file: "e", description: "As D, in bursts (gamma gaps, CV 2)", models: sixMixed, cv: 2 },
  { file: "f", description: "Twenty models, SLOs 25 to 200 ms, rates by rank", models: twenty },
  {
    file: "g",
    description: "Eight light models (SLO 10 ms) and a heavy one whose every batch outlasts their slack",
    models: lightAndHeavy(10, [6, 25, 300]),
  },
  {
    file: "g2",
    description: "Eight light models (SLO 25 ms) and one heavy one",
    models: lightAndHeavy(25, [3, 10, 300]),
  },
  {
    file: "b30",
    description: "B at 30 % of the planning bound beside endless best-effort work",
    models: five(() => 1),
    bestEffort: true,
    at: 0.3,
  },
  {
    file: "b60",
    description: "B at 60 % of the planning bound beside endless best-effort work",
    models: five(() => 1),
    bestEffort: true,
    at: 0.6,
  },
  {
    file: "d30",
    description: "D at 30 % of the planning bound beside endless best-effort work",
    models: sixMixed,
    bestEffort: true,
    at: 0.3,
  },
  {
    file: "d50",
    description: "D at 50 % of the planning bound beside endless best-effort work",
    models: sixMixed,
    bestEffort: true,
    at: 0.5,
  },
  { file: "a-over", description: "A at 1.3 times the planning bound", models: one, at: 1.3 },
  { file: "b-over", description: "B at 1.3 times the planning bound", models: five(() => 1), at: 1.3 },
  { file: "c-over", description: "C at 1.3 times the planning bound", models: five(byRank), at: 1.3 },
  { file: "d-over", description: "D at 1.3 times the planning bound", models: sixMixed, at: 1.3 },
  {
    file: "d-over-fair",
    description: "D at 1.3 times the planning bound, models to miss alike",
    models: sixMixed,
    at: 1.3,
    scenario: { fairness: true },
  },
  ...additionsTo(
    "b",
    "B",
    five(() => 1),
  ),
  ...additionsTo("d", "D", sixMixed),
  {
    file: "diurnal",
    description:
      "D over a day of a minute: models 0, 2 and 4 have their peak while the others sleep; best-effort work beside",
    models: sixMixed,
    curve: day,
    bestEffort: true,
    at: 0.5,
    scenario: { measure_s: 60 },
  },
  {
    file: "flash-crowd",
    description: "B at half the planning bound, until one model's rate is eight times as high for three seconds",
    models: five(() => 1),
    curve: crowd,
    at: 0.5,
  },
  {
    file: "models-200",
    description: "200 models, SLOs 50 to 500 ms, rates by rank to the power of -0.9",
    models: twoHundred,
    scenario: { measure_s: 15 },
  },
];

function scenarioOf(workload: Workload): unknown {
  const { file, description, models, cv, at = 1, bestEffort = false, padded = false, curve } = workload;
  const withTotal = (perS: number): unknown => {
    const sum = models.reduce((total, { rate }) => total + rate, 0);
    const arrivals = (rate: number, index: number) => ({
      process: cv === undefined ? "poisson" : "gamma",
      rate_per_s: round((perS * rate) / sum),
      ...(cv === undefined ? {} : { cv }),
      ...(curve === undefined ? {} : { curve: curve(index) }),
    });
    const lines = models.map(({ alphaMs, betaMs, sloMs, rate }, i) => ({
      name: `m${i}`,
      max_batch: MAX_BATCH,
      slo_ms: round(sloMs),
      profile: padded
        ? { points_ms: paddedPoints(alphaMs, betaMs) }
        : { alpha_ms: round(alphaMs), beta_ms: round(betaMs) },
      arrivals: arrivals(rate, i),
      ...workload.model,
    }));
    const fill = {
      name: "fill",
      max_batch: 16,
      slo_ms: 1000,
      profile: { alpha_ms: 1.08, beta_ms: 5.2 },
    };
    return {
      name: file,
      description,
      seed: 1,
      warmup_s: 3,
      measure_s: 30,
      devices: [{ name: "gpu0" }],
      models: bestEffort ? [...lines, fill] : lines,
      ...(bestEffort ? { best_effort: [{ model: "fill", backlog: "infinite" }] } : {}),
      ...workload.scenario,
    };
  };
  const bound = planningBoundPerS(parseScenario(withTotal(1), file))!;
  return withTotal(bound * at);
}

await runTool({ name: "scenarios", usage: USAGE, options: {} }, () => {
  const files = WORKLOADS.map((workload) => {
    const file = path.join(PACKAGE_ROOT, "bench", "scenarios", `${workload.file}.json`);
    writeJson(file, scenarioOf(workload));
    return file;
  });
  // Short arrays on one line, as everything here is checked for.
  const biome = createRequire(import.meta.url).resolve("@biomejs/biome/bin/biome");
  execFileSync(process.execPath, [biome, "format", "--write", ...files], { cwd: PACKAGE_ROOT, stdio: "ignore" });
  return 0;
});
