/** Errors on the wire: one class, its statuses, and how it travels on unary calls and on streams. */
import { Metadata, status } from "@grpc/grpc-js";
import { ERROR_PARAMETERS, type SHARED_MEMORY_CAUSE } from "../../proto/parameters.ts";
import type { ShedCause } from "../scheduler/types.ts";
import type { WireParameter } from "./messages.ts";
import { headerText } from "./text.ts";

/** `native`: the statuses of slackline's own table; `triton`: shed requests are UNAVAILABLE, as Triton answers them. */
export type ErrorStyle = "native" | "triton";

export type RpcCode =
  | "CANCELLED"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE";

/** Why, in one word: what callers and metrics tell apart. */
export type RpcCause =
  | ShedCause
  | "invalid"
  | "not_found"
  | "not_offered"
  | "not_ready"
  | "draining"
  | "inflight_bytes"
  | "unread_answers"
  | "stream_requests"
  | "overloaded"
  | "failed"
  | typeof SHARED_MEMORY_CAUSE
  | "lost"
  | "cancelled"
  | "refused"
  | "internal";

const SHED: ReadonlySet<RpcCause> = new Set<RpcCause>([
  "expired",
  "late",
  "sacrificed",
  "queue_items",
  "queue_bytes",
  "inflight_bytes",
  "stream_requests",
  "overloaded",
]);

/** An answer that is not a result. The message goes to the caller as it stands. */
export class RpcError extends Error {
  readonly code: RpcCode;
  override readonly cause: RpcCause;
  readonly retryAfterMs: number | null;

  constructor(code: RpcCode, cause: RpcCause, message: string, retryAfterMs: number | null = null) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.cause = cause;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The caller's mistake. */
export function invalid(message: string): RpcError {
  return new RpcError("INVALID_ARGUMENT", "invalid", message);
}

/** What is said of an exception that nothing foresaw; the exception itself goes to the log only. */
export function internalError(): RpcError {
  return new RpcError("INTERNAL", "internal", "the request failed by an error in the daemon; its log has the details");
}

/** The status name that a caller sees. */
export function wireCode(error: RpcError, style: ErrorStyle): RpcCode {
  return style === "triton" && SHED.has(error.cause) ? "UNAVAILABLE" : error.code;
}

export interface UnaryStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** The status and trailers of a unary call. */
export function unaryStatus(error: RpcError, style: ErrorStyle): UnaryStatus {
  const code = wireCode(error, style);
  const metadata = new Metadata();
  metadata.set(ERROR_PARAMETERS.code, code);
  metadata.set(ERROR_PARAMETERS.cause, error.cause);
  if (error.retryAfterMs !== null) metadata.set(ERROR_PARAMETERS.retryAfterMs, String(error.retryAfterMs));
  return { code: status[code], details: headerText(error.message), metadata };
}

/** The same as response parameters, for a stream. */
export function errorParameters(error: RpcError, style: ErrorStyle): Record<string, WireParameter> {
  const parameters: Record<string, WireParameter> = {
    [ERROR_PARAMETERS.code]: { string_param: wireCode(error, style) },
    [ERROR_PARAMETERS.cause]: { string_param: error.cause },
  };
  if (error.retryAfterMs !== null) parameters[ERROR_PARAMETERS.retryAfterMs] = { int64_param: error.retryAfterMs };
  return parameters;
}
