import type { StartTimer } from "../../daemon/device/hang-limits.ts";

interface ManualTimer {
  readonly ms: number;
  dueMs: number;
  readonly fn: () => void;
}

/** Timers moved by hand. */
export class ManualTimers {
  #nowMs = 0;
  readonly #timers = new Set<ManualTimer>();

  /** Limits of the timers that run. */
  get running(): number[] {
    return [...this.#timers].map(({ ms }) => ms);
  }

  readonly start: StartTimer = (ms, fn) => {
    const timer: ManualTimer = { ms, dueMs: this.#nowMs + ms, fn };
    this.#timers.add(timer);
    return {
      restart: () => {
        timer.dueMs = this.#nowMs + ms;
        this.#timers.add(timer);
      },
      cancel: () => void this.#timers.delete(timer),
    };
  };

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const timer of [...this.#timers]) {
      if (timer.dueMs > this.#nowMs) continue;
      this.#timers.delete(timer);
      timer.fn();
    }
  }
}
