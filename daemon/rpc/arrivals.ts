/**
 * When what is read now may have arrived, which no clock saw: requests that come while this process is busy wait in the buffers of the system.
 * But all that one turn of the event loop reads had come when that turn began, and after the turn before began, which read what had come by then.
 */

/** A turn that reads for less leaves nothing to speak of behind it. */
const SHORT_TURN_US = 1000;

/** Time in which there was nothing to read makes up for this many times as long of falling behind: a process that idles a sixteenth keeps up. */
const CATCHING_UP = 16;

/** What is made up for within a third of a second. */
const BEHIND_US_MAX = 5_000_000;

export class Arrivals {
  readonly #nowUs: () => number;
  #reading = false;
  #turnUs = 0;
  /** When the last turn ended. */
  #readUs = 0;
  /** When the turn before this one began; null where this one read at once what came. */
  #sinceUs: number | null = null;
  #behindUs = 0;

  constructor(nowUs: () => number) {
    this.#nowUs = nowUs;
  }

  /** The latest time at which what is read now can have arrived: then this turn began, at the latest now. */
  latestUs(): number {
    if (!this.#reading) this.#begin();
    return this.#turnUs;
  }

  /** The earliest time at which it can have. */
  earliestUs(): number {
    const latestUs = this.latestUs();
    return this.#sinceUs ?? latestUs;
  }

  /** For how long there has been more to read than was read, microseconds; pauses for breath shorten it. */
  behindUs(): number {
    const turnUs = this.latestUs();
    return this.#behindUs + this.#nowUs() - turnUs;
  }

  #begin(): void {
    this.#reading = true;
    this.#turnUs = this.#nowUs();
    if (this.#sinceUs === null)
      this.#behindUs = Math.max(0, this.#behindUs - CATCHING_UP * (this.#turnUs - this.#readUs));
    // Runs when this turn has read what there was.
    setImmediate(() => this.#end());
  }

  #end(): void {
    this.#reading = false;
    this.#readUs = this.#nowUs();
    const turnUs = this.#turnUs;
    this.#sinceUs = null;
    if (this.#readUs - turnUs < SHORT_TURN_US) return;
    this.#behindUs = Math.min(BEHIND_US_MAX, this.#behindUs + this.#readUs - turnUs);
    this.#sinceUs = turnUs;
    // The next turn does not wait for something to come, since it has this to do. If it reads nothing, nothing had come.
    setImmediate(() => {
      if (this.#turnUs === turnUs) this.#sinceUs = null;
    });
  }
}
