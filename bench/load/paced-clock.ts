import { Worker } from "node:worker_threads";
import type { Clock } from "../../daemon/engine/ports.ts";

/** The slots of the memory shared between the clock and its thread. */
export const SEQUENCE = 0;
/** Nothing is due. */
export const NEVER = -1n;

export interface PacerMemory {
  /** `[SEQUENCE]`: raised and notified on whenever the due time changes. */
  readonly control: Int32Array<SharedArrayBuffer>;
  /** `[0]`: the next due time in nanoseconds of the process's monotonic clock, or `NEVER`. */
  readonly due: BigInt64Array<SharedArrayBuffer>;
}

/**
 * A clock whose timer is late by tens of microseconds and costs nothing while it waits. Node's timers count whole
 * milliseconds, and a load generator that spins away the rest of each would take a core from the daemon under test; so a
 * thread sleeps in a futex until the due time, then wakes the event loop with a message.
 */
export class PacedClock implements Clock {
  readonly #memory: PacerMemory = {
    control: new Int32Array(new SharedArrayBuffer(4)),
    due: new BigInt64Array(new SharedArrayBuffer(8)),
  };
  readonly #thread: Worker;
  readonly #origin: bigint = process.hrtime.bigint();
  #armed: { readonly atUs: number; readonly fn: () => void } | null = null;

  constructor() {
    this.#memory.due[0] = NEVER;
    const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
    this.#thread = new Worker(new URL(`./pacer-thread${extension}`, import.meta.url), { workerData: this.#memory });
    this.#thread.on("message", () => this.#ring());
  }

  nowUs(): number {
    return Number((process.hrtime.bigint() - this.#origin) / 1000n);
  }

  wakeAt(atUs: number | null, fn: () => void): void {
    this.#armed = atUs === null ? null : { atUs, fn };
    const due = atUs === null ? NEVER : this.#origin + BigInt(Math.ceil(atUs)) * 1000n;
    Atomics.store(this.#memory.due, 0, due);
    Atomics.add(this.#memory.control, SEQUENCE, 1);
    Atomics.notify(this.#memory.control, SEQUENCE);
  }

  async close(): Promise<void> {
    this.#armed = null;
    await this.#thread.terminate();
  }

  #ring(): void {
    const armed = this.#armed;
    // The message may be about a due time that has been replaced since; the thread will send another for the new one.
    if (armed === null || this.nowUs() < armed.atUs) return;
    this.#armed = null;
    armed.fn();
  }
}
