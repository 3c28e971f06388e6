/** What the comparison writes; keys are those of its JSON. */
import { median } from "../../daemon/device/profile.ts";
import type { TritonSettings } from "./settings.ts";

export interface LoadFigures {
  /** What small batches would take of the device. */
  readonly load: number;
  readonly seed: number;
  readonly offered_per_s: number;
  readonly attainment: number;
  readonly attainment_worst_model: number;
  readonly attainment_by_model: Readonly<Record<string, number>>;
  readonly best_effort_items_per_s: number;
  readonly generator_lag_p99_ms: number;
}

export interface Trial {
  readonly settings: TritonSettings;
  readonly loads: readonly LoadFigures[];
}

/** All loads of one server. */
export interface Contestant {
  readonly name: string;
  readonly settings: TritonSettings | null;
  readonly loads: readonly LoadFigures[];
  /** With a best-effort backlog beside them that never ends. */
  readonly filled: readonly LoadFigures[];
}

export interface TritonResult {
  readonly date: string;
  readonly commit: string;
  readonly command: string;
  readonly cpu: string;
  readonly cores: number;
  readonly node: string;
  readonly measure_s: number;
  readonly models: readonly {
    readonly name: string;
    readonly slo_ms: number;
    readonly max_batch: number;
    readonly rate_per_s_at_load_1: number;
  }[];
  readonly trials: readonly Trial[];
  readonly contestants: readonly Contestant[];
}

/** Medians over the rounds at one load, and the range of the share on time. */
export interface Summary {
  readonly load: number;
  readonly offered_per_s: number;
  readonly attainment: number;
  readonly attainment_least: number;
  readonly attainment_most: number;
  readonly attainment_worst_model: number;
  readonly best_effort_items_per_s: number;
  /** A request's time runs from when it should have been sent, so that it counts for whoever shares the cores with the generator. */
  readonly generator_lag_p99_ms: number;
}

export function summaries(loads: readonly LoadFigures[]): Summary[] {
  const measured = [...new Set(loads.map(({ load }) => load))].sort((a, b) => a - b);
  return measured.map((load) => {
    const rounds = loads.filter((figures) => figures.load === load);
    const shares = rounds.map(({ attainment }) => attainment);
    return {
      load,
      offered_per_s: median(rounds.map(({ offered_per_s }) => offered_per_s)),
      attainment: median(shares),
      attainment_least: Math.min(...shares),
      attainment_most: Math.max(...shares),
      attainment_worst_model: median(rounds.map(({ attainment_worst_model }) => attainment_worst_model)),
      best_effort_items_per_s: median(rounds.map(({ best_effort_items_per_s }) => best_effort_items_per_s)),
      generator_lag_p99_ms: median(rounds.map(({ generator_lag_p99_ms }) => generator_lag_p99_ms)),
    };
  });
}

/** The trial whose loads had most on time. */
export function bestTrial(trials: readonly Trial[]): Trial {
  return trials.reduce((best, trial) => (meanAttainment(trial) > meanAttainment(best) ? trial : best));
}

export function meanAttainment({ loads }: Trial): number {
  return loads.reduce((sum, { attainment }) => sum + attainment, 0) / loads.length;
}
