import type { Group } from "./group.ts";

/** Groups that are looked at in order before a plain walk over all of them is the better way. */
const IN_ORDER_MAX = 256;

/** Groups with queued deadlines by the time from which on their most urgent request is hopeless: an indexed binary heap. */
export class UrgencyHeap {
  readonly #groups: Group[] = [];
  readonly #frontier: number[] = [];

  /** Infinity when empty. */
  firstKey(): number {
    return this.#groups.length > 0 ? this.#groups[0]!.urgencyKey : Number.POSITIVE_INFINITY;
  }

  /** Adds the group or moves it to where `key` belongs. */
  set(group: Group, key: number): void {
    if (group.urgencyIndex < 0) {
      group.urgencyIndex = this.#groups.length;
      this.#groups.push(group);
    } else if (group.urgencyKey === key) return;
    group.urgencyKey = key;
    this.#sink(this.#rise(group.urgencyIndex));
  }

  remove(group: Group): void {
    const index = group.urgencyIndex;
    if (index < 0) return;
    group.urgencyIndex = -1;
    const last = this.#groups.pop()!;
    if (last === group) return;
    this.#groups[index] = last;
    last.urgencyIndex = index;
    this.#sink(this.#rise(index));
  }

  /** Appends all groups with a key of at most `key`, in no order. */
  listUpTo(key: number, list: Group[], index: number = 0): void {
    const group = this.#groups[index];
    if (group === undefined || group.urgencyKey > key) return;
    list.push(group);
    this.listUpTo(key, list, 2 * index + 1);
    this.listUpTo(key, list, 2 * index + 2);
  }

  /** Appends the `max` most urgent groups that `isWanted`, the most urgent first; all in no order where they are hard to find. */
  listMostUrgent(max: number, isWanted: (group: Group) => boolean, list: Group[]): void {
    const frontier = this.#frontier;
    frontier.length = 0;
    if (this.#groups.length > 0) frontier.push(0);
    for (let seen = 0; frontier.length > 0 && list.length < max; seen++) {
      if (seen === IN_ORDER_MAX) {
        list.length = 0;
        for (const group of this.#groups) if (isWanted(group)) list.push(group);
        return;
      }
      const index = frontier.pop()!;
      const group = this.#groups[index]!;
      if (isWanted(group)) list.push(group);
      this.#reach(2 * index + 1);
      this.#reach(2 * index + 2);
    }
  }

  /** Keeps the frontier in order, the most urgent last. */
  #reach(index: number): void {
    const group = this.#groups[index];
    if (group === undefined) return;
    const frontier = this.#frontier;
    let at = frontier.length;
    for (; at > 0 && this.#groups[frontier[at - 1]!]!.urgencyKey < group.urgencyKey; at--)
      frontier[at] = frontier[at - 1]!;
    frontier[at] = index;
  }

  #rise(index: number): number {
    const group = this.#groups[index]!;
    let at = index;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#groups[parent]!.urgencyKey <= group.urgencyKey) break;
      this.#put(this.#groups[parent]!, at);
      at = parent;
    }
    this.#put(group, at);
    return at;
  }

  #sink(index: number): void {
    const group = this.#groups[index]!;
    let at = index;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#groups.length) break;
      if (child + 1 < this.#groups.length && this.#groups[child + 1]!.urgencyKey < this.#groups[child]!.urgencyKey)
        child += 1;
      if (this.#groups[child]!.urgencyKey >= group.urgencyKey) break;
      this.#put(this.#groups[child]!, at);
      at = child;
    }
    this.#put(group, at);
  }

  #put(group: Group, index: number): void {
    this.#groups[index] = group;
    group.urgencyIndex = index;
  }
}
