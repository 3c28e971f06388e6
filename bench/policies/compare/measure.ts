/** Runs a job: picks the best of a policy's variants, and measures it over the seeds. */
import { createScheduler } from "../../../daemon/scheduler/index.ts";
import type { Scheduler, SchedulerOptions } from "../../../daemon/scheduler/types.ts";
import { boundCapacity } from "../../bounds/bound-capacity.ts";
import { traceScaleMax } from "../../scenario/arrivals.ts";
import type { Scenario } from "../../scenario/types.ts";
import { ATTAINMENT_MIN, searchCapacity } from "../../sim/capacity.ts";
import { nominalRatePerS } from "../../sim/planning-bound.ts";
import { OWN_POLICY } from "../../sim/policies.ts";
import type { SimulationResult } from "../../sim/result.ts";
import { simulate } from "../../sim/simulation.ts";
import { COMPARISON_POLICIES } from "../index.ts";
import type { BoundJob, BoundOutcome, CapacityOutcome, Job, LoadOutcome, Outcome, PolicyJob, Spread } from "./job.ts";
import { OWN_FAIR } from "./study.ts";

interface Variant {
  readonly label: string;
  readonly create: (options: SchedulerOptions) => Scheduler;
}

export function run(job: Job): Outcome {
  if (job.type === "bound") return bound(job);
  return job.question === "capacity" ? capacity(job) : load(job);
}

function variantsOf(policy: string): readonly Variant[] {
  if (policy === OWN_POLICY) return [{ label: policy, create: (options) => createScheduler(options) }];
  if (policy === OWN_FAIR) {
    return [{ label: policy, create: (options) => createScheduler({ ...options, fairness: true }) }];
  }
  const found = COMPARISON_POLICIES.find(({ name }) => name === policy);
  if (found === undefined) throw new Error(`there is no policy '${policy}'`);
  return found.variants;
}

function simulated(scenario: Scenario, variant: Variant, seed: number, scale: number): SimulationResult {
  return simulate(scenario, { policy: variant.label, scheduler: variant.create, seed, scale });
}

/** Variants that are measured over all seeds. */
const FINALISTS = 2;
/** A variant stays in the contest while it has this share on time. */
const CONTEST_ATTAINMENT = 0.985;
const CONTEST_STEP = 0.1;
const CONTEST_SCALE_MAX = 2;
const CONTEST_MEASURE_S = 5;

/** The variants that carry most, by a contest of short runs at growing load: those that fall behind leave. */
function strongest(job: PolicyJob): readonly Variant[] {
  let left = variantsOf(job.policy);
  const scenario = { ...job.scenario, measure_s: Math.min(CONTEST_MEASURE_S, job.scenario.measure_s) };
  for (let scale = 0.2; left.length > FINALISTS && scale <= CONTEST_SCALE_MAX; scale += CONTEST_STEP) {
    const ranked = left
      .map((variant) => ({ variant, attainment: simulated(scenario, variant, job.seeds[0]!, scale).total.attainment }))
      .sort((a, b) => b.attainment - a.attainment);
    const carrying = ranked.filter(({ attainment }) => attainment >= CONTEST_ATTAINMENT);
    left = (carrying.length >= FINALISTS ? carrying : ranked.slice(0, FINALISTS)).map(({ variant }) => variant);
  }
  return left.slice(0, FINALISTS);
}

function capacity(job: PolicyJob): CapacityOutcome {
  const { scenario, seeds } = job;
  const measured = strongest(job).map((variant) => {
    const [first, ...others] = seeds;
    const found = searchCapacity(
      (scale) => simulated(scenario, variant, first!, scale),
      undefined,
      traceScaleMax(scenario),
    );
    const scales = [{ all: found.capacity_scale, worst: found.capacity_worst_model_scale }];
    for (const seed of others)
      scales.push(scalesNear(scales[0]!, (scale) => simulated(scenario, variant, seed, scale)));
    return {
      variant: variant.label,
      all: spread(scales.map(({ all }) => all)),
      worst: spread(scales.map(({ worst }) => worst)),
    };
  });
  const best = most(measured, ({ all }) => all.mean);
  const evenest = most(measured, ({ worst }) => worst.mean);
  return {
    type: "capacity",
    all: best.all,
    worst: evenest.worst,
    variant: best.variant,
    variant_worst: evenest.variant,
  };
}

