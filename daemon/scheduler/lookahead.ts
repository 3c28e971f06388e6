import { type Candidate, Candidates } from "./candidates.ts";
import { type FirstMove, type Order, Rollout } from "./rollout.ts";
import { SlackTest } from "./slack.ts";
import type { View } from "./view.ts";

/** Candidates that are rolled out, those that must start soonest. */
const ROLLED_OUT_MAX = 3;
/** A batch shorter than this part of the smallest SLO cannot hurt anyone enough to think about. */
const SHORT_PART = 0.3;
const SECOND_ORDER_LOSS = 0.05;
const SECOND_ORDER_GROUPS_MAX = 10;
const STEPS_MIN = 12;
const STEPS_TIMES_GROUPS = 400;
/** Loss that leaving the preferred candidate must save. Roll-outs are guesses: small differences between them mean little. */
const LEAVING_GAIN = 1;
/** A hold needs the others to lose this many times what the held batch is worth, and to gain by this much. */
const HOLD_TIMES = 2;
const HOLD_GAIN = 0.05;
const IDLE_US = 2_000;

/** Expected load from which on a lane is planned as overloaded. */
const OVERLOAD = 1.05;

/** What a decision depends on beside the view. */
export interface Situation {
  /** Part of the lane's time that the work takes which is expected, in batches as large as deadlines allow. */
  readonly load: number;
  /** Models are weighted by how much they miss. */
  readonly fair: boolean;
  /** Best-effort work waits for slack. */
  readonly fillWaits: boolean;
}

/** What to do with a free lane: run this candidate, or leave it idle for a while. */
export type Move = { readonly start: Candidate } | { readonly idleUntilUs: number };

/**
 * Prefers what the slack test chooses; in overload, what yields most for its time. Rolls that and the few that must start
 * soonest out over the arrivals that are expected, and leaves the preferred one where another loses clearly less weighted
 * work.
 */
export class Lookahead {
  readonly #candidates = new Candidates();
  readonly #slack = new SlackTest();
  readonly #rollout = new Rollout();
  readonly #idle = { group: -1, skip: 0, size: 0, idleUntilUs: 0 };

  /** Null where no group of the view has work that can run. */
  choose(view: View, situation: Situation): Move | null {
    const candidates = this.#candidates;
    const overloaded = situation.load > OVERLOAD;
    // While best-effort work waits, the device has no time to spare: what cut batches take longer is slack that fill lacks.
    candidates.collect(view, situation.fillWaits ? 1 : situation.load, overloaded);
    if (candidates.count === 0) return null;
    const longest = candidates.longest();
    const first = overloaded
      ? candidates.mostYielding(view)
      : this.#slack.choose(view, candidates, situation.fillWaits);
    candidates.keepMostUrgent(ROLLED_OUT_MAX, first);
    const preferred = candidates.list[0]!;
    if (candidates.count === 1 && preferred.skip === 0 && preferred.us < SHORT_PART * view.sloMinUs) {
      return { start: preferred };
    }

    const endUs = view.nowUs + longest.us + view.sloMinUs;
    let best = preferred;
    let bestLoss = Number.POSITIVE_INFINITY;
    let bestOthers = 0;
    for (let i = 0; i < candidates.count; i++) {
      const candidate = candidates.list[i]!;
      const handicap = i > 0 ? LEAVING_GAIN : 0;
      if (bestLoss <= handicap) break;
      const loss = handicap + this.#loss(view, candidate, endUs, situation, bestLoss - handicap, -1);
      if (loss < bestLoss) {
        bestLoss = loss;
        best = candidate;
        bestOthers = this.#rolledLoss - this.#rollout.lossOf[longest.group]!;
      }
    }
    if (view.count > 1 && longest.us > SHORT_PART * view.sloMinUs) {
      const price = view.costAhead[longest.group]! * longest.size;
      if (bestOthers > HOLD_TIMES * price) return this.#hold(view, longest, price, best, bestLoss, endUs, situation);
    }
    return { start: best };
  }

  /** Loss that the last roll-out counted before backlog and handicap; its parts are in the roll-out. */
  #rolledLoss = 0;

  #loss(view: View, first: FirstMove, endUs: number, situation: Situation, bound: number, without: number): number {
    const steps = Math.max(STEPS_MIN, Math.floor(STEPS_TIMES_GROUPS / view.count));
    const order: Order = situation.fair ? "fair" : "deadline";
    let loss = this.#rollout.run(view, first, endUs, order, steps, bound, without);
    this.#rolledLoss = this.#sum(view);
    if (loss > SECOND_ORDER_LOSS && view.count <= SECOND_ORDER_GROUPS_MAX && situation.load <= OVERLOAD) {
      const other = this.#rollout.run(view, first, endUs, "latest-start", steps, Math.min(loss, bound), without);
      if (other < loss) {
        loss = other;
        this.#rolledLoss = this.#sum(view);
      }
    }
    return loss;
  }

  #sum(view: View): number {
    let sum = 0;
    for (let g = 0; g < view.count; g++) sum += this.#rollout.lossOf[g]!;
    return sum;
  }

  /** A long batch would cost the others more than it is worth: tries what they gain if it is left aside. */
  #hold(
    view: View,
    held: Candidate,
    price: number,
    best: Candidate,
    bestLoss: number,
    endUs: number,
    situation: Situation,
  ): Move {
    let other: Candidate | null = null;
    let otherLoss = bestLoss - HOLD_GAIN;
    for (let i = 0; i < this.#candidates.count; i++) {
      const candidate = this.#candidates.list[i]!;
      if (candidate.group === held.group) continue;
      const loss = price + this.#loss(view, candidate, endUs, situation, otherLoss - price, held.group);
      if (loss < otherLoss) {
        otherLoss = loss;
        other = candidate;
      }
    }
    if (other !== null) return { start: other };
    for (let i = 0; i < this.#candidates.count; i++) {
      if (this.#candidates.list[i]!.group !== held.group) return { start: best };
    }
    const idle = this.#idle;
    idle.idleUntilUs = view.nowUs + IDLE_US;
    const loss = price + this.#loss(view, idle, endUs, situation, otherLoss - price, held.group);
    return loss < otherLoss ? { idleUntilUs: idle.idleUntilUs } : { start: best };
  }
}
