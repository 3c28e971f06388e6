import type { HangLimits, Timer } from "./hang-limits.ts";
import type { ThreadChannel } from "./lane-host.ts";

/** A thread that is waited for. */
export interface WatchedThread {
  /** null while it has none. */
  readonly channel: ThreadChannel | null;
  /** Whether it waits for its turn to execute, which it gets when no batch of other threads wants to. */
  readonly takesTurns: boolean;
}

/** Nobody yet who could tell of something. */
export const NO_THREAD: WatchedThread = { channel: null, takesTurns: false };

/** Watches over one thread at a time, while it loads, warms or unloads: one that is silent for too long is hung. */
export class SilenceWatch {
  readonly #limits: HangLimits;
  readonly #hung: (reason: string, takesTurns: boolean) => void;
  #watched: (WatchedThread & { readonly timer: Timer }) | null = null;

  /** @param hung is to end the lane, so that what waits for it ends as after a crash; told whether the thread may have waited for its turn */
  constructor(limits: HangLimits, hung: (reason: string, takesTurns: boolean) => void) {
    this.#limits = limits;
    this.#hung = hung;
  }

  get watching(): boolean {
    return this.#watched !== null;
  }

  /** A thread told of something: that others are alive says nothing of the one that is watched. */
  heard(channel: ThreadChannel): void {
    if (this.#watched?.channel === channel) this.#watched.timer.restart();
  }

  /** The thread waits for turns from now on. */
  takesTurns(channel: ThreadChannel): void {
    if (this.#watched?.channel === channel) this.#watched = { ...this.#watched, takesTurns: true };
  }

  /** A batch of any thread has ended: what waits for its turn may have waited for that. */
  turnPassed(): void {
    if (this.#watched?.takesTurns) this.#watched.timer.restart();
  }

  async during<T>(what: string, thread: WatchedThread, work: () => Promise<T>): Promise<T> {
    const { loadMs, startTimer } = this.#limits;
    const timer = startTimer(loadMs, () => {
      this.#hung(`it gave no sign of life for ${loadMs} ms while ${what}`, this.#watched?.takesTurns ?? false);
    });
    this.#watched = { ...thread, timer };
    try {
      return await work();
    } finally {
      timer.cancel();
      this.#watched = null;
    }
  }
}
