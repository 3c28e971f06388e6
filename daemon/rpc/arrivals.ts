/**
 * When what is read now may have arrived, which no clock saw: requests that come while this process is busy wait in the buffers of the system.
 * A turn of the event loop reads one connection after another, each to its end. What it reads of one had come when it began with that one, and
 * after the turn before began with it, which read what had come by then; or after that turn began, where it did not read of it.
 */

/** A turn that reads for less leaves nothing to speak of behind it. */
const SHORT_TURN_US = 1000;

/** Time in which there was nothing to do makes up for this many times as long of falling behind: a process that idles a sixteenth keeps up. */
const CATCHING_UP = 16;

/** What is made up for within a third of a second. */
const BEHIND_US_MAX = 5_000_000;

export class Arrivals {
  readonly #nowUs: () => number;
  readonly #idleUs: () => number;
  #reading = false;
  #turnUs = 0;
  /** What had been idled when the last turn began. */
  #idledUs = 0;
  /** When the turn before this one began; null where this one read at once what came. */
  #sinceUs: number | null = null;
  /** When this turn, and the one before, began with a connection. */
  #marks = new Map<string, number>();
  #marksBefore = new Map<string, number>();
  #behindUs = 0;

  /** @param idleUs for how long this process has had nothing to do, so far */
  constructor(nowUs: () => number, idleUs: () => number) {
    this.#nowUs = nowUs;
    this.#idleUs = idleUs;
  }

  /** The latest time at which what is read of this connection now can have arrived. */
  latestUs(connection: string): number {
    if (!this.#reading) this.#begin();
    const markUs = this.#marks.get(connection);
    if (markUs !== undefined) return markUs;
    const nowUs = this.#marks.size === 0 ? this.#turnUs : this.#nowUs();
    this.#marks.set(connection, nowUs);
    return nowUs;
  }

  /** The earliest time at which it can have. */
  earliestUs(connection: string): number {
    this.latestUs(connection);
    if (this.#sinceUs === null) return this.#turnUs;
    return this.#marksBefore.get(connection) ?? this.#sinceUs;
  }

  /** For how long there has been more to read than was read, microseconds; pauses for breath shorten it. */
  behindUs(): number {
    if (!this.#reading) this.#begin();
    return this.#behindUs + this.#nowUs() - this.#turnUs;
  }

  #begin(): void {
    this.#reading = true;
    this.#turnUs = this.#nowUs();
    const idledUs = this.#idleUs();
    this.#behindUs = Math.max(0, this.#behindUs - CATCHING_UP * (idledUs - this.#idledUs));
    this.#idledUs = idledUs;
    // Runs when this turn has read what there was.
    setImmediate(() => this.#end());
  }

  #end(): void {
    this.#reading = false;
    const turnUs = this.#turnUs;
    const readUs = this.#nowUs();
    this.#sinceUs = null;
    [this.#marks, this.#marksBefore] = [this.#marksBefore, this.#marks];
    this.#marks.clear();
    if (readUs - turnUs < SHORT_TURN_US) return;
    this.#behindUs = Math.min(BEHIND_US_MAX, this.#behindUs + readUs - turnUs);
    this.#sinceUs = turnUs;
    // The next turn does not wait for something to come, since it has this to do. If it reads nothing, nothing had come.
    setImmediate(() => {
      if (this.#turnUs === turnUs) this.#sinceUs = null;
    });
  }
}
