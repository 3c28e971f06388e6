/** One attempt at a request, on whatever link: the message that carries it, and the shared memory that is lent for it meanwhile. */
import { SlacklineError } from "./errors.ts";
import { SHARED_MEMORY_CAUSE } from "./generated/parameters.ts";
import type { InferCall } from "./infer-call.ts";
import { deadlineParameters, type Failure } from "./link.ts";
import type { LeaseSource } from "./shared/lease.ts";
import { encodeInferRequest } from "./wire/request.ts";
import type { WireResponse } from "./wire/response.ts";

/**
 * The message of an attempt; large tensors go to shared memory where there is some. Throws INVALID_ARGUMENT where a tensor can't be read
 * any more, or all are too large for one message.
 */
export function encodeAttempt(call: InferCall, id: string, memory: LeaseSource | null): Buffer {
  const { request } = call.settings;
  call.lease = memory === null || call.withoutLease ? null : memory.lease(request);
  try {
    return encodeInferRequest(request, id, deadlineParameters(call), call.lease?.places ?? null);
  } catch (cause) {
    call.lease?.release();
    call.lease = null;
    const message = `the request for model '${request.model}' can't be encoded: ${(cause as Error).message}`;
    throw new SlacklineError("INVALID_ARGUMENT", message, { cause });
  }
}

/** The daemon has answered the attempt, and the answer was read. */
export function attemptAnswered(call: InferCall, response: WireResponse, memory: LeaseSource | null): void {
  call.lease?.release();
  call.lease = null;
  memory?.answered(call.settings.request, response);
}

/** What a failed attempt means: one whose memory the daemon could not use is made again without. */
export function attemptFailed(call: InferCall, failure: Failure): Failure {
  const { lease } = call;
  call.lease = null;
  if (lease === null) return failure;
  // Whatever did not come from the daemon's own code says nothing of what it does with the request.
  if (failure.type !== "answered" || failure.error.reason === undefined) {
    lease.doubt();
    return failure;
  }
  if (failure.error.reason !== SHARED_MEMORY_CAUSE) {
    lease.release();
    return failure;
  }
  lease.refused(failure.error.message);
  call.withoutLease = true;
  return { type: "lost", error: failure.error };
}
