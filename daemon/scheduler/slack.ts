import type { Candidate, Candidates } from "./candidates.ts";
import { ITEMS_MAX, type View, wayUs } from "./view.ts";

/** While best-effort work waits for slack, only batches longer than this part of the smallest SLO go ahead of others. */
const LONG_PART = 0.2;
/** An empty group counts in a test if at least this many items arrive within its SLO. */
const EXPECTED_MIN = 0.02;
/** Arrivals are counted as the mean and this many standard deviations of a Poisson process, since bursts are what hurts. */
const DEVIATIONS = 0.5;
/** Least overhead that is taken to be saved by waiting, as a part of an item's time: some models have none. */
const OVERHEAD_PART_MIN = 0.01;

/**
 * What goes ahead of more urgent work must save at least this part of the device's time. Else nothing is gained for what is risked: a batch that
 * costs next to nothing would wait until just before its deadline, and any execution that takes longer than predicted makes it late.
 */
const SAVED_PART_MIN = 0.03;
/** What the checks against deadlines add to one execution is added this many times where others are to end behind it. */
const MARGIN_TIMES = 2;

/** Order of urgency: the deadline, less this part of the batch's duration. None of it leaves heavy models to the last moment. */
const DURATION_PART = 0.5;

function urgencyUs(view: View, candidate: Candidate): number {
  return view.deadlines[candidate.group * ITEMS_MAX]! - DURATION_PART * candidate.us;
}

/**
 * The part of the device's time that is saved while a batch waits: of b items it saves overhead · rate · dt / b in dt, since those who join it
 * need no batch of their own.
 */
function savedPart(view: View, { group, size }: Candidate): number {
  const overheadUs = Math.max(view.overheadUs[group]!, OVERHEAD_PART_MIN * view.us[group]![1]!);
  return (overheadUs * view.rate[group]!) / size;
}

/**
 * What speaks for running a batch before others that could run as well. While one runs the others wait and grow: of two neighbours in a
 * sequence the one with the larger duration over what its waiting saves belongs first.
 */
function precedence(view: View, candidate: Candidate): number {
  return candidate.us / savedPart(view, candidate);
}

/** A duration with a margin for how far that of a whole sequence may be off. */
function cautiousUs(view: View, group: number, size: number): number {
  const us = view.us[group]![size]!;
  return us + MARGIN_TIMES * (view.safeUs[group]![size]! - us);
}

function expectedItems(rate: number, forUs: number): number {
  const mean = rate * forUs;
  return mean + DEVIATIONS * Math.sqrt(mean);
}

/**
 * The most urgent first, except that a batch which gains little by waiting goes before more urgent work that gains by it, where all of that,
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
    let saved = 0;
    for (let i = 1; i < count; i++) {
      const candidate = this.#byUrgency[i]!;
      saved += savedPart(view, this.#byUrgency[i - 1]!);
      if (saved < SAVED_PART_MIN || candidate.us < aheadMinUs) continue;
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
    let t = nowUs + cautiousUs(view, candidate.group, candidate.size);
    for (let i = 0; i < moreUrgent; i++) {
      const g = this.#byUrgency[i]!.group;
      const grown = Math.min(cap[g]!, Math.ceil(items[g]! + expectedItems(rate[g]!, t - nowUs)));
      t += cautiousUs(view, g, grown);
      if (t > deadlines[g * ITEMS_MAX]! - wayUs(sloUs[g]!)) return false;
    }
    for (let g = 0; g < view.count; g++) {
      if (items[g]! > 0 || rate[g]! * sloUs[g]! < EXPECTED_MIN) continue;
      const expected = expectedItems(rate[g]!, candidate.us);
      const size = Math.max(1, Math.min(cap[g]!, Math.ceil(expected)));
      t += safeUs[g]![size]! * (1 - Math.exp(-expected));
      if (t > nowUs + sloUs[g]! - wayUs(sloUs[g]!)) return false;
    }
    return true;
  }
}
