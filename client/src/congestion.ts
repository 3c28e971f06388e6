/**
 * How many requests with deadlines may be outstanding on a link. A daemon that keeps up answers each of them by its deadline, if only to
 * say that it sheds it. Where nothing comes, it does not even read them in time: further ones would wait on their way, where nobody plans
 * for them, until whatever is answered is answered too late. So silence narrows the window and answers widen it, as TCP does it with lost
 * packets.
 */
import { type InferCall, nowMs } from "./infer-call.ts";

const SIZE_MIN = 4;
/** Silence leaves this share of what was outstanding. */
const NARROWED_SHARE = 0.5;
/** While as many requests are answered as the window holds, it widens by these many, or by that share of itself where this is more. */
const GROWTH = 4;
const GROWTH_SHARE = 0.05;

export class CongestionWindow {
  readonly #sizeMax: number;
  #size: number;
  #outstanding = 0;
  /** When the newest of the requests was sent that have been answered. */
  #readMs = Number.NEGATIVE_INFINITY;
  #narrowedMs = Number.NEGATIVE_INFINITY;

  /** @param sizeMax requests that may be outstanding while the daemon keeps up */
  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
    this.#size = sizeMax;
  }

  /** Whether one more request with a deadline may be sent. */
  get hasRoom(): boolean {
    return this.#outstanding < this.#size;
  }

  sent(call: InferCall): void {
    if (call.urgency === "deadline") this.#outstanding++;
  }

  /** An answer or an error came, if only after the deadline. */
  answered(call: InferCall): void {
    this.#readMs = Math.max(this.#readMs, call.sentMs);
    if (call.urgency !== "deadline") return;
    this.#outstanding--;
    if (call.remainingMs > 0)
      this.#size = Math.min(this.#sizeMax, this.#size + Math.max(GROWTH / this.#size, GROWTH_SHARE));
  }

  /** Its deadline has passed without an answer. */
  overdue(call: InferCall): void {
    // Where a later one was answered, the daemon reads what it is sent: it is this request that takes long. And what was sent before the
    // window was narrowed does not say how the daemon fares since.
    if (call.urgency !== "deadline" || call.sentMs <= this.#readMs || call.sentMs < this.#narrowedMs) return;
    this.#narrowedMs = nowMs();
    this.#size = Math.max(SIZE_MIN, Math.min(this.#size, this.#outstanding) * NARROWED_SHARE);
  }

  /** Nobody waits for it any more. */
  abandoned(call: InferCall): void {
    if (call.urgency === "deadline") this.#outstanding--;
  }

  /** Whatever was outstanding is so no more, and how the next connection fares is not known. */
  reset(): void {
    this.#outstanding = 0;
    this.#size = this.#sizeMax;
  }
}
