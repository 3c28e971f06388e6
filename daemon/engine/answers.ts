import type { BatchPlan } from "../scheduler/types.ts";
import type { PendingRequest } from "./pending.ts";
import type { ExecutionResult, ExecutionTimings, Outcome, RequestTimings } from "./ports.ts";
import { cutBack, splitOutputs } from "./split.ts";

/** Where one request's time went. */
export function timingsOf(
  request: PendingRequest,
  plan: BatchPlan,
  execution: ExecutionTimings,
  endedUs: number,
): RequestTimings {
  return {
    gatherUs: execution.gatherUs,
    executeUs: execution.executeUs,
    collectUs: execution.collectUs,
    // A batch that lay ready began before the end of the one before it was known.
    queueUs: Math.max(0, Math.min(request.startedUs, endedUs - execution.executeUs) - request.arrivedUs),
    batchItems: plan.items,
    bucket: plan.bucket,
    lane: plan.lane,
    lateUs: request.deadlineUs === null ? 0 : Math.max(0, endedUs - request.deadlineUs),
    waited: request.waited,
  };
}

/**
 * What one request of a batch that ended is told.
 *
 * @param offset of its first item in the batch
 * @param timings not null where the request was executed with success
 */
export function outcomeOf(
  request: PendingRequest,
  plan: BatchPlan,
  result: ExecutionResult,
  offset: number,
  timings: RequestTimings | null,
): Outcome {
  const error = result.unreadable?.get(request.id);
  if (error !== undefined) return { type: "unreadable", error };
  if (!result.ok) return { type: "failed", message: result.message };
  const outputs = splitOutputs(result.outputs, request.outputs, plan.bucket, offset, request.items);
  if (typeof outputs === "string") return { type: "failed", message: `the model returned no output '${outputs}'` };
  const { padding } = request;
  const own = padding === null ? outputs : outputs.map((output) => cutBack(output, padding));
  return { type: "answered", outputs: own, timings: timings! };
}
