/** Turns what gRPC and the daemon report into SlacklineErrors. */
import { type Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { codeName, SlacklineError, type SlacklineErrorCode } from "./errors.ts";
import { ERROR_PARAMETERS } from "./generated/parameters.ts";
import type { Failure } from "./link.ts";
import type { ParameterValue } from "./wire/request.ts";

/** Causes of sheds that another daemon may not have: its queue and its device are its own. */
const SHED_CODES = new Set(["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"]);

/**
 * Codes of sheds by cause. A daemon with `errors: triton` answers them all with UNAVAILABLE, which here stands for what is not there for the
 * moment: a daemon, a device, a model.
 */
const CODE_OF_SHED: ReadonlyMap<unknown, SlacklineErrorCode> = new Map([
  ["expired", "DEADLINE_EXCEEDED"],
  ["late", "DEADLINE_EXCEEDED"],
  ["sacrificed", "DEADLINE_EXCEEDED"],
  ["queue_items", "RESOURCE_EXHAUSTED"],
  ["queue_bytes", "RESOURCE_EXHAUSTED"],
  ["inflight_bytes", "RESOURCE_EXHAUSTED"],
  ["stream_requests", "RESOURCE_EXHAUSTED"],
  ["overloaded", "RESOURCE_EXHAUSTED"],
]);

/** The daemon's cause of UNAVAILABLE where the request was executing when its device was lost: it may be what brought that about. */
export const LANE_LOST = "lost";

/** The error of a response on a stream. */
export function fromStreamError(message: string, parameters: Readonly<Record<string, ParameterValue>>): Failure {
  const code = parameters[ERROR_PARAMETERS.code];
  return fromDaemon(
    code === undefined ? "UNKNOWN" : code,
    message,
    parameters[ERROR_PARAMETERS.cause],
    parameters[ERROR_PARAMETERS.retryAfterMs],
  );
}

function fromDaemon(code: unknown, message: string, cause: unknown, retryAfter: unknown, error?: Error): Failure {
  const told = codeName(code);
  const name = (told === "UNAVAILABLE" ? CODE_OF_SHED.get(cause) : undefined) ?? told;
  const reason = typeof cause === "string" && cause !== "" ? cause : undefined;
  const hint = retryAfter === undefined || retryAfter === "" ? Number.NaN : Number(retryAfter);
  return {
    type: "answered",
    error: new SlacklineError(name, message, {
      reason,
      retryAfterMs: Number.isFinite(hint) ? hint : undefined,
      cause: error,
    }),
    shed: SHED_CODES.has(name) && (reason !== undefined || name === "UNAVAILABLE"),
  };
}

const text = (metadata: Metadata | undefined, key: string): string | undefined => metadata?.get(key)[0]?.toString();

/** A server that stops cancels or drops its calls: that says nothing about the request. */
const LOST_CODES: ReadonlySet<number> = new Set([status.UNAVAILABLE, status.CANCELLED]);

/** The error of a unary call that this client did not cancel. */
export function fromUnaryError(error: ServiceError): Failure {
  const { metadata, details, code } = error;
  const daemonCode = text(metadata, ERROR_PARAMETERS.code);
  if (daemonCode === undefined && code === status.DEADLINE_EXCEEDED) return { type: "expired" };
  if (daemonCode === undefined && LOST_CODES.has(code)) {
    return {
      type: "lost",
      error: new SlacklineError("UNAVAILABLE", details, { reason: "no_connection", cause: error }),
    };
  }
  return fromDaemon(
    daemonCode ?? code,
    details,
    text(metadata, ERROR_PARAMETERS.cause),
    text(metadata, ERROR_PARAMETERS.retryAfterMs),
    error,
  );
}

/** What the end of a stream means for the requests that were outstanding on it. */
export function fromStreamEnd(code: number, details: string): Failure {
  if (code === status.OK || LOST_CODES.has(code)) {
    const why = details === "" || code === status.OK ? "the stream was ended by the server" : details;
    return { type: "lost", error: new SlacklineError("UNAVAILABLE", why, { reason: "no_connection" }) };
  }
  return { type: "suspect", error: new SlacklineError(codeName(code), details) };
}
