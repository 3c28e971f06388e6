/** Answers an operator's questions about a scenario, by simulating it: does it fit, how much more would, what breaks first. */
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { shortestWindowS, traceScaleMax } from "../scenario/arrivals.ts";
import type { Scenario, ScenarioModel } from "../scenario/types.ts";
import { ATTAINMENT_MIN, searchCapacity } from "../sim/capacity.ts";
import { nominalRatePerS } from "../sim/planning-bound.ts";
import { OWN_POLICY } from "../sim/policies.ts";
import type { SimulationResult } from "../sim/result.ts";
import { simulate } from "../sim/simulation.ts";
import { type MissReasons, MissWatch } from "./miss-reasons.ts";

/** One model at the rates asked for. Times in milliseconds, shares in 0..1. */
export interface ModelPlan {
  readonly name: string;
  readonly rate_per_s: number;
  readonly slo_ms: number;
  /** Time of one lane that its batches take. */
  readonly lane_share: number;
  readonly batch_size_mean: number | null;
  readonly attainment: number;
  /** Part of its requests that its fallback answered. */
  readonly fallback_share: number;
  readonly p99_ms: number;
  readonly fits: boolean;
  readonly reasons: MissReasons | null;
}

export interface Plan {
  readonly scenario: string;
  /** Whether each model has at least 99 % of its requests on time. */
  readonly fits: boolean;
  /** Device lanes and CPU replicas. */
  readonly lanes: number;
  /** Mean share of time in which these execute. */
  readonly busy_share: number;
  readonly models: readonly ModelPlan[];
  /**
   * All rates may grow by this factor before some model has fewer than 99 % on time; 0 where even little is too much, null
   * where there are no requests.
   */
  readonly headroom: number | null;
  /** Whether more was not tried: the headroom is at least that. */
  readonly headroom_open: boolean;
  /** The model that is the first to miss when all rates grow; null where none did. */
  readonly breaks_first: {
    readonly model: string;
    readonly scale: number;
    readonly attainment: number;
    readonly reasons: MissReasons | null;
  } | null;
}

/** Rates are not grown further than by this factor: there is room enough, and simulating more takes ever longer. */
const HEADROOM_MAX = 100;
/** About as many requests a run of the search may have. At 99 % their share on time is then known to within 0.1 points. */
const RUN_REQUESTS_MAX = 30_000;
/** Above the headroom by this factor it shows which model gives way. */
const BEYOND = 1.03;
/** The largest factor tried when it isn't told by a planning bound. */
const BEYOND_TRIES = 5;

interface Run {
  readonly result: SimulationResult;
  readonly watch: MissWatch;
}

/** @param onRun told before each simulated run, at which scale it is */
export function planFor(scenario: Scenario, onRun: (scale: number) => void = () => {}): Plan {
  const run = (scale: number): Run => {
    onRun(scale);
    const watch = new MissWatch();
    const result = simulate(scale === 1 ? scenario : shortened(scenario, scale), {
      policy: OWN_POLICY,
      scheduler: (options) => createScheduler(options),
      scale,
      observers: [watch],
    });
    return { result, watch };
  };
  const now = run(1);
  const models = scenario.models
    .filter(({ name }) => now.result.models[name]!.offered > 0 || isFallback(name, scenario))
    .map((model) => modelPlan(model, now));
  const lanes = laneCount(scenario);
  const base = {
    scenario: scenario.name,
    fits: models.every(({ fits }) => fits),
    lanes,
    busy_share: scenario.models.reduce((sum, { name }) => sum + laneShare(name, now), 0) / Math.max(1, lanes),
    models,
  };
  if (models.every(({ rate_per_s }) => rate_per_s === 0))
    return { ...base, headroom: null, headroom_open: false, breaks_first: null };
  const most = largestScale(scenario);
  const { capacity_worst_model_scale: headroom, capacity_worst_model_open: open } = searchCapacity(
    (scale) => (scale === 1 ? now.result : run(scale).result),
    undefined,
    most,
  );
  return {
    ...base,
    headroom,
    headroom_open: open,
    breaks_first: open ? null : breaksFirst(run, headroom, most),
  };
}

/** The scale up to which a run can be both short enough to wait for and long enough to tell something. */
function largestScale(scenario: Scenario): number {
  const perScale = nominalRatePerS(scenario) * shortestWindowS(scenario);
  const most = Math.min(HEADROOM_MAX, traceScaleMax(scenario));
  // Twice the present rates are tried however many requests that means.
  return perScale === 0 ? most : Math.min(most, Math.max(2, Math.floor(RUN_REQUESTS_MAX / perScale)));
}

/** The scenario with a window in which not too many requests come at this scale; what follows a trace or a curve has its length. */
function shortened(scenario: Scenario, scale: number): Scenario {
  const { models, trace, warmup_s, measure_s } = scenario;
  if (trace !== undefined || models.some(({ arrivals }) => arrivals?.curve !== undefined)) return scenario;
  const requests = nominalRatePerS(scenario) * scale * (warmup_s + measure_s);
  const factor = Math.min(1, Math.max(RUN_REQUESTS_MAX / requests, shortestWindowS(scenario) / measure_s));
  return { ...scenario, warmup_s: warmup_s * factor, measure_s: measure_s * factor };
}

function laneCount({ devices, models }: Scenario): number {
  const onDevices = devices.reduce((sum, { lanes }) => sum + lanes, 0);
  return models.reduce((sum, { cpu_replicas }) => sum + (cpu_replicas?.count ?? 0), onDevices);
}

/** A model that nobody asks may answer for another. */
function isFallback(model: string, { models }: Scenario): boolean {
  return models.some(({ fallback }) => fallback === model);
}

/** Time of one lane that a model's batches take. */
function laneShare(model: string, { result: { measured_s, warmup_s }, watch }: Run): number {
  return watch.busyUs(model) / ((measured_s + warmup_s) * 1e6);
}

function modelPlan(model: ScenarioModel, run: Run): ModelPlan {
  const { models, measured_s } = run.result;
  const { offered, attainment, fallback, latency_ms, batch_size_mean } = models[model.name]!;
  return {
    name: model.name,
    rate_per_s: offered / measured_s,
    slo_ms: model.slo_ms,
    lane_share: laneShare(model.name, run),
    batch_size_mean,
    attainment,
    fallback_share: offered === 0 ? 0 : fallback / offered,
    p99_ms: latency_ms.p99,
    fits: attainment >= ATTAINMENT_MIN,
    reasons: run.watch.reasons(model.name),
  };
}

function breaksFirst(run: (scale: number) => Run, headroom: number, most: number): Plan["breaks_first"] {
  let scale = Math.min(most, Math.max(headroom, 0.05) * BEYOND);
  for (let i = 0; i < BEYOND_TRIES; i++) {
    const { result, watch } = run(scale);
    const offered = Object.entries(result.models).filter(([, figures]) => figures.offered > 0);
    const [model, { attainment }] = offered.reduce((worst, one) =>
      one[1].attainment < worst[1].attainment ? one : worst,
    );
    if (attainment < ATTAINMENT_MIN) return { model, scale, attainment, reasons: watch.reasons(model) };
    scale = Math.min(most, scale * BEYOND);
  }
  return null;
}
