/**
 * The execution token of a lane: whoever holds it executes, so that the device runs one batch at a time and measured times
 * are those of a device that does nothing else. Shared by the session threads of a lane. Batches execute in the order of
 * their numbers, whichever of their threads wakes up first; trial runs take the token where no batch stands ready for it.
 */

/** Number of the batch that may execute next. */
const NEXT_BATCH = 0;
const HELD = 1;
/** 1 while the next batch waits for a trial run to end. */
const BATCH_READY = 2;

/** Runs `execute` as soon as it may, and others may again when it has ended. */
export type Turn = <T>(execute: () => Promise<T>) => Promise<T>;

export function createToken(): SharedArrayBuffer {
  return new SharedArrayBuffer(3 * Int32Array.BYTES_PER_ELEMENT);
}

/** One thread's way to the token. Turns of the same thread queue without blocking it; other threads' turns block it. */
export class ExecutionToken {
  readonly #cells: Int32Array;
  #ownTurn = false;
  readonly #batches: (() => void)[] = [];
  readonly #trials: (() => void)[] = [];

  constructor(shared: SharedArrayBuffer) {
    this.#cells = new Int32Array(shared);
  }

  /**
   * The turn of a batch. It has to be taken, once, and before the thread waits for that of any other batch: those with
   * higher numbers wait for it. So who finds that the batch comes to nothing takes it all the same.
   * @param batch counts from 0 without gaps, over all threads of the lane; a thread takes its own in ascending order
   */
  batchTurn(batch: number): Turn {
    return (execute) => this.#inOwnTurn(this.#batches, () => this.#executeBatch(batch | 0, execute));
  }

  /** The turn of a trial run. */
  readonly trialTurn: Turn = (execute) => {
    return this.#inOwnTurn(this.#trials, async () => {
      this.#lockForTrial();
      try {
        return await execute();
      } finally {
        this.#unlock();
      }
    });
  };

  async #inOwnTurn<T>(waiting: (() => void)[], run: () => Promise<T>): Promise<T> {
    if (this.#ownTurn) await new Promise<void>((resolve) => waiting.push(resolve));
    this.#ownTurn = true;
    try {
      return await run();
    } finally {
      const next = this.#batches.shift() ?? this.#trials.shift();
      // Where a turn follows, the thread's turn passes on without becoming free in between.
      if (next === undefined) this.#ownTurn = false;
      else next();
    }
  }

  async #executeBatch<T>(batch: number, execute: () => Promise<T>): Promise<T> {
    const cells = this.#cells;
    for (;;) {
      const next = Atomics.load(cells, NEXT_BATCH);
      if (next === batch) break;
      Atomics.wait(cells, NEXT_BATCH, next);
    }
    // Only from here on do trial runs stand back: the batch before may be one that a thread with trial runs has yet to hear of.
    Atomics.store(cells, BATCH_READY, 1);
    while (!this.#tryLock()) Atomics.wait(cells, HELD, 1);
    Atomics.store(cells, BATCH_READY, 0);
    Atomics.notify(cells, BATCH_READY);
    try {
      return await execute();
    } finally {
      // In this order, so that the next batch says that it is ready before a trial run finds the token free.
      Atomics.add(cells, NEXT_BATCH, 1);
      Atomics.notify(cells, NEXT_BATCH);
      this.#unlock();
    }
  }

  #lockForTrial(): void {
    const cells = this.#cells;
    for (;;) {
      Atomics.wait(cells, BATCH_READY, 1);
      if (!this.#tryLock()) Atomics.wait(cells, HELD, 1);
      else if (Atomics.load(cells, BATCH_READY) === 0) return;
      else this.#unlock();
    }
  }

  #tryLock(): boolean {
    return Atomics.compareExchange(this.#cells, HELD, 0, 1) === 0;
  }

  #unlock(): void {
    Atomics.store(this.#cells, HELD, 0);
    Atomics.notify(this.#cells, HELD);
  }
}
