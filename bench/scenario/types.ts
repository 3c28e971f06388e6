/** A scenario with every default filled in; field names are those of the file, with their units. */

/** Execution time by batch size: a line (every size its own bucket), or measured points (each a bucket). */
export type ProfileSpec =
  | { readonly alpha_ms: number; readonly beta_ms: number }
  | { readonly points_ms: readonly (readonly [number, number])[] };

/** How requests come: the distribution of the gaps, the mean rate, and how the rate changes over the run. */
export interface ArrivalsSpec {
  readonly process: "poisson" | "gamma" | "uniform";
  readonly rate_per_s: number;
  /** Coefficient of variation of the gaps; gamma only. */
  readonly cv?: number | undefined;
  /** Factors on the rate at seconds from the start of the run: linear in between, constant before and after. */
  readonly curve?: readonly (readonly [number, number])[] | undefined;
}

export interface ScenarioModel {
  readonly name: string;
  readonly max_batch: number;
  readonly slo_ms: number;
  /** Used by the simulator only. */
  readonly profile?: ProfileSpec | undefined;
  /** Absent: the model's requests come from the trace or as best-effort work, if at all. */
  readonly arrivals?: ArrivalsSpec | undefined;
  /** Items of each request: a constant, or drawn evenly from min to max. */
  readonly items: number | { readonly min: number; readonly max: number };
  /** Shapes of one item by input, for inputs whose dimensions vary (a sequence's length); load test only. */
  readonly shapes?: Readonly<Record<string, readonly number[]>> | undefined;
  readonly weight: number;
  /** Share of device time that the model gets even in overload. */
  readonly min_share: number;
  /** Whether requests state their deadline; false leaves it to the model's SLO. */
  readonly explicit_deadlines: boolean;
  /** Whether requests that state no deadline are shed where they would miss the SLO (else demoted and answered late). */
  readonly shed: boolean;
  /** Deadlines are drawn evenly from SLO × [1 − s, 1 + s]. */
  readonly deadline_spread: number;
  readonly cpu_replicas?: { readonly count: number; readonly profile: ProfileSpec } | undefined;
  /** Execution times relative to the profile, as they were measured: drawn from in place of the scenario's noise; simulator only. */
  readonly time_ratios?: readonly number[] | undefined;
  /** Devices that hold the model; absent means all, an empty list means CPU replicas only. */
  readonly devices?: readonly string[] | undefined;
  readonly tenant: string;
  readonly queue_items_max: number;
  /** The model that answers what this one would answer too late; simulator only, a daemon has it from its own settings. */
  readonly fallback?: string | undefined;
}

export interface ScenarioDevice {
  readonly name: string;
  readonly lanes: number;
  /** Execution times on it are the profile's divided by this. */
  readonly speed: number;
}

export interface BestEffortSpec {
  readonly model: string;
  /** A number of requests queued at the start, or "infinite": a new one for each that ends. */
  readonly backlog: "infinite" | number;
  /** Requests kept outstanding by an infinite backlog; 4 × max_batch where absent. */
  readonly outstanding?: number | undefined;
  /** Items of each request; the model's own where absent. */
  readonly items?: number | { readonly min: number; readonly max: number } | undefined;
  readonly tenant: string;
}

export interface TraceSpec {
  /** Relative to the scenario's folder in the file, absolute once read. */
  readonly file: string;
  /** 2 plays the trace in half its time. */
  readonly speed: number;
  /** Model of the scenario by model of the trace, where the names differ. */
  readonly models?: Readonly<Record<string, string>> | undefined;
}

export interface Scenario {
  readonly name: string;
  readonly description?: string | undefined;
  readonly seed: number;
  readonly warmup_s: number;
  readonly measure_s: number;
  readonly devices: readonly ScenarioDevice[];
  readonly models: readonly ScenarioModel[];
  readonly trace?: TraceSpec | undefined;
  readonly best_effort: readonly BestEffortSpec[];
  /** Standard deviation of execution times relative to the profile (normal, cut at three); simulator only. */
  readonly noise: number;
  /** The scheduler is told profiles off by a factor drawn for each model from 1 ± this; simulator only. */
  readonly profile_error: number;
  /** Whether misses raise a model's weight until all miss alike. */
  readonly fairness: boolean;
  /** Share of device time that queued best-effort work gets at least. */
  readonly best_effort_share_min: number;
  readonly tenant_weights: Readonly<Record<string, number>>;
  /** Time to gather a batch into a lane's memory; simulator only. */
  readonly gather_ms: number;
  /** Time that a device stays idle before a batch that was not started behind another executes; simulator only. */
  readonly handover_ms: number;
}
