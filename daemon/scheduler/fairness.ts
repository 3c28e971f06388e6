const WINDOW_US = 5_000_000;
/** A miss rate that lies this far above the mean raises the weight by a factor of e in this time. */
const GAP = 0.1;
const GAP_US = 4_000_000;
/** Without a gap, weights return to 1 over this time. */
const FORGET_US = 60_000_000;
/** Bounds what fairness may cost in requests on time overall: without them, equal misses cost a tenth of it on mixed models. */
const WEIGHT_MIN = 0.5;
const WEIGHT_MAX = 2;

/**
 * How a model fares: its miss rate over an exponential window, and from that the weight that fairness gives it. The
 * weight goes on rising while the model misses more than the mean does, and falling while it misses less.
 */
export class Fairness {
  /** Share of requests that missed their deadline. */
  missRate = 0;
  weight = 1;
  #ended = 0;
  #missed = 0;
  #sinceUs = 0;

  count(missed: boolean): void {
    this.#ended += 1;
    if (missed) this.#missed += 1;
  }

  refresh(meanRate: number, nowUs: number): void {
    const elapsedUs = nowUs - this.#sinceUs;
    if (elapsedUs <= 0) return;
    this.#sinceUs = nowUs;
    const keep = Math.exp(-elapsedUs / WINDOW_US);
    this.#ended *= keep;
    this.#missed *= keep;
    this.missRate = this.#ended > 0 ? this.#missed / this.#ended : 0;
    const rise = ((this.missRate - meanRate) / GAP) * Math.min(1, elapsedUs / GAP_US);
    const next = this.weight ** Math.exp(-elapsedUs / FORGET_US) * Math.exp(rise);
    this.weight = Math.min(WEIGHT_MAX, Math.max(WEIGHT_MIN, next));
  }
}
