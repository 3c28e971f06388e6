/** Requests of one urgency that wait to be sent. */
import type { InferCall } from "./infer-call.ts";

/** Where the oldest has less than this share of its time left, they come faster than they go. */
const LEFT_SHARE_MIN = 0.5;
/** Places that are kept whether or not someone has them. */
const PLACES_MIN = 64;

export class WaitingLine {
  readonly #waiting = new Set<InferCall>();
  /** By when they came; those between that wait no more keep their places for a while. */
  #places: InferCall[] = [];
  /** Before it nobody waits. */
  #first = 0;

  get size(): number {
    return this.#waiting.size;
  }

  has(call: InferCall): boolean {
    return this.#waiting.has(call);
  }

  add(call: InferCall): void {
    if (this.#places.length > PLACES_MIN + 2 * this.#waiting.size) {
      this.#places = this.#places.filter((any) => this.#waiting.has(any));
      this.#first = 0;
    }
    this.#waiting.add(call);
    this.#places.push(call);
  }

  delete(call: InferCall): void {
    this.#waiting.delete(call);
    if (this.#waiting.size > 0) return;
    // Nothing of them is kept while nobody waits. Who goes through the line has the array.
    this.#places = [];
    this.#first = 0;
  }

  /**
   * In the order in which to send them. That is the order in which they came, unless so many wait that each would have its turn when little
   * of its time is left, and all would be late: then the newest first, so that those which can be sent have most of theirs.
   */
  *inTurn(): Generator<InferCall> {
    const places = this.#places;
    while (this.#first < places.length && !this.#waiting.has(places[this.#first]!)) this.#first++;
    while (places.length > this.#first && !this.#waiting.has(places.at(-1)!)) places.pop();
    const oldest = places[this.#first];
    if (oldest === undefined) return;
    const { deadlineAt, remainingMs, settings } = oldest;
    if (deadlineAt === null || remainingMs >= LEFT_SHARE_MIN * settings.deadlineMs!) {
      for (let i = this.#first; i < places.length; i++) {
        if (this.#waiting.has(places[i]!)) yield places[i]!;
      }
    } else {
      for (let i = places.length - 1; i >= this.#first; i--) {
        if (this.#waiting.has(places[i]!)) yield places[i]!;
      }
    }
  }
}
