/** Which failures pass by themselves, and how long to wait for that. */
import type { SlacklineError } from "../errors.ts";

const PAUSE_MS_MIN = 20;
const PAUSE_MS_MAX = 5_000;
/** The client's and the daemon's causes of RESOURCE_EXHAUSTED that pass although no hint says when. */
const PASSING: ReadonlySet<string | undefined> = new Set(["client_queue", "stream_requests", "unread_answers"]);

/** Whether the model, or the version that was asked for, is not served and is not about to be. */
export function isNotServed({ code, reason, retryAfterMs }: SlacklineError): boolean {
  return code === "NOT_FOUND" || (reason === "not_ready" && retryAfterMs === undefined);
}

/** Whether the same request may succeed later. */
export function passes(error: SlacklineError): boolean {
  const { code, reason, retryAfterMs } = error;
  if (code === "UNAVAILABLE") return !isNotServed(error);
  // Without hint or known cause it may be the message itself that is too large, today and tomorrow.
  return code === "RESOURCE_EXHAUSTED" && (retryAfterMs !== undefined || PASSING.has(reason));
}

/** Milliseconds until the next attempt, after so many pauses before. */
export function pauseMsOf({ retryAfterMs }: SlacklineError, pauses: number): number {
  const backoffMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** pauses);
  return Math.max(retryAfterMs ?? 0, backoffMs * (0.5 + Math.random() / 2));
}
