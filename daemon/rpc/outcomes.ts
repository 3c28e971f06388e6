/** What the engine says of a request, as callers are told. */
import type { AcceptedRequest, Outcome } from "../engine/ports.ts";
import type { ShedCause, ShedDetail } from "../scheduler/types.ts";
import type { ModelPlan } from "./decode/model-plan.ts";
import { internalError, RpcError } from "./errors.ts";
import { shownMs, withoutHostPaths } from "./text.ts";

/** The error of a request that was not answered. */
export function outcomeError(
  outcome: Exclude<Outcome, { type: "answered" }>,
  request: AcceptedRequest,
  plan: ModelPlan,
  nowUs: number,
): RpcError {
  const model = plan.version.name;
  switch (outcome.type) {
    case "shed":
      return shedError(outcome.cause, outcome.detail, request, model, nowUs);
    case "failed": {
      const message = withoutHostPaths(outcome.message, plan.hostFolders);
      return new RpcError("INTERNAL", "failed", `model '${model}' failed while running: ${message}`);
    }
    case "unreadable":
      return outcome.error instanceof RpcError ? outcome.error : internalError();
    case "lost": {
      const reason = withoutHostPaths(outcome.reason, plan.hostFolders);
      return new RpcError(
        "UNAVAILABLE",
        "lost",
        `the device was lost while it executed the request for model '${model}' (${reason}); it may be tried again`,
      );
    }
  }
}

function shedError(
  cause: ShedCause,
  detail: ShedDetail,
  request: AcceptedRequest,
  model: string,
  nowUs: number,
): RpcError {
  const retryAfterMs = detail.retryAfterUs === undefined ? null : Math.max(1, Math.ceil(detail.retryAfterUs / 1000));
  const hint = retryAfterMs === null ? "" : `; try again in ${retryAfterMs} ms`;
  switch (cause) {
    case "expired":
      return new RpcError("DEADLINE_EXCEEDED", cause, `${expiredSentence(request, model, nowUs)}${hint}`, retryAfterMs);
    case "late":
    case "sacrificed":
      return new RpcError(
        "DEADLINE_EXCEEDED",
        cause,
        `${lateSentence(cause, detail, request, model, nowUs)}${hint}`,
        retryAfterMs,
      );
    case "queue_items":
    case "queue_bytes":
      return new RpcError(
        "RESOURCE_EXHAUSTED",
        cause,
        `${queueSentence(cause, detail, request, model)}${hint}`,
        retryAfterMs,
      );
    case "unloaded":
      return new RpcError("UNAVAILABLE", cause, `model '${model}' was unloaded before the request was executed`);
  }
}

function queueSentence(
  cause: "queue_items" | "queue_bytes",
  { limit }: ShedDetail,
  { items, bytes }: AcceptedRequest,
  model: string,
): string {
  const own = cause === "queue_items" ? items : bytes;
  const what = cause === "queue_items" ? "items" : "bytes";
  return limit !== undefined && own > limit
    ? `the request's ${own} ${what} are more than may wait for model '${model}': ${cause}_max is ${limit}`
    : `the queue of model '${model}' is full: ${cause}_max is ${limit ?? "reached"}`;
}

function expiredSentence(request: AcceptedRequest, model: string, nowUs: number): string {
  if (request.deadlineUs === null) {
    return `the best-effort request for model '${model}' expired after ${shownMs(nowUs - request.arrivedUs)} ms in the queue`;
  }
  if (request.deadlineUs <= request.arrivedUs) {
    return `the deadline of the request for model '${model}' had passed on arrival, by ${shownMs(request.arrivedUs - request.deadlineUs)} ms`;
  }
  return `the deadline of the request for model '${model}' passed after ${shownMs(nowUs - request.arrivedUs)} ms in the queue`;
}

/** Says what stood before the request and what was predicted for it, as far as the scheduler knows. */
function lateSentence(
  cause: "late" | "sacrificed",
  detail: ShedDetail,
  request: AcceptedRequest,
  model: string,
  nowUs: number,
): string {
  const parts: string[] = [];
  if (detail.blockedBy !== undefined) {
    parts.push(
      detail.blockedBy === request.model ? "blocked by its own queue" : `blocked by model '${detail.blockedBy}'`,
    );
  }
  if (detail.queuedItems !== undefined) parts.push(`${detail.queuedItems} items queued`);
  if (detail.predictedEndUs !== undefined) {
    const late = request.deadlineUs === null ? null : detail.predictedEndUs - request.deadlineUs;
    const by = late !== null && late > 0 ? `, ${shownMs(late)} ms after the deadline` : "";
    parts.push(`predicted finish in ${shownMs(Math.max(0, detail.predictedEndUs - nowUs))} ms${by}`);
  }
  const what =
    cause === "late"
      ? `the request for model '${model}' would miss its deadline`
      : `the request for model '${model}' was dropped so that others meet their deadlines`;
  return parts.length === 0 ? what : `${what}: ${parts.join(", ")}`;
}
