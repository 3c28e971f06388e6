import type { Candidate, Candidates } from "./candidates.ts";
import { ITEMS_MAX, type View } from "./view.ts";

/** Batches shorter than this part of the smallest SLO need no clever place in the order. */
const LONG_PART = 0.2;
/** An empty group counts in a test if at least this many items arrive within its SLO. */
const EXPECTED_MIN = 0.02;

/** Order of urgency: the deadline, less this part of the batch's duration. None of it leaves heavy models to the last moment. */
const DURATION_PART = 0.5;

function urgencyUs(view: View, candidate: Candidate): number {
  return view.deadlines[candidate.group * ITEMS_MAX]! - DURATION_PART * candidate.us;
}

/**
 * The most urgent first, except that a long batch goes before more urgent work where all of that, grown by what is
 * expected to arrive meanwhile, still fits behind it. So heavy batches run while nobody is in a hurry, and light models
 * gather fuller batches behind them.
 */
export class SlackTest {
  /** Candidates that give nothing up, the most urgent first. */
  readonly #byUrgency: Candidate[] = [];

  /** Null where every candidate gives something up. */
  choose(view: View, candidates: Candidates): Candidate | null {
    const count = this.#sort(view, candidates);
    if (count === 0) return null;
    const first = this.#byUrgency[0]!;
    let chosen = first;
    for (let i = 1; i < count; i++) {
      const candidate = this.#byUrgency[i]!;
      if (candidate.us <= chosen.us || candidate.us < LONG_PART * view.sloMinUs) continue;
      if (this.#othersFitBehind(view, candidate, i)) chosen = candidate;
    }
    return chosen;
  }

  #sort(view: View, candidates: Candidates): number {
    const sorted = this.#byUrgency;
    let count = 0;
    for (let i = 0; i < candidates.count; i++) {
      const candidate = candidates.list[i]!;
      if (candidate.skip > 0) continue;
      const key = urgencyUs(view, candidate);
      let at = count++;
      for (; at > 0 && urgencyUs(view, sorted[at - 1]!) > key; at--) sorted[at] = sorted[at - 1]!;
      sorted[at] = candidate;
    }
    return count;
  }

  /** Whether the `moreUrgent` candidates before it, and groups that are likely to get work, can wait. */
  #othersFitBehind(view: View, candidate: Candidate, moreUrgent: number): boolean {
    const { nowUs, items, rate, sloUs, cap, safeUs, deadlines } = view;
    let t = nowUs + candidate.us;
    for (let i = 0; i < moreUrgent; i++) {
      const g = this.#byUrgency[i]!.group;
      const grown = Math.min(cap[g]!, Math.ceil(items[g]! + rate[g]! * (t - nowUs)));
      t += safeUs[g]![grown]!;
      if (t > deadlines[g * ITEMS_MAX]!) return false;
    }
    for (let g = 0; g < view.count; g++) {
      if (items[g]! > 0 || rate[g]! * sloUs[g]! < EXPECTED_MIN) continue;
      const expected = rate[g]! * candidate.us;
      const size = Math.max(1, Math.min(cap[g]!, Math.ceil(expected)));
      t += safeUs[g]![size]! * (1 - Math.exp(-expected));
      if (t > nowUs + sloUs[g]!) return false;
    }
    return true;
  }
}
