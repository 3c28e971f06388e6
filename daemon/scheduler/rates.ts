/** Time constant of the arrival-rate window. */
const WINDOW_US = 2_000_000;
/** Of random arrivals one in twenty is waited for as many gaps as this, or more. */
const GAPS_AWAITED_MAX = 3;

/** Arrivals of items per microsecond over an exponential window, unbiased while the window is still filling. */
export class ArrivalRate {
  #count = 0;
  #countedUs = 0;
  #firstUs = -1;
  #first = 0;
  #last = 0;

  observe(items: number, nowUs: number): void {
    this.#last = items;
    if (this.#firstUs < 0) {
      this.#firstUs = nowUs;
      this.#first = items;
      this.#countedUs = nowUs;
      return;
    }
    this.#count = this.#count * Math.exp((this.#countedUs - nowUs) / WINDOW_US) + items;
    this.#countedUs = nowUs;
  }

  /** The most items per microsecond that go with the time since the last: a burst is over before the window forgets it. */
  limit(nowUs: number): number {
    return (GAPS_AWAITED_MAX * this.#last) / Math.max(1, nowUs - this.#countedUs);
  }

  /** Items per microsecond at `nowUs`. */
  read(nowUs: number): number {
    if (this.#firstUs < 0) return 0;
    const age = nowUs - this.#firstUs;
    // A window this young says little: the first arrival alone is counted as one per tenth of the window.
    const filled = Math.max(1 - Math.exp(-age / WINDOW_US), 0.1);
    const count = this.#count * Math.exp((this.#countedUs - nowUs) / WINDOW_US);
    return (count + (age < 0.1 * WINDOW_US ? this.#first * (1 - age / (0.1 * WINDOW_US)) : 0)) / (WINDOW_US * filled);
  }
}
