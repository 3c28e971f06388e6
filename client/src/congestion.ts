/**
 * How many requests with deadlines may be outstanding on a link. A daemon that keeps up answers each of them, if only to say that it sheds
 * it, and says so where it is late itself. Where a deadline passes and nothing has come that was sent since, requests wait on their way
 * there, where nobody plans for them: more of them would only wait until whatever is answered is answered too late. So silence narrows the
 * window and answers widen it, as TCP does it with lost packets.
 */
import { type InferCall, nowMs } from "./infer-call.ts";

/** So few are never too many. */
const SIZE_MIN = 4;
/** Silence leaves this share of what was outstanding. */
const NARROWED_SHARE = 0.5;
/** While as many requests are answered as the window holds, it widens by these many, or by that share of itself where this is more. */
const GROWTH = 4;
const GROWTH_SHARE = 0.05;
/** Without silence for so long the daemon keeps up again. */
const RECOVERED_MS = 1_000;
const RECOVERED_GROWTH_SHARE = 1;
/** Those that have more time may well wait at the daemon for as long: they say nothing, and must not keep others from it. */
const COUNTED_MS_MAX = 1_000;
/** Nobody can tell silence from the usual time for an answer where a request has less than this many times that. */
const USUAL_TIMES_MIN = 2;

export class CongestionWindow {
  readonly #sizeMax: number;
  #size: number;
  /** Of those that count. */
  #outstanding = 0;
  /** When the last one was sent of the requests that have been answered: those before it have been read too. */
  #readUntilMs = Number.NEGATIVE_INFINITY;
  /** The least time that an answer took on this connection. */
  #fastestMs = Number.POSITIVE_INFINITY;
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

  /** Its deadline has passed, and what has arrived was read. */
  overdue(call: InferCall): void {
    if (!counts(call) || call.sentMs <= this.#readUntilMs) return;
    call.silent = call.deadlineAt! - call.sentMs >= USUAL_TIMES_MIN * this.#fastestMs;
  }

  /** @param late where the answer comes late, it need not be for its way: the daemon says that it was late itself, or refuses */
  answered(call: InferCall, late: boolean): void {
    const now = nowMs();
    this.#readUntilMs = Math.max(this.#readUntilMs, call.sentMs);
    this.#fastestMs = Math.min(this.#fastestMs, now - call.sentMs);
    if (!counts(call)) return;
    this.#outstanding--;
    if (!call.silent && call.remainingMs > 0) this.#widen(now);
    else if (call.silent && !late) this.#narrow(call, now);
  }

  /** Nobody waits for it any more. */
  abandoned(call: InferCall): void {
    if (!counts(call)) return;
    this.#outstanding--;
    if (call.silent && call.sentMs > this.#readUntilMs) this.#narrow(call, nowMs());
  }

  /** There is a new connection, of which nothing is known. */
  reconnected(): void {
    this.#size = this.#sizeMax;
    this.#fastestMs = Number.POSITIVE_INFINITY;
  }

  #widen(now: number): void {
    const share = now - this.#narrowedMs > RECOVERED_MS ? RECOVERED_GROWTH_SHARE : GROWTH_SHARE;
    this.#size = Math.min(this.#sizeMax, this.#size + Math.max(GROWTH / this.#size, share));
  }

  #narrow(call: InferCall, now: number): void {
    // What was sent before it was last narrowed doesn't say how the daemon fares since.
    const outstanding = this.#outstanding + 1;
    if (call.sentMs < this.#narrowedMs || outstanding <= SIZE_MIN) return;
    this.#narrowedMs = now;
    this.#size = Math.max(SIZE_MIN, Math.min(this.#size, outstanding) * NARROWED_SHARE);
  }
}

function counts(call: InferCall): boolean {
  return call.urgency === "deadline" && call.deadlineAt! - call.sentMs <= COUNTED_MS_MAX;
}
