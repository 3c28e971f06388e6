/** What the GPU benchmark writes; keys are those of its JSON. */
import type { DaemonStatus } from "../../daemon/status.ts";
import type { BudgetLine } from "../budgets/budget.ts";
import type { Percentiles } from "../load/recorder.ts";
import type { GpuUse } from "./gpu-sampler.ts";
import type { Points } from "./workload.ts";

/** From the replies' timings; warm-up included. */
export interface RuntimeFigures {
  readonly executions: number;
  readonly execution_ms_mean: number;
  /** Share of the time in which no call of the runtime was executing. */
  readonly outside_share: number;
}

/** One load on one daemon. */
export interface LoadFigures {
  readonly scale: number;
  readonly offered_per_s: number;
  readonly goodput_per_s: number;
  readonly attainment: number;
  readonly attainment_worst_model: number;
  readonly latency_ms: Percentiles;
  readonly device_busy_share: number;
  readonly batch_size_mean: number;
  readonly best_effort_items_per_s: number;
  readonly best_effort_share: number;
  /** Executions within 10 % and 25 % of their prediction; null where nothing was counted. */
  readonly predicted_within_10: number | null;
  readonly predicted_within_25: number | null;
  readonly runtime: RuntimeFigures;
  readonly gpu: GpuUse | null;
  readonly models: Readonly<Record<string, ModelFigures>>;
  readonly generator_lag_ms_p99: number;
  /** False where the load generator could not keep to its schedule. */
  readonly valid: boolean;
}

/** One model's part of a load. */
export interface ModelFigures {
  readonly attainment: number;
  readonly latency_ms: Percentiles;
  readonly predicted_within_25: number | null;
}

export interface CapacityFigures {
  /** Largest scale found at which ≥ 99 % were on time; 0 where none was. */
  readonly scale: number;
  /** Requests with deadlines a second at that scale. */
  readonly per_s: number;
  /** Why no larger scale was found: requests missed their deadlines, or the load generator could not follow. */
  readonly limit: "deadlines" | "generator" | "range";
  readonly probes: readonly LoadFigures[];
}

/** One set of models. */
export interface SetResult {
  /** Deadlines by model. */
  readonly slo_ms: Readonly<Record<string, number>>;
  readonly device_share_at_scale_1: number;
  readonly capacity: CapacityFigures;
  /** At the share of the capacity that `loaded_share` names. */
  readonly loaded: LoadFigures;
  /** The same with best-effort work of `fill_model` in all slack: its queue is never empty, and the device should never idle. */
  readonly filled: LoadFigures;
  readonly fill_model: string;
  /** The simulator's account of the same scenarios. */
  readonly simulated: {
    readonly capacity_scale: number;
    readonly loaded: SimulatedFigures;
    readonly filled: SimulatedFigures;
  };
  readonly round_robin: RoundRobinResult | null;
}

export interface SimulatedFigures {
  readonly attainment: number;
  readonly latency_ms_p99: number;
  readonly device_busy_share: number;
  readonly best_effort_items_per_s: number;
}

export interface RoundRobinResult {
  readonly policy: string;
  readonly capacity: CapacityFigures;
  /** At the scale at which the daemon's own scheduler was measured as `loaded`. */
  readonly loaded: LoadFigures;
}

export interface AloneResult {
  readonly capacity: Readonly<Record<string, CapacityFigures>>;
  /** The scale that ideal time slices would carry, each model alone for its part: 1 / Σ 1 / c. Null where a c was not found. */
  readonly slices_scale: number | null;
  /** Devices of their own that the models would need for what the shared one carries: Σ ⌈shared scale / c⌉. */
  readonly devices_needed: number | null;
}

export interface GpuBenchResult {
  readonly date: string;
  readonly command: string;
  readonly commit: string;
  readonly cpu: string;
  readonly cores: number;
  readonly node: string;
  readonly device: DaemonStatus["device"];
  readonly loaded_share: number;
  readonly profiles_ms: Readonly<Record<string, Points>>;
  readonly ready_s: number;
  readonly added_latency: readonly BudgetLine[];
  readonly sets: Readonly<Record<string, SetResult>>;
  readonly alone: AloneResult | null;
  /** Sections that were not measured, with the reason. */
  readonly left_out: readonly string[];
}
