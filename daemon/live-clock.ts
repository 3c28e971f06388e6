import type { Clock } from "./engine/ports.ts";

/** Node takes longer times for 1 ms. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** A turn of the event loop that takes longer had something to do. */
const EMPTY_TURN_US_MAX = 50;

/** The process's monotonic clock, in integer microseconds since the process started. */
export class LiveClock implements Clock {
  #generation = 0;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #turnedUs = 0;

  nowUs(): number {
    return Math.round(performance.now() * 1000);
  }

  /** For how long the process has had nothing to do, microseconds: it slept, or turned its event loop until a wake-up. */
  idleUs(): number {
    return Math.round(performance.nodeTiming.idleTime * 1000) + this.#turnedUs;
  }

  wakeAt(atUs: number | null, fn: () => void): void {
    this.#generation++;
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    if (atUs !== null) this.#arm(atUs, fn, this.#generation);
  }

  #arm(atUs: number, fn: () => void, generation: number): void {
    const armedUs = this.nowUs();
    const leftUs = atUs - armedUs;
    const again = () => {
      if (generation !== this.#generation) return;
      const nowUs = this.nowUs();
      if (leftUs < 1000 && nowUs - armedUs <= EMPTY_TURN_US_MAX) this.#turnedUs += nowUs - armedUs;
      if (nowUs >= atUs) fn();
      else this.#arm(atUs, fn, generation);
    };
    // Node's timers count whole milliseconds and run late rather than early; the last part of one is spent turning the
    // event loop, so that a wake-up is late by microseconds and not by a millisecond.
    if (leftUs < 1000) this.#immediate = setImmediate(again);
    else this.#timer = setTimeout(again, Math.min(TIMER_MS_MAX, Math.floor(leftUs / 1000)));
  }
}
