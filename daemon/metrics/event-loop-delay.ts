import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import type { DelayStatus } from "../status.ts";

/** The sampling timer's own period, which its figures include. */
const RESOLUTION_MS = 10;
const WINDOW_MS = 10_000;

/** Delay of this thread's event loop over the last ten seconds (at least five of them). */
export class EventLoopDelay {
  readonly #halves: readonly [IntervalHistogram, IntervalHistogram];
  readonly #timer: NodeJS.Timeout;
  /** Index of the histogram that is reset next: the one with the longer past. */
  #older = 0;

  constructor() {
    this.#halves = [
      monitorEventLoopDelay({ resolution: RESOLUTION_MS }),
      monitorEventLoopDelay({ resolution: RESOLUTION_MS }),
    ];
    for (const half of this.#halves) half.enable();
    // Two histograms that are reset in turn: the older one always holds between half a window and a whole one.
    this.#timer = setInterval(() => {
      this.#halves[this.#older]!.reset();
      this.#older = 1 - this.#older;
    }, WINDOW_MS / 2);
    this.#timer.unref();
  }

  /** Milliseconds beyond the moment a timer was due. */
  read(): DelayStatus {
    const histogram = this.#halves[this.#older]!;
    const ms = (ns: number): number => (Number.isFinite(ns) ? Math.max(0, ns / 1e6 - RESOLUTION_MS) : 0);
    const empty = histogram.count === 0;
    return {
      p50: empty ? 0 : ms(histogram.percentile(50)),
      p99: empty ? 0 : ms(histogram.percentile(99)),
      max: empty ? 0 : ms(histogram.max),
    };
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const half of this.#halves) half.disable();
  }
}
