import { largestWithin } from "./profiles.ts";
import { GROUPS_MAX, ITEMS_MAX, LANES_MAX, type View } from "./view.ts";

/** What one backlogged item costs at the end of a roll-out, relative to a lost one, at mean device time an item. */
const BACKLOG_COST = 0.01;

/** Keeps a time that was computed from a count from losing that count again. */
const ROUNDING = 1e-6;

/** Which group a simulated lane serves next: by deadline, by latest start, or by deadline less a part of its duration. */
export type Order = "deadline" | "latest-start" | "fair";

const PART_OF_DURATION: Readonly<Record<Order, number>> = { deadline: 0, "latest-start": 1, fair: 0.3 };

/** The first move of a roll-out. */
export interface FirstMove {
  /** Index of the group in the view; -1 to idle. */
  readonly group: number;
  /** Items dropped from its head. */
  readonly skip: number;
  readonly size: number;
  /** When an idle lane looks again. */
  readonly idleUntilUs: number;
}

/**
 * Simulates what follows from a first move: queued items as they are, arrivals as a fluid (the k-th future item of a
 * group at now + k / rate), and a plain policy on every lane that shares the work. Reports what it loses.
 */
export class Rollout {
  /** Loss of the last run by group of the view. */
  readonly lossOf: Float64Array = new Float64Array(GROUPS_MAX);
  /** Queued items that the last run dropped, by group of the view. */
  readonly dropped: Int32Array = new Int32Array(GROUPS_MAX);
  /** The next item of each group: its number, when it arrives (the past where it is queued), its deadline. */
  readonly #next: Int32Array = new Int32Array(GROUPS_MAX);
  readonly #arrivesUs: Float64Array = new Float64Array(GROUPS_MAX);
  readonly #dueUs: Float64Array = new Float64Array(GROUPS_MAX);
  readonly #free: Float64Array = new Float64Array(LANES_MAX);

  /**
   * Weighted loss of taking `first` and serving on until `endUs`; stops early, with some loss above it, once `bound` is
   * passed. `without` names a group that is left out (-1: none).
   */
  run(
    view: View,
    first: FirstMove,
    endUs: number,
    order: Order,
    stepsMax: number,
    bound: number,
    without: number,
  ): number {
    const { laneCount } = view;
    const free = this.#free;
    const part = PART_OF_DURATION[order];
    let loss = this.#begin(view, first, without);
    for (let step = 0; step < stepsMax && loss <= bound; ) {
      let lane = 0;
      for (let k = 1; k < laneCount; k++) if (free[k]! < free[lane]!) lane = k;
      const t = free[lane]!;
      if (t >= endUs) break;
      this.#soonestUs = Number.POSITIVE_INFINITY;
      this.#lost = 0;
      const g = this.#mostUrgent(view, lane, t, part);
      if (g >= 0) {
        step += 1;
        free[lane] = t + this.#serve(view, g, lane * GROUPS_MAX + g, t);
      } else {
        // Nothing to do on this lane before the next arrival.
        free[lane] = Math.max(this.#soonestUs, t + 1);
      }
      loss += this.#lost;
    }
    return loss <= bound ? loss + this.#backlog(view, endUs, without) : loss;
  }

  /** Loss that a step adds, and the next arrival that it found. */
  #lost = 0;
  #soonestUs = 0;

  #begin(view: View, first: FirstMove, without: number): number {
    for (let g = 0; g < view.count; g++) {
      this.#next[g] = 0;
      this.lossOf[g] = 0;
      this.dropped[g] = 0;
      this.#advance(view, g, 0);
    }
    for (let k = 0; k < view.laneCount; k++) this.#free[k] = view.laneFreeUs[k]!;
    this.#lost = 0;
    if (first.group >= 0) {
      this.#drop(view, first.group, first.skip);
      this.#advance(view, first.group, first.skip + first.size);
      this.#free[0] = view.nowUs + view.us[first.group]![first.size]!;
    } else this.#free[0] = first.idleUntilUs;
    if (without >= 0) this.#arrivesUs[without] = Number.POSITIVE_INFINITY;
    return this.#lost;
  }

