import type { Candidate, Candidates } from "./candidates.ts";
import { ITEMS_MAX, type View } from "./view.ts";

/** While best-effort work waits for slack, only batches longer than this part of the smallest SLO go ahead of others. */
const LONG_PART = 0.2;
/** An empty group counts in a test if at least this many items arrive within its SLO. */
const EXPECTED_MIN = 0.02;
/** Arrivals are counted as the mean and this many standard deviations of a Poisson process, since bursts are what hurts. */
const DEVIATIONS = 0.5;
/** Least overhead that is taken to be saved by waiting, as a part of an item's time: some models have none. */
const OVERHEAD_PART_MIN = 0.01;

/** Order of urgency: the deadline, less this part of the batch's duration. None of it leaves heavy models to the last moment. */
const DURATION_PART = 0.5;

function urgencyUs(view: View, candidate: Candidate): number {
  return view.deadlines[candidate.group * ITEMS_MAX]! - DURATION_PART * candidate.us;
}

/**
 * What speaks for running a batch before others that could run as well. While one runs the others wait and grow, and a
 * batch of b items that waits dt saves overhead · rate · dt / b of device time, since those who join it need no batch of
 * their own. Of two neighbours in a sequence the one with the larger duration over that rate of saving belongs first.
 */
function precedence(view: View, { group, size, us }: Candidate): number {
  const overheadUs = Math.max(view.overheadUs[group]!, OVERHEAD_PART_MIN * view.us[group]![1]!);
  return (us * size) / (overheadUs * view.rate[group]!);
}

function expectedItems(rate: number, forUs: number): number {
  const mean = rate * forUs;
  return mean + DEVIATIONS * Math.sqrt(mean);
}

/**
 * The most urgent first, except that a batch which gains little by waiting goes before more urgent work where all of that,
 * grown by what may arrive meanwhile, still fits behind it. So long batches and those of rare models run while nobody is
 * in a hurry, and frequent models gather fuller batches behind them.
 */
export class SlackTest {
  /** Candidates that give nothing up, the most urgent first. */
  readonly #byUrgency: Candidate[] = [];

  /** Null where every candidate gives something up. `fillWaits` while best-effort work waits for slack. */
  choose(view: View, candidates: Candidates, fillWaits: boolean): Candidate | null {
    const count = this.#sort(view, candidates);
    if (count === 0) return null;
    // What goes ahead for a fuller batch alone keeps the most urgent work, and with it fill, waiting for longer.
    const aheadMinUs = fillWaits ? LONG_PART * view.sloMinUs : 0;
    let chosen = this.#byUrgency[0]!;
    let highest = precedence(view, chosen);
    for (let i = 1; i < count; i++) {
      const candidate = this.#byUrgency[i]!;
      if (candidate.us < aheadMinUs) continue;
      const found = precedence(view, candidate);
      if (found <= highest || !this.#othersFitBehind(view, candidate, i)) continue;
      chosen = candidate;
      highest = found;
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
      const grown = Math.min(cap[g]!, Math.ceil(items[g]! + expectedItems(rate[g]!, t - nowUs)));
      t += safeUs[g]![grown]!;
      if (t > deadlines[g * ITEMS_MAX]!) return false;
    }
    for (let g = 0; g < view.count; g++) {
      if (items[g]! > 0 || rate[g]! * sloUs[g]! < EXPECTED_MIN) continue;
      const expected = expectedItems(rate[g]!, candidate.us);
      const size = Math.max(1, Math.min(cap[g]!, Math.ceil(expected)));
      t += safeUs[g]![size]! * (1 - Math.exp(-expected));
      if (t > nowUs + sloUs[g]!) return false;
    }
    return true;
  }
}
