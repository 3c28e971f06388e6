import type { HangLimits, Timer } from "./hang-limits.ts";

/** Watches over one load at a time: a lane that tells of nothing for too long is hung. */
export class SilenceWatch {
  readonly #limits: HangLimits;
  readonly #hung: (reason: string) => void;
  #timer: Timer | null = null;

  /** @param hung is to end the lane, so that what waits for it ends as after a crash */
  constructor(limits: HangLimits, hung: (reason: string) => void) {
    this.#limits = limits;
    this.#hung = hung;
  }

  get watching(): boolean {
    return this.#timer !== null;
  }

  /** The lane told of something. */
  heard(): void {
    this.#timer?.restart();
  }

  async during<T>(what: string, work: () => Promise<T>): Promise<T> {
    const { loadMs, startTimer } = this.#limits;
    const timer = startTimer(loadMs, () => this.#hung(`it gave no sign of life for ${loadMs} ms while ${what}`));
    this.#timer = timer;
    try {
      return await work();
    } finally {
      timer.cancel();
      this.#timer = null;
    }
  }
}
