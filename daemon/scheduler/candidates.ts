import { largestWithin } from "./profiles.ts";
import { ITEMS_MAX, type View } from "./view.ts";

/** Parts of the target size for which the oldest items may be given up. */
const TARGET_PARTS = [0.5, 0.75, 1] as const;
/** In overload, where the queue has more to choose from than the target takes. */
const TARGET_PARTS_OVERLOADED = [0.5, 0.75, 1.2] as const;

/** Part of the tightest SLO that a batch takes at most where it is hardly worth more. */
const PART_OF_SLO_MAX = 0.5;
/** Time for each item, against that of a longer batch, up to which a shorter one is preferred. */
const SHORTER_COST_MAX = 1.25;
/** Load that the device is not to exceed for it: near its capacity it can't afford to. */
const SHORTER_LOAD_MAX = 0.95;

/**
 * A batch that keeps the device for long makes all late that arrives meanwhile and can't wait so long. Where its items would take hardly more time
 * in shorter ones it is cut, as far as the device has time for that.
 */
function shortened(view: View, g: number, size: number, load: number): number {
  const costMax = Math.min(SHORTER_COST_MAX, SHORTER_LOAD_MAX / load);
  const safeUs = view.safeUs[g]!;
  const shorter = Math.max(1, largestWithin(safeUs, size, PART_OF_SLO_MAX * view.sloMinUs));
  return shorter < size && safeUs[shorter]! * size <= costMax * safeUs[size]! * shorter ? shorter : size;
}

/** A batch that a group could run now. Fields are written anew for each decision: candidates are kept and used again. */
export class Candidate {
  /** Index in the view. */
  group = 0;
  /** Items at the head that are given up for it. */
  skip = 0;
  size = 0;
  idleUntilUs = 0;
  us = 0;
  latestStartUs = 0;
}

function precedes(one: Candidate, other: Candidate, preferred: Candidate | null): boolean {
  return one === preferred || (other !== preferred && one.latestStartUs < other.latestStartUs);
}

/** The candidates of one decision, in a pool that grows to what was ever needed. */
export class Candidates {
  readonly list: Candidate[] = [];
  count = 0;

  /** For each group with a queue: the largest batch its head allows, and batches that give up the oldest for more. */
  collect(view: View, load: number, overloaded: boolean): void {
    this.count = 0;
    for (let g = 0; g < view.count; g++) {
      const items = view.items[g]!;
      if (items === 0) continue;
      const safeUs = view.safeUs[g]!;
      const cap = view.cap[g]!;
      const base = g * ITEMS_MAX;
      const size = largestWithin(safeUs, Math.min(items, cap), view.deadlines[base]! - view.nowUs);
      const first = this.count;
      this.#add(view, g, 0, shortened(view, g, size, load));
      if (size >= Math.min(items, cap)) continue;
      let skip = 0;
      for (const part of overloaded ? TARGET_PARTS_OVERLOADED : TARGET_PARTS) {
        const want = Math.min(cap, Math.max(1, Math.ceil(part * view.target[g]!)));
        const from = skip;
        while (skip < items && view.deadlines[base + skip]! - view.nowUs < safeUs[Math.min(want, items - skip)]!)
          skip += 1;
        if (skip >= items) break;
        if (skip === from && this.count > first + 1) continue;
        if (skip === 0) continue;
        const slid = largestWithin(safeUs, Math.min(items - skip, cap), view.deadlines[base + skip]! - view.nowUs);
        if (part > 1) this.#put(this.list[first]!, view, g, skip, slid);
        else this.#add(view, g, skip, slid);
      }
    }
  }

  /** The one that takes longest. */
  longest(): Candidate {
    let longest = this.list[0]!;
    for (let i = 1; i < this.count; i++) if (this.list[i]!.us > longest.us) longest = this.list[i]!;
    return longest;
  }

  /** The one with most weighted items for its time, where a batch below its target counts for less by as much. */
  mostYielding(view: View): Candidate {
    let best = this.list[0]!;
    let bestYield = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < this.count; i++) {
      const candidate = this.list[i]!;
      const { group, size, us } = candidate;
      const fullness = Math.min(1, size / view.target[group]!);
      const found = (fullness * size * view.costAhead[group]!) / us;
      if (found <= bestYield) continue;
      bestYield = found;
      best = candidate;
    }
    return best;
  }

  /** Keeps the `keep` candidates that must start soonest, in that order, behind `preferred` where there is one. */
  keepMostUrgent(keep: number, preferred: Candidate | null): void {
    const { list } = this;
    for (let i = 1; i < this.count; i++) {
      const moved = list[i]!;
      let at = i;
      for (; at > 0 && precedes(moved, list[at - 1]!, preferred); at--) list[at] = list[at - 1]!;
      list[at] = moved;
    }
    this.count = Math.min(this.count, preferred === null ? keep : keep + 1);
  }

  #add(view: View, g: number, skip: number, size: number): void {
    let candidate = this.list[this.count];
    if (candidate === undefined) {
      candidate = new Candidate();
      this.list.push(candidate);
    }
    this.count += 1;
    this.#put(candidate, view, g, skip, size);
  }

  #put(candidate: Candidate, view: View, g: number, skip: number, size: number): void {
    const take = view.best[g]![Math.max(1, size)]!;
    candidate.group = g;
    candidate.skip = skip;
    candidate.size = take;
    candidate.us = view.us[g]![take]!;
    candidate.latestStartUs = view.deadlines[g * ITEMS_MAX + skip]! - view.safeUs[g]![take]!;
  }
}