  /** The group that a lane serves next at `t`, -1 for none; gives up what can no longer be served even alone. */
  #mostUrgent(view: View, lane: number, t: number, part: number): number {
    const { count, us, cap } = view;
    const arrivesUs = this.#arrivesUs;
    const dueUs = this.#dueUs;
    const row = lane * GROUPS_MAX;
    let pick = -1;
    let pickKey = Number.POSITIVE_INFINITY;
    for (let g = 0; g < count; g++) {
      if (cap[row + g] === 0) continue;
      const alone = t + us[row + g]![1]!;
      while (arrivesUs[g]! <= t && dueUs[g]! < alone) this.#drop(view, g, 1);
      const arrives = arrivesUs[g]!;
      if (arrives > t) {
        if (arrives < this.#soonestUs) this.#soonestUs = arrives;
        continue;
      }
      let key = dueUs[g]!;
      if (part > 0) key -= part * us[row + g]![Math.min(this.#arrived(view, g, t) - this.#next[g]!, cap[row + g]!)]!;
      if (key < pickKey) {
        pickKey = key;
        pick = g;
      }
    }
    return pick;
  }

  /** Serves a group on a lane at `t`: gives up the oldest until the target fits, then takes what the head allows. */
  #serve(view: View, g: number, at: number, t: number): number {
    const cap = view.cap[at]!;
    const safeUs = view.safeUs[at]!;
    const arrived = this.#arrived(view, g, t);
    const target = Math.min(view.target[g]!, cap);
    let waiting = arrived - this.#next[g]!;
    for (; waiting > 0 && this.#dueUs[g]! - t < safeUs[Math.min(waiting, target)]!; waiting--) this.#drop(view, g, 1);
    if (waiting === 0) return 1;
    const most = largestWithin(safeUs, Math.min(waiting, cap), this.#dueUs[g]! - t);
    const size = Math.max(1, view.best[at]![most]!);
    this.#advance(view, g, this.#next[g]! + size);
    return view.us[at]![size]!;
  }

  /** Items of a group that have arrived by `t`, those that were queued included. */
  #arrived(view: View, g: number, t: number): number {
    return view.items[g]! + Math.floor((t - view.nowUs) / view.gapUs[g]! + ROUNDING);
  }

  /** Makes item number `next` of a group the next one. */
  #advance(view: View, g: number, next: number): void {
    this.#next[g] = next;
    const ahead = next - view.items[g]!;
    if (ahead < 0) {
      this.#arrivesUs[g] = Number.NEGATIVE_INFINITY;
      this.#dueUs[g] = view.deadlines[g * ITEMS_MAX + next]!;
    } else {
      const arrivesUs = view.nowUs + (ahead + 1) * view.gapUs[g]!;
      this.#arrivesUs[g] = arrivesUs;
      this.#dueUs[g] = arrivesUs + view.sloUs[g]!;
    }
  }

  /** Gives up the next `count` items of a group. */
  #drop(view: View, g: number, count: number): void {
    let cost = 0;
    const queued = view.items[g]!;
    const from = this.#next[g]!;
    let i = from;
    for (; i < from + count && i < queued; i++) cost += view.costs[g * ITEMS_MAX + i]!;
    this.dropped[g]! += i - from;
    cost += (from + count - i) * view.costAhead[g]!;
    this.lossOf[g]! += cost;
    this.#lost += cost;
    this.#advance(view, g, from + count);
  }

  /** Price of what waits when the roll-out ends. */
  #backlog(view: View, endUs: number, without: number): number {
    let t = endUs;
    for (let k = 0; k < view.laneCount; k++) t = Math.min(t, this.#free[k]!);
    let backlog = 0;
    for (let g = 0; g < view.count; g++) {
      if (g === without) continue;
      const waiting = this.#arrived(view, g, t) - this.#next[g]!;
      if (waiting > 0) backlog += waiting * view.perItemUs[g]!;
    }
    return (BACKLOG_COST * backlog) / view.perItemMeanUs;
  }
}
