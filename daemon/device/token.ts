/**
 * The execution token of a lane: whoever holds it executes, so that the device runs one batch at a time and measured times
 * are those of a device that does nothing else. Shared by the session threads of a lane; serving goes before warming up.
 */

/** Turns are numbered as threads ask for them, and come in that order; as a rule it is that in which the daemon sent the batches. */
const NEXT_TURN = 0;
const CURRENT_TURN = 1;
const SERVING_WAITS = 2;

export type TurnKind = "serve" | "warm-up";

export function createToken(): SharedArrayBuffer {
  return new SharedArrayBuffer(3 * Int32Array.BYTES_PER_ELEMENT);
}

/** One thread's way to the token. Turns of the same thread queue without blocking it; other threads' turns block it. */
export class ExecutionToken {
  readonly #cells: Int32Array;
  #ownTurn = false;
  readonly #waiting: Record<TurnKind, (() => void)[]> = { serve: [], "warm-up": [] };

  constructor(shared: SharedArrayBuffer) {
    this.#cells = new Int32Array(shared);
  }

  /** Runs `execute` while holding the token. */
  async hold<T>(kind: TurnKind, execute: () => Promise<T>): Promise<T> {
    if (this.#ownTurn) await new Promise<void>((resolve) => this.#waiting[kind].push(resolve));
    this.#ownTurn = true;
    try {
      if (kind === "serve") this.#lockToServe();
      else this.#lockToWarmUp();
      try {
        return await execute();
      } finally {
        this.#unlock();
      }
    } finally {
      const next = this.#waiting.serve.shift() ?? this.#waiting["warm-up"].shift();
      // Where a turn follows, the thread's turn passes on without becoming free in between.
      if (next === undefined) this.#ownTurn = false;
      else next();
    }
  }

  #lockToServe(): void {
    Atomics.add(this.#cells, SERVING_WAITS, 1);
    this.#lock();
    if (Atomics.sub(this.#cells, SERVING_WAITS, 1) === 1) Atomics.notify(this.#cells, SERVING_WAITS);
  }

  #lockToWarmUp(): void {
    for (;;) {
      const serving = Atomics.load(this.#cells, SERVING_WAITS);
      if (serving > 0) {
        Atomics.wait(this.#cells, SERVING_WAITS, serving);
        continue;
      }
      this.#lock();
      if (Atomics.load(this.#cells, SERVING_WAITS) === 0) return;
      this.#unlock();
    }
  }

  #lock(): void {
    const turn = Atomics.add(this.#cells, NEXT_TURN, 1);
    for (;;) {
      const current = Atomics.load(this.#cells, CURRENT_TURN);
      if (current === turn) return;
      Atomics.wait(this.#cells, CURRENT_TURN, current);
    }
  }

  #unlock(): void {
    Atomics.add(this.#cells, CURRENT_TURN, 1);
    // All who wait look whose turn it is: as a rule there is one.
    Atomics.notify(this.#cells, CURRENT_TURN);
  }
}
