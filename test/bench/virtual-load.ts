/** Virtual time and a target that answers in it, for tests of the load generator. */
import { setImmediate as turn } from "node:timers/promises";
import type { Call, CallOutcome, Target } from "../../bench/load/target.ts";
import type { Clock } from "../../daemon/engine/ports.ts";

export class VirtualClock implements Clock {
  #nowUs = 0;
  #wake: { readonly atUs: number; readonly fn: () => void } | null = null;
  readonly #due: { readonly atUs: number; readonly fn: () => void }[] = [];
  /** How late the timer rings, as a busy generator's would. */
  wakeDelayUs = 0;

  nowUs(): number {
    return this.#nowUs;
  }

  wakeAt(atUs: number | null, fn: () => void): void {
    this.#wake = atUs === null ? null : { atUs: Math.max(atUs + this.wakeDelayUs, this.#nowUs), fn };
  }

  /** Any number of these beside the one timer. */
  after(us: number, fn: () => void): void {
    this.#due.push({ atUs: this.#nowUs + us, fn });
    this.#due.sort((a, b) => a.atUs - b.atUs);
  }

  /** Lets time pass until the promise is settled; fails where nothing is left to happen before that. */
  async until<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    for (;;) {
      await turn();
      if (settled) return promise;
      const first = this.#due[0];
      const wake = this.#wake;
      if (first !== undefined && (wake === null || first.atUs <= wake.atUs)) {
        this.#due.shift();
        this.#nowUs = first.atUs;
        first.fn();
      } else if (wake !== null) {
        this.#wake = null;
        this.#nowUs = wake.atUs;
        wake.fn();
      } else throw new Error(`nothing is due after ${this.#nowUs} µs and the run has not ended`);
    }
  }
}

export interface SentCall extends Call {
  readonly sentUs: number;
}

/** Answers each call after as long as it is told; `null` never. */
export class VirtualTarget implements Target {
  readonly calls: SentCall[] = [];
  readonly #clock: VirtualClock;
  readonly #behave: (call: Call, n: number) => { readonly afterUs: number; readonly outcome: CallOutcome } | null;

  constructor(
    clock: VirtualClock,
    behave: (call: Call, n: number) => { readonly afterUs: number; readonly outcome: CallOutcome } | null,
  ) {
    this.#clock = clock;
    this.#behave = behave;
  }

  send(call: Call): Promise<CallOutcome> {
    const sentUs = this.#clock.nowUs();
    const behaviour = this.#behave(call, this.calls.length);
    this.calls.push({ ...call, sentUs });
    return new Promise((resolve) => {
      if (behaviour !== null) this.#clock.after(behaviour.afterUs, () => resolve(behaviour.outcome));
    });
  }
}

export const ANSWERED: CallOutcome = { type: "answered", timings: null };
