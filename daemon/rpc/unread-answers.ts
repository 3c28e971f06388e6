/** Answers that exist and that their callers have not taken: counted apart from requests, so that who does not read stops nobody else. */
import { RpcError } from "./errors.ts";

export class UnreadAnswers {
  readonly #max: number;
  #held = 0;
  /** By the connection's peer; without those that hold nothing. */
  readonly #byPeer = new Map<string, number>();
  readonly #waiters = new Set<() => void>();

  /** @param max bytes that all connections may hold together */
  constructor(max: number) {
    this.#max = max;
  }

  /** Bytes of all connections. */
  get held(): number {
    return this.#held;
  }

  /**
   * Counts an answer of `bytes`, to be given back once it is taken. A connection may hold as much as it leaves free: the first
   * that does not read takes half of all there is, the next half of the rest.
   *
   * @throws RpcError where there is no room: the answer is to be dropped
   */
  take(peer: string, bytes: number): void {
    const own = this.#byPeer.get(peer) ?? 0;
    const free = this.#max - this.#held;
    // A single answer may be large, and one that is larger than all there is goes out when it is the only one.
    const fits = own === 0 ? bytes <= free || this.#held === 0 : own + bytes <= free - bytes;
    if (!fits) {
      throw new RpcError(
        "RESOURCE_EXHAUSTED",
        "unread_answers",
        `the answer's ${bytes} bytes were dropped: of answers that were not read, this connection holds ${own} bytes and all connections ${this.#held}, and inflight_bytes_max is ${this.#max}; read answers as they come, or send fewer requests at once`,
      );
    }
    this.takeAnyway(peer, bytes);
  }

  /** For what can't be dropped: the sentence that says so. */
  takeAnyway(peer: string, bytes: number): void {
    this.#held += bytes;
    this.#byPeer.set(peer, (this.#byPeer.get(peer) ?? 0) + bytes);
  }

  give(peer: string, bytes: number): void {
    if (bytes === 0) return;
    const left = (this.#byPeer.get(peer) ?? 0) - bytes;
    if (left < 0) throw new Error(`unread answers: ${-left} bytes more were given back than taken`);
    if (left === 0) this.#byPeer.delete(peer);
    else this.#byPeer.set(peer, left);
    this.#held -= bytes;
    if (this.#held > 0) return;
    for (const resolve of this.#waiters) resolve();
    this.#waiters.clear();
  }

  /** Resolves as soon as every answer has been taken. */
  none(): Promise<void> {
    if (this.#held === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.add(resolve));
  }
}
