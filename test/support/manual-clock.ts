import type { Clock } from "../../daemon/engine/ports.ts";

/** A clock moved by hand; its timer fires while it is moved. */
export class ManualClock implements Clock {
  #nowUs = 0;
  #timer: { readonly atUs: number; readonly fn: () => void } | null = null;

  nowUs(): number {
    return this.#nowUs;
  }

  /** When the timer is due; null where none is armed. */
  get dueUs(): number | null {
    return this.#timer?.atUs ?? null;
  }

  wakeAt(atUs: number | null, fn: () => void): void {
    this.#timer = atUs === null ? null : { atUs, fn };
  }

  /** Moves to that time, firing the timer on the way as often as it is armed for a time up to there. */
  moveTo(atUs: number): void {
    if (atUs < this.#nowUs) throw new Error(`the clock is at ${this.#nowUs} and can't go back to ${atUs}`);
    while (this.#timer !== null && this.#timer.atUs <= atUs) {
      const { atUs: dueUs, fn } = this.#timer;
      this.#timer = null;
      this.#nowUs = Math.max(this.#nowUs, dueUs);
      fn();
    }
    this.#nowUs = atUs;
  }

  advance(us: number): void {
    this.moveTo(this.#nowUs + us);
  }
}
