import { HISTORY_MAX, type Lane } from "./lane.ts";
import type { QueuedRequest } from "./request.ts";
import type { WaitExplanation } from "./types.ts";

/** What a request waited for from its arrival to `startUs`, from what its lane did meanwhile. */
export function explainWait(request: QueuedRequest, lane: Lane, startUs: number): WaitExplanation {
  const own = request.group.model.spec.model;
  let blockedUs = 0;
  let ownBatchesUs = 0;
  let mispredictedUs = 0;
  const blockers = new Map<string, number>();
  let sinceUs = startUs;
  let back = 0;
  for (let past = lane.past(0); past !== undefined && past.endUs > request.arrivedUs; past = lane.past(++back)) {
    sinceUs = past.startUs;
    const overlapUs = Math.min(past.endUs, startUs) - Math.max(past.startUs, request.arrivedUs);
    if (overlapUs <= 0) continue;
    if (past.model === own) {
      ownBatchesUs += overlapUs;
    } else {
      blockedUs += overlapUs;
      blockers.set(past.model, (blockers.get(past.model) ?? 0) + overlapUs);
    }
    const overrunUs = past.endUs - Math.max(past.startUs + past.predictedUs, request.arrivedUs);
    mispredictedUs += Math.max(0, Math.min(overrunUs, overlapUs));
  }
  const waitedUs = startUs - request.arrivedUs;
  // What is further back than the lane remembers was a busy time, or it would still be remembered.
  if (back === HISTORY_MAX) blockedUs += Math.max(0, sinceUs - request.arrivedUs);
  let blockedBy: string | undefined;
  for (const [model, us] of blockers) if (blockedBy === undefined || us > blockers.get(blockedBy)!) blockedBy = model;
  const heldUs = Math.max(0, waitedUs - blockedUs - ownBatchesUs);
  const parts = { blockedUs, ownBatchesUs, mispredictedUs: Math.round(mispredictedUs), heldUs };
  return blockedBy === undefined ? parts : { blockedBy, ...parts };
}
