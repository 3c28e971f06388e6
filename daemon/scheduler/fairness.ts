const WINDOW_US = 15_000_000;
/** Added to both miss rates that are compared, so that a handful of misses does not count for much. */
const FLOOR = 0.003;
const WEIGHT_MIN = 0.25;
const WEIGHT_MAX = 30;

/** Share of requests that missed their deadline, over an exponential window. */
export class MissRate {
  rate = 0;
  #ended = 0;
  #missed = 0;
  #sinceUs = 0;

  count(missed: boolean): void {
    this.#ended += 1;
    if (missed) this.#missed += 1;
  }

  refresh(nowUs: number): void {
    const keep = Math.exp((this.#sinceUs - nowUs) / WINDOW_US);
    this.#sinceUs = nowUs;
    this.#ended *= keep;
    this.#missed *= keep;
    this.rate = this.#ended > 0 ? this.#missed / this.#ended : 0;
  }
}

/** Weight that pulls a model's miss rate towards the mean of all. */
export function fairWeight(rate: number, meanRate: number): number {
  return Math.min(WEIGHT_MAX, Math.max(WEIGHT_MIN, (rate + FLOOR) / (meanRate + FLOOR)));
}
