/** What a simulated run reports; keys are those of the result JSON. Times in milliseconds, shares in 0..1. */

export interface LatencyMs {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** What became of the requests with deadlines that arrived in the measured window. */
export interface Figures {
  readonly offered: number;
  readonly on_time: number;
  readonly late: number;
  readonly shed: number;
  readonly shed_causes: Readonly<Record<string, number>>;
  /** Of the answers, those that the model's fallback gave. */
  readonly fallback: number;
  /** On-time answers as a share of the requests offered; 1 where none were. */
  readonly attainment: number;
  readonly goodput_per_s: number;
  /** Of all answers, late ones included, from arrival; 0 where there was none. */
  readonly latency_ms: LatencyMs;
  /** Mean items of the model's batches that started in the window; null where none did. */
  readonly batch_size_mean: number | null;
  readonly best_effort: { readonly answered: number; readonly items_per_s: number };
}

/** How a device spent the measured window, all its lanes together. */
export interface DeviceFigures {
  readonly busy_share: number;
  /** Share of the time spent on batches without any deadline. */
  readonly best_effort_share: number;
  readonly batch_size_mean: number;
  readonly executions: number;
  /** Executed items that were padding, as a share of all executed. */
  readonly padding_share: number;
}

export interface SimulationResult {
  readonly scenario: string;
  readonly policy: string;
  readonly seed: number;
  readonly scale: number;
  readonly warmup_s: number;
  readonly measured_s: number;
  /** Requests a second that the planning bound allows at this mix; null where it says nothing. */
  readonly planning_bound_per_s: number | null;
  /** The rate asked for (not that drawn by the seed) as a share of the planning bound. */
  readonly load: number | null;
  readonly total: Figures;
  readonly models: Readonly<Record<string, Figures>>;
  /** Attainment of the model that does worst. */
  readonly attainment_worst_model: number;
  readonly devices: Readonly<Record<string, DeviceFigures>>;
}
