/** Answers an operator's questions about a scenario, by simulating it: does it fit, how much more would, what breaks first. */
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { Scenario, ScenarioModel } from "../scenario/types.ts";
import { ATTAINMENT_MIN, searchCapacity } from "../sim/capacity.ts";
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
  readonly p99_ms: number;
  readonly fits: boolean;
  readonly reasons: MissReasons | null;
}

export interface Plan {
  readonly scenario: string;
  /** Whether each model has at least 99 % of its requests on time. */
  readonly fits: boolean;
  readonly busy_share: number;
  readonly models: readonly ModelPlan[];
  /** All rates may grow by this factor before some model has fewer than 99 % on time; 0 where even little is too much. */
  readonly headroom: number;
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

/** Above the headroom by this factor it shows which model gives way. */
const BEYOND = 1.03;
/** The largest factor tried when it isn't told by a planning bound. */
const BEYOND_TRIES = 5;

/** @param onRun told before each simulated run, at which scale it is */
export function planFor(scenario: Scenario, onRun: (scale: number) => void = () => {}): Plan {
  const run = (scale: number): { result: SimulationResult; watch: MissWatch } => {
    onRun(scale);
    const watch = new MissWatch();
    const result = simulate(scenario, {
      policy: OWN_POLICY,
      scheduler: (options) => createScheduler(options),
      scale,
      observers: [watch],
    });
    return { result, watch };
  };
  const now = run(1);
  const models = scenario.models
    .filter(({ name }) => now.result.models[name]!.offered > 0)
    .map((model) => modelPlan(model, now.result, now.watch));
  let most = 0;
  const capacity = searchCapacity((scale) => {
    most = Math.max(most, scale);
    return scale === 1 ? now.result : run(scale).result;
  });
  const headroom = capacity.capacity_worst_model_scale;
  const open = headroom >= most;
  const devices = Object.values(now.result.devices);
  return {
    scenario: scenario.name,
    fits: models.every(({ fits }) => fits),
    busy_share: devices.reduce((sum, { busy_share }) => sum + busy_share, 0) / Math.max(1, devices.length),
    models,
    headroom,
    headroom_open: open,
    breaks_first: open ? null : breaksFirst(run, headroom),
  };
}

function modelPlan(
  model: ScenarioModel,
  { models, measured_s, warmup_s }: SimulationResult,
  watch: MissWatch,
): ModelPlan {
  const { offered, attainment, latency_ms, batch_size_mean } = models[model.name]!;
  return {
    name: model.name,
    rate_per_s: offered / measured_s,
    slo_ms: model.slo_ms,
    lane_share: watch.busyUs(model.name) / ((measured_s + warmup_s) * 1e6),
    batch_size_mean,
    attainment,
    p99_ms: latency_ms.p99,
    fits: attainment >= ATTAINMENT_MIN,
    reasons: watch.reasons(model.name),
  };
}

function breaksFirst(
  run: (scale: number) => { result: SimulationResult; watch: MissWatch },
  headroom: number,
): Plan["breaks_first"] {
  let scale = Math.max(headroom, 0.05) * BEYOND;
  for (let i = 0; i < BEYOND_TRIES; i++) {
    const { result, watch } = run(scale);
    const offered = Object.entries(result.models).filter(([, figures]) => figures.offered > 0);
    const [model, { attainment }] = offered.reduce((worst, one) =>
      one[1].attainment < worst[1].attainment ? one : worst,
    );
    if (attainment < ATTAINMENT_MIN) return { model, scale, attainment, reasons: watch.reasons(model) };
    scale *= BEYOND;
  }
  return null;
}
