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
  readonly #next: Int32Array = new Int32Array(GROUPS_MAX);
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
    const next = this.#next;
    const free = this.#free;
    const lossOf = this.lossOf;
    const { nowUs, count, laneCount, items, deadlines, gapUs, sloUs, target, us, cap, best } = view;
    const part = PART_OF_DURATION[order];
    for (let g = 0; g < count; g++) {
      next[g] = 0;
      lossOf[g] = 0;
      this.dropped[g] = 0;
    }
    for (let k = 0; k < laneCount; k++) free[k] = view.laneFreeUs[k]!;
    let loss = 0;
    if (first.group >= 0) {
      loss += this.#drop(view, first.group, first.skip);
      next[first.group]! += first.size;
      free[0] = nowUs + us[first.group]![first.size]!;
    } else free[0] = first.idleUntilUs;

    for (let step = 0; step < stepsMax && loss <= bound; ) {
      let lane = 0;
      for (let k = 1; k < laneCount; k++) if (free[k]! < free[lane]!) lane = k;
      const t = free[lane]!;
      if (t >= endUs) break;
      const row = lane * GROUPS_MAX;
      let pick = -1;
      let pickKey = Number.POSITIVE_INFINITY;
      let soonest = Number.POSITIVE_INFINITY;
      for (let g = 0; g < count; g++) {
        if (cap[row + g] === 0 || g === without) continue;
        const queued = items[g]!;
        const arrived = queued + Math.floor((t - nowUs) / gapUs[g]! + ROUNDING);
        let i = next[g]!;
        const alone = t + us[row + g]![1]!;
        let deadline = 0;
        let lost = 0;
        for (; i < arrived; i++, lost++) {
          deadline = i < queued ? deadlines[g * ITEMS_MAX + i]! : nowUs + (i - queued + 1) * gapUs[g]! + sloUs[g]!;
          if (deadline >= alone) break;
        }
        if (lost > 0) loss += this.#drop(view, g, lost);
        if (i >= arrived) {
          const arrivesUs = nowUs + (i - queued + 1) * gapUs[g]!;
          if (arrivesUs < soonest) soonest = arrivesUs;
          continue;
        }
        const key = part === 0 ? deadline : deadline - part * us[row + g]![Math.min(arrived - i, cap[row + g]!)]!;
        if (key < pickKey) {
          pickKey = key;
          pick = g;
        }
      }
      if (pick < 0) {
        // Nothing to do on this lane before the next arrival.
        free[lane] = Math.max(soonest, t + 1);
        continue;
      }
      step += 1;
      free[lane] = t + this.#serve(view, pick, row, t, target[pick]!, best[row + pick]!);
      loss += this.#served;
    }
    return loss <= bound ? loss + this.#backlog(view, Math.min(endUs, this.#earliest(laneCount)), without) : loss;
  }

  #served = 0;

  /** Serves group `g` on a lane at `t`: gives up the oldest until the target fits, then takes what the head allows. */
  #serve(view: View, g: number, row: number, t: number, target: number, best: Int32Array): number {
    const next = this.#next;
    const queued = view.items[g]!;
    const gap = view.gapUs[g]!;
    const cap = view.cap[row + g]!;
    const safeUs = view.safeUs[row + g]!;
    const arrived = queued + Math.floor((t - view.nowUs) / gap + ROUNDING);
    let i = next[g]!;
    let lost = 0;
    let deadline = 0;
    for (; i < arrived; i++, lost++) {
      deadline = i < queued ? view.deadlines[g * ITEMS_MAX + i]! : view.nowUs + (i - queued + 1) * gap + view.sloUs[g]!;
      if (deadline - t >= safeUs[Math.min(arrived - i, target, cap)]!) break;
    }
    this.#served = lost > 0 ? this.#drop(view, g, lost) : 0;
    if (i >= arrived) return 1;
    const size = best[largestWithin(safeUs, Math.min(arrived - i, cap), deadline - t)]!;
    next[g] = i + Math.max(size, 1);
    return view.us[row + g]![Math.max(size, 1)]!;
  }

  /** Gives up the next `count` items of a group; returns what that costs. */
  #drop(view: View, g: number, count: number): number {
    let cost = 0;
    const queued = view.items[g]!;
    let i = this.#next[g]!;
    const end = i + count;
    for (; i < end && i < queued; i++) cost += view.costs[g * ITEMS_MAX + i]!;
    this.dropped[g]! += i - this.#next[g]!;
    cost += (end - i) * view.costAhead[g]!;
    this.#next[g] = end;
    this.lossOf[g]! += cost;
    return cost;
  }

  #earliest(laneCount: number): number {
    let earliest = this.#free[0]!;
    for (let k = 1; k < laneCount; k++) earliest = Math.min(earliest, this.#free[k]!);
    return earliest;
  }

  #backlog(view: View, t: number, without: number): number {
    let backlog = 0;
    for (let g = 0; g < view.count; g++) {
      if (g === without) continue;
      const waiting = view.items[g]! + Math.floor((t - view.nowUs) / view.gapUs[g]!) - this.#next[g]!;
      if (waiting > 0) backlog += waiting * view.perItemUs[g]!;
    }
    return (BACKLOG_COST * backlog) / view.perItemMeanUs;
  }
}
