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

/** Whether, without a fallback, the request would have been answered late. */
export function wouldBeAnsweredLate(outcome: Outcome, deadline: Deadline, asked: ServedModel): boolean {
  const isTooLate = outcome.type === "shed" && TOO_LATE.has(outcome.cause);
  return isTooLate && !deadline.explicit && !asked.version.settings.shedImplicit;
}