/**
 * The capacities of one more seed, searched around those of the first: from there up while it is carried, down while it
 * is not, then by bisection.
 */
export function scalesNear(
  near: { readonly all: number; readonly worst: number },
  run: (scale: number) => SimulationResult,
): { all: number; worst: number } {
  const known = new Map<number, SimulationResult>();
  const at = (scale: number): SimulationResult => {
    let result = known.get(scale);
    if (result === undefined) {
      result = run(scale);
      known.set(scale, result);
    }
    return result;
  };
  return {
    all: largestNear(near.all, (scale) => at(scale).total.attainment >= ATTAINMENT_MIN),
    worst: largestNear(near.worst, (scale) => at(scale).attainment_worst_model >= ATTAINMENT_MIN),
  };
}

const NEAR_STEP = 1.05;
const NEAR_PRECISION = 0.005;
/** Where the first seed carried nothing, or another carries less than this, there is nothing. */
const NEAR_LEAST = 0.02;
const NEAR_MOST = 4;

function largestNear(near: number, carried: (scale: number) => boolean): number {
  let low = Math.max(near, NEAR_LEAST);
  let high = low * NEAR_STEP;
  if (carried(low)) {
    while (high < NEAR_MOST && carried(high)) {
      low = high;
      high *= NEAR_STEP;
    }
  } else {
    do {
      high = low;
      low /= NEAR_STEP;
      if (low < NEAR_LEAST) return 0;
    } while (!carried(low));
  }
  while (high - low > NEAR_PRECISION * high) {
    const middle = (low + high) / 2;
    if (carried(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** With best-effort work beside, what counts first is that requests are on time; then how much of that work is done. */
const ON_TIME_ENOUGH = 0.999;

function load(job: PolicyJob): LoadOutcome {
  const { scenario, seeds, question } = job;
  const merit = (attainment: number, share: number): number =>
    question === "overload"
      ? attainment
      : Math.min(attainment, ON_TIME_ENOUGH) + (attainment >= ON_TIME_ENOUGH ? share : 0);
  const short = { ...scenario, measure_s: Math.min(CONTEST_MEASURE_S, scenario.measure_s) };
  const all = variantsOf(job.policy);
  const finalists =
    all.length <= FINALISTS
      ? all
      : all
          .map((variant) => {
            const result = simulated(short, variant, seeds[0]!, 1);
            return { variant, merit: merit(result.total.attainment, bestEffortShare(result)) };
          })
          .sort((a, b) => b.merit - a.merit)
          .slice(0, FINALISTS)
          .map(({ variant }) => variant);
  const measured = finalists.map((variant): LoadOutcome => {
    const results = seeds.map((seed) => simulated(scenario, variant, seed, 1));
    return {
      type: "load",
      attainment: spread(results.map(({ total }) => total.attainment)),
      attainment_worst_model: spread(results.map(({ attainment_worst_model }) => attainment_worst_model)),
      best_effort_share: spread(results.map(bestEffortShare)),
      p99_ms: spread(results.map(({ total }) => total.latency_ms.p99)),
      variant: variant.label,
    };
  });
  return most(measured, ({ attainment, best_effort_share }) => merit(attainment.mean, best_effort_share.mean));
}

function bestEffortShare({ devices }: SimulationResult): number {
  const all = Object.values(devices);
  return all.reduce((sum, { best_effort_share }) => sum + best_effort_share, 0) / all.length;
}

/** A window long enough to mean something, and short enough to be bounded in a minute. */
const BOUND_WINDOW_S = 10;
const BOUND_REQUESTS_MAX = 12_000;

function bound({ scenario, seed }: BoundJob): BoundOutcome {
  const measureS = Math.min(BOUND_WINDOW_S, scenario.measure_s, BOUND_REQUESTS_MAX / nominalRatePerS(scenario));
  // The optimum of one model is exact and quick, so that the whole window can be had.
  const found =
    scenario.models.length === 1
      ? boundCapacity(scenario, { seed, precision: 0.005 })
      : boundCapacity(scenario, { seed, measureS, precision: 0.02, iterations: 60 });
  return { type: "bound", scale: found?.scale ?? null, exact: found?.exact ?? false };
}

function most<T>(all: readonly T[], key: (one: T) => number): T {
  return all.reduce((best, one) => (key(one) > key(best) ? one : best));
}

function spread(values: readonly number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const square = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: values.length < 2 ? 0 : Math.sqrt(square / (values.length - 1)) };
}
