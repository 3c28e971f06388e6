/**
 * How many requests with deadlines may be outstanding on a link. A daemon that keeps up answers each of them, if only to say that it sheds
 * it. Where a deadline passes and nothing that was sent since has been answered either, requests wait on their way there, where nobody plans
 * for them: more of them would only wait until whatever is answered is answered too late. So silence narrows the window and answers widen it,
 * as TCP does it with lost packets.
 */
import { type InferCall, nowMs } from "./infer-call.ts";

/** So few are never too many. */
const SIZE_MIN = 4;
/** Silence leaves this share of what was outstanding. */
const NARROWED_SHARE = 0.5;
/** While as many requests are answered as the window holds, it widens by these many, or by that share of itself where this is more. */
const GROWTH = 4;
const GROWTH_SHARE = 0.05;
/**
 * Requests that are given less time may miss their deadlines for the way there and back alone; those that are given more may wait at the
 * daemon for as long, and must not keep others from it. Neither count.
 */
const COUNTED_MS_MIN = 10;
const COUNTED_MS_MAX = 1_000;

export class CongestionWindow {
  readonly #sizeMax: number;
  #size: number;
  /** Of those that count. */
  #outstanding = 0;
  /** When the last one was sent of the requests that have been answered: those before it have been read too. */
  #readUntilMs = Number.NEGATIVE_INFINITY;
  #narrowedMs = Number.NEGATIVE_INFINITY;

  /** @param sizeMax requests that may be outstanding while the daemon keeps up */
  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
    this.#size = sizeMax;
  }

  /** Whether one more request may be sent. */
  get hasRoom(): boolean {
    return this.#outstanding < this.#size;
  }

  sent(call: InferCall): void {
    if (counts(call)) this.#outstanding++;
  }

  /** An answer or an error came, if only after the deadline. */
  answered(call: InferCall): void {
    this.#readUntilMs = Math.max(this.#readUntilMs, call.sentMs);
    if (!counts(call)) return;
    this.#outstanding--;
    if (call.remainingMs > 0)
      this.#size = Math.min(this.#sizeMax, this.#size + Math.max(GROWTH / this.#size, GROWTH_SHARE));
  }

  /**
   * Its deadline has passed without an answer, as far as this process has read them: one that has no time to read answers is not to ask for
   * more either.
   */
  overdue(call: InferCall): void {
    // What was sent before it was last narrowed doesn't say how the daemon fares since.
    if (!counts(call) || call.sentMs <= Math.max(this.#readUntilMs, this.#narrowedMs)) return;
    if (this.#outstanding <= SIZE_MIN) return;
    this.#narrowedMs = nowMs();
    this.#size = Math.max(SIZE_MIN, Math.min(this.#size, this.#outstanding) * NARROWED_SHARE);
  }

  /** Nobody waits for it any more. */
  abandoned(call: InferCall): void {
    if (counts(call)) this.#outstanding--;
  }

  /** There is a new connection, of which nothing is known. */
  reconnected(): void {
    this.#size = this.#sizeMax;
  }
}

function counts(call: InferCall): boolean {
  const deadlineMs = call.settings.deadlineMs ?? 0;
  return call.urgency === "deadline" && deadlineMs >= COUNTED_MS_MIN && deadlineMs <= COUNTED_MS_MAX;
}
