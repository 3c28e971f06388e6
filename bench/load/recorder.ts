import { build, type Histogram } from "hdr-histogram-js";
import type { CallOutcome } from "./target.ts";

/** Percentiles in milliseconds; all 0 where nothing was recorded. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** What became of the requests with deadlines, and what best-effort work got done beside them. */
export interface Figures {
  /** Requests sent in the measured window; the sum of `on_time`, `late`, `shed` and `errors`. */
  readonly offered: number;
  readonly on_time: number;
  readonly late: number;
  readonly shed: number;
  readonly errors: number;
  readonly shed_causes: Readonly<Record<string, number>>;
  readonly error_codes: Readonly<Record<string, number>>;
  /** Of the answers, those that a model's fallback gave, and those from the daemon's cache. */
  readonly fallback: number;
  readonly cached: number;
  /** On-time answers as a share of the requests offered; 1 where none were. */
  readonly attainment: number;
  readonly goodput_per_s: number;
  /** Of all answers, late ones included, from the scheduled time of sending to the answer's receipt. */
  readonly latency_ms: Percentiles;
  /** Mean over executions, as far as the answers tell; null where no answer carried timings. */
  readonly batch_size_mean: number | null;
  readonly best_effort: BestEffortFigures;
}

export interface BestEffortFigures {
  readonly answered: number;
  readonly items_per_s: number;
  readonly shed: number;
  readonly errors: number;
}

/** Up to ten minutes, to three significant digits, in microseconds. */
export function latencyHistogram(): Histogram {
  return build({ lowestDiscernibleValue: 1, highestTrackableValue: 600_000_000, numberOfSignificantValueDigits: 3 });
}

export function percentiles(histogram: Histogram): Percentiles {
  const at = (percentile: number): number =>
    histogram.totalCount === 0 ? 0 : Math.min(histogram.getValueAtPercentile(percentile), histogram.maxValue) / 1000;
  return { p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: at(100) };
}

/** Counts the ends of one model's requests, or of all models'. */
export class Recorder {
  readonly latencyUs: Histogram = latencyHistogram();
  readonly #shedCauses = new Map<string, number>();
  readonly #errorCodes = new Map<string, number>();
  #offered = 0;
  #onTime = 0;
  #late = 0;
  #items = 0;
  #executions = 0;
  #otherwise = { fallback: 0, cached: 0 };
  #bestEffort = { answered: 0, items: 0, shed: 0, errors: 0 };

  /** A request with a deadline has ended, `latencyUs` after its scheduled sending. */
  ended(outcome: CallOutcome, items: number, latencyUs: number, deadlineUs: number): void {
    this.#offered++;
    if (outcome.type === "shed") {
      count(this.#shedCauses, outcome.cause);
    } else if (outcome.type === "error") {
      count(this.#errorCodes, outcome.code);
    } else {
      if (outcome.otherwise !== undefined) this.#otherwise[outcome.otherwise]++;
      if (latencyUs <= deadlineUs) this.#onTime++;
      else this.#late++;
      this.latencyUs.recordValue(Math.max(0, Math.round(latencyUs)));
      this.#batched(outcome, items);
    }
  }

  bestEffortEnded(outcome: CallOutcome, items: number): void {
    if (outcome.type === "shed") this.#bestEffort.shed++;
    else if (outcome.type === "error") this.#bestEffort.errors++;
    else {
      this.#bestEffort.answered++;
      this.#bestEffort.items += items;
      this.#batched(outcome, items);
    }
  }

  figures(measuredS: number): Figures {
    const perSecond = (n: number): number => (measuredS > 0 ? n / measuredS : 0);
    return {
      offered: this.#offered,
      on_time: this.#onTime,
      late: this.#late,
      shed: sum(this.#shedCauses),
      errors: sum(this.#errorCodes),
      shed_causes: sorted(this.#shedCauses),
      error_codes: sorted(this.#errorCodes),
      ...this.#otherwise,
      attainment: this.#offered === 0 ? 1 : this.#onTime / this.#offered,
      goodput_per_s: perSecond(this.#onTime),
      latency_ms: percentiles(this.latencyUs),
      batch_size_mean: this.#executions === 0 ? null : this.#items / this.#executions,
      best_effort: {
        answered: this.#bestEffort.answered,
        items_per_s: perSecond(this.#bestEffort.items),
        shed: this.#bestEffort.shed,
        errors: this.#bestEffort.errors,
      },
    };
  }

  /** Each request stands for its part of an execution, so that large batches, which many requests report, count once. */
  #batched(outcome: CallOutcome & { type: "answered" }, items: number): void {
    if (outcome.timings === null || outcome.timings.batchItems <= 0) return;
    this.#items += items;
    this.#executions += items / outcome.timings.batchItems;
  }
}

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function sum(counts: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const n of counts.values()) total += n;
  return total;
}

function sorted(counts: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));
}
