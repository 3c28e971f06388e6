/** Waiting times between attempts that double, and start over once things have gone well for a while. */

export interface BackoffOptions {
  readonly firstMs: number;
  readonly mostMs: number;
  /** After this long without a call the next wait is the first again. */
  readonly resetMs: number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #nextMs: number;
  #lastAtMs = 0;
  #timer: NodeJS.Timeout | null = null;
  #wake: () => void = () => {};

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#nextMs = options.firstMs;
  }

  /** Resolves after the next waiting time, or when cancelled. */
  async wait(): Promise<void> {
    const { firstMs, mostMs, resetMs } = this.#options;
    if (Date.now() - this.#lastAtMs > resetMs) this.#nextMs = firstMs;
    const delayMs = this.#nextMs;
    this.#nextMs = Math.min(mostMs, delayMs * 2);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#timer = setTimeout(resolve, delayMs);
    });
    this.#lastAtMs = Date.now();
  }

  cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#wake();
  }
}
