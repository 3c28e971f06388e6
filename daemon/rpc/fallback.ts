/** When another model answers in place of the one that was asked for. */
import type { Outcome } from "../engine/ports.ts";
import type { ShedCause } from "../scheduler/types.ts";
import type { Deadline } from "./deadlines.ts";
import type { ServedModel } from "./ports.ts";

const TOO_LATE: ReadonlySet<ShedCause> = new Set(["late", "sacrificed", "expired"]);

/** Outcomes that say nothing of the request itself: an answer would come too late, or there is nobody to give it. */
export function mayFallBack(outcome: Outcome): outcome is Extract<Outcome, { type: "shed" | "lost" }> {
  return outcome.type === "shed" || outcome.type === "lost";
}

/** Whether the outcome is that of a request that can't be answered in time, for want of time alone. */
export function isTooLate(outcome: Outcome): boolean {
  return outcome.type === "shed" && TOO_LATE.has(outcome.cause);
}

/** Whether, without a fallback, the request would have been answered late. */
export function wouldBeAnsweredLate(outcome: Outcome, deadline: Deadline, asked: ServedModel): boolean {
  return isTooLate(outcome) && !deadline.explicit && !asked.version.settings.shedImplicit;
}

/** The most of a request's time that is kept for the fallback. */
const RESERVE_MAX = 0.3;
/** How much more of it is kept after a fallback came too late, and how much less after the model answered by itself. */
const RESERVE_STEP_UP = 0.01;
const RESERVE_STEP_DOWN = 0.0002;

/**
 * What part of its requests' time a model leaves to its fallback. A model that has too much to do finds that at the last moment: the
 * batch that displaces a request ends when it is too late for the fallback as well. So the model is planned by an earlier time than
 * the deadline, the more so the more often its fallback came too late. With little to do nothing is kept.
 */
export class FallbackReserves {
  readonly #parts = new Map<string, number>();

  /** By when the model is to answer, so that its fallback can where it does not; microseconds. */
  planByUs(model: string, deadlineUs: number, nowUs: number): number {
    const part = this.#parts.get(model) ?? 0;
    return deadlineUs - Math.round(part * Math.max(0, deadlineUs - nowUs));
  }

  /** The fallback could not answer in time either. */
  cameTooLate(model: string): void {
    this.#parts.set(model, Math.min(RESERVE_MAX, (this.#parts.get(model) ?? 0) + RESERVE_STEP_UP));
  }

  /** The model answered a request that its fallback could have answered. */
  wasNotNeeded(model: string): void {
    const part = this.#parts.get(model);
    if (part !== undefined) this.#parts.set(model, Math.max(0, part - RESERVE_STEP_DOWN));
  }
}
