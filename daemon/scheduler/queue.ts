import type { QueuedRequest } from "./request.ts";

const CAPACITY_MIN = 16;

function isUnusual(request: QueuedRequest): boolean {
  return request.items !== 1 || request.weight !== 1;
}

/**
 * Requests in order of (key, id): a sorted ring. Most arrivals belong at the end and most departures leave the front,
 * both in constant time; anywhere else the shorter side moves over. Reading by index is what roll-outs need.
 */
export class RequestQueue {
  /** Number of requests. */
  length = 0;
  items = 0;
  /** How many requests have several items or an unusual weight; while none has, copies for roll-outs are quicker. */
  unusual = 0;
  #keys: Float64Array = new Float64Array(CAPACITY_MIN);
  #requests: (QueuedRequest | undefined)[] = new Array(CAPACITY_MIN).fill(undefined);
  #head = 0;
  #mask: number = CAPACITY_MIN - 1;

  /** The request at `index` of 0..length-1, 0 being the most urgent. */
  at(index: number): QueuedRequest {
    return this.#requests[(this.#head + index) & this.#mask]!;
  }

  keyAt(index: number): number {
    return this.#keys[(this.#head + index) & this.#mask]!;
  }

  /** Key of the most urgent request; Infinity when empty. */
  headKey(): number {
    return this.length === 0 ? Number.POSITIVE_INFINITY : this.#keys[this.#head]!;
  }

  /** Copies `count` keys from `start` on into `target` at `at`. */
  copyKeys(start: number, count: number, target: Float64Array, at: number): void {
    for (let i = 0; i < count; i++) target[at + i] = this.#keys[(this.#head + start + i) & this.#mask]!;
  }

  push(request: QueuedRequest): void {
    if (this.length > this.#mask) this.#grow();
    const index = this.#upperBound(request.key, request.id);
    this.#openGap(index);
    const at = (this.#head + index) & this.#mask;
    this.#keys[at] = request.key;
    this.#requests[at] = request;
    this.length += 1;
    this.items += request.items;
    if (isUnusual(request)) this.unusual += 1;
  }

  /** Returns whether it was there. */
  remove(request: QueuedRequest): boolean {
    const index = this.#upperBound(request.key, request.id) - 1;
    if (index < 0 || this.at(index) !== request) return false;
    this.removeRange(index, 1);
    return true;
  }

  /** Takes out `count` requests from `start` on, keeping the others in order. */
  removeRange(start: number, count: number): void {
    for (let i = start; i < start + count; i++) {
      const request = this.at(i);
      this.items -= request.items;
      if (isUnusual(request)) this.unusual -= 1;
    }
    const behind = this.length - start - count;
    if (start <= behind) {
      for (let i = start - 1; i >= 0; i--) this.#move(i, i + count);
      for (let i = 0; i < count; i++) this.#requests[(this.#head + i) & this.#mask] = undefined;
      this.#head = (this.#head + count) & this.#mask;
    } else {
      for (let i = start; i < start + behind; i++) this.#move(i + count, i);
      for (let i = this.length - count; i < this.length; i++) this.#requests[(this.#head + i) & this.#mask] = undefined;
    }
    this.length -= count;
  }

  #move(from: number, to: number): void {
    const source = (this.#head + from) & this.#mask;
    const target = (this.#head + to) & this.#mask;
    this.#keys[target] = this.#keys[source]!;
    this.#requests[target] = this.#requests[source];
  }

  /** First index whose entry comes after (key, id). */
  #upperBound(key: number, id: number): number {
    let low = 0;
    let high = this.length;
    if (high > 0 && !this.#isAfter(high - 1, key, id)) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isAfter(middle, key, id)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #isAfter(index: number, key: number, id: number): boolean {
    const other = this.keyAt(index);
    return other > key || (other === key && this.at(index).id > id);
  }

  #openGap(index: number): void {
    if (index === this.length) return;
    if (index < this.length - index) {
      this.#head = (this.#head - 1) & this.#mask;
      for (let i = 0; i < index; i++) this.#move(i + 1, i);
    } else {
      for (let i = this.length - 1; i >= index; i--) this.#move(i, i + 1);
    }
  }

  #grow(): void {
    const capacity = 2 * (this.#mask + 1);
    const keys = new Float64Array(capacity);
    const requests: (QueuedRequest | undefined)[] = new Array(capacity).fill(undefined);
    for (let i = 0; i < this.length; i++) {
      keys[i] = this.keyAt(i);
      requests[i] = this.at(i);
    }
    this.#keys = keys;
    this.#requests = requests;
    this.#head = 0;
    this.#mask = capacity - 1;
  }
}
