import type { Clock } from "../../daemon/engine/ports.ts";
import { type EventQueue, SimEvent } from "./event-queue.ts";

/** The engine's clock and timer in virtual time. */
export class VirtualClock extends SimEvent implements Clock {
  readonly #events: EventQueue;
  #fn: (() => void) | null = null;

  constructor(events: EventQueue) {
    super();
    this.#events = events;
  }

  nowUs(): number {
    return this.#events.nowUs;
  }

  wakeAt(atUs: number | null, fn: () => void): void {
    this.#fn = fn;
    if (atUs === null) this.#events.cancel(this);
    else this.#events.schedule(this, atUs);
  }

  override fire(): void {
    this.#fn?.();
  }
}
