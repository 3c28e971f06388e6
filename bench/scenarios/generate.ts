/**
 * Writes the scenarios A to G2 that schedulers are compared on, and their best-effort variants, with rates at the
 * planning bound: scale 1 offers what the bound allows, so a capacity's scale is its share of the bound.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { parseScenario } from "../scenario/schema.ts";
import { planningBoundPerS } from "../sim/planning-bound.ts";

const MAX_BATCH = 64;

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
  /** Load as a share of the planning bound, with an endless best-effort backlog beside it. */
  readonly bestEffortAt?: number;
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

const WORKLOADS: readonly Workload[] = [
  { file: "a", description: "One model, SLO 50 ms", models: [{ alphaMs: 1.08, betaMs: 5.2, sloMs: 50, rate: 1 }] },
  { file: "b", description: "Five equal models, SLO 100 ms", models: five(() => 1) },
  { file: "c", description: "Five models, rates by rank to the power of -0.9", models: five((rank) => rank ** -0.9) },
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
    bestEffortAt: 0.3,
  },
  {
    file: "b60",
    description: "B at 60 % of the planning bound beside endless best-effort work",
    models: five(() => 1),
    bestEffortAt: 0.6,
  },
  {
    file: "d30",
    description: "D at 30 % of the planning bound beside endless best-effort work",
    models: sixMixed,
    bestEffortAt: 0.3,
  },
  {
    file: "d50",
    description: "D at 50 % of the planning bound beside endless best-effort work",
    models: sixMixed,
    bestEffortAt: 0.5,
  },
];

const round = (value: number): number => Number(value.toPrecision(6));

function scenarioOf({ file, description, models, cv, bestEffortAt }: Workload): unknown {
  const withTotal = (perS: number): unknown => {
    const sum = models.reduce((total, { rate }) => total + rate, 0);
    const arrivals = (rate: number) => ({
      process: cv === undefined ? "poisson" : "gamma",
      rate_per_s: round((perS * rate) / sum),
      ...(cv === undefined ? {} : { cv }),
    });
    const lines = models.map(({ alphaMs, betaMs, sloMs, rate }, i) => ({
      name: `m${i}`,
      max_batch: MAX_BATCH,
      slo_ms: round(sloMs),
      profile: { alpha_ms: round(alphaMs), beta_ms: round(betaMs) },
      arrivals: arrivals(rate),
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
      models: bestEffortAt === undefined ? lines : [...lines, fill],
      ...(bestEffortAt === undefined ? {} : { best_effort: [{ model: "fill", backlog: "infinite" }] }),
    };
  };
  const bound = planningBoundPerS(parseScenario(withTotal(1), file))!;
  return withTotal(bound * (bestEffortAt ?? 1));
}

for (const workload of WORKLOADS) {
  const target = path.join(PACKAGE_ROOT, "bench", "scenarios", `${workload.file}.json`);
  writeFileSync(target, `${JSON.stringify(scenarioOf(workload), null, 2)}\n`);
}
