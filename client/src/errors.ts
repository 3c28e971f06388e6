/** The one error class of the SDK. */

/** Names of the gRPC statuses, by number. */
const CODE_NAMES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

export type SlacklineErrorCode = Exclude<(typeof CODE_NAMES)[number], "OK">;

/** A status's name from its number or its name; UNKNOWN for anything else. */
export function codeName(code: unknown): SlacklineErrorCode {
  const name = typeof code === "number" ? CODE_NAMES[code] : CODE_NAMES.find((known) => known === code);
  return name === undefined || name === "OK" ? "UNKNOWN" : name;
}

export interface SlacklineErrorDetails {
  /** Why, in one word, where the daemon or the client says so: see `SlacklineError.reason`. */
  readonly reason?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  /** The error behind this one: an abort's reason, gRPC's own error. */
  readonly cause?: unknown;
}

/**
 * Everything the SDK rejects with or throws, the same for streams and unary calls.
 *
 * `code` is the gRPC status's name. Those worth handling: `DEADLINE_EXCEEDED` (the answer would be, or is, too late),
 * `RESOURCE_EXHAUSTED` (a queue's limit), `UNAVAILABLE` (no daemon could be reached in the time there was), `CANCELLED` (aborted
 * or closed by the caller), `INVALID_ARGUMENT` and `NOT_FOUND` (the request is wrong; the message says how).
 */
export class SlacklineError extends Error {
  readonly code: SlacklineErrorCode;
  /**
   * The daemon's cause of a shed (`expired`, `late`, `sacrificed`, `queue_items`, `queue_bytes`, `unloaded`, …), or the client's
   * own: `no_answer` (nothing came by the deadline), `no_connection` (no daemon was reached), `client_queue` (too many requests
   * wait in this process), `aborted`, `closed`.
   */
  readonly reason: string | undefined;
  /** After how long trying again may succeed, in milliseconds, where the daemon gives a hint. */
  readonly retryAfterMs: number | undefined;

  constructor(code: SlacklineErrorCode, message: string, details: SlacklineErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "SlacklineError";
    this.code = code;
    this.reason = details.reason;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** An argument that could not be sent. */
export function invalidArgument(message: string): SlacklineError {
  return new SlacklineError("INVALID_ARGUMENT", message);
}
