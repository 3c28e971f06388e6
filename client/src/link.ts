/** A way to a daemon, as the router sees it: a stream, or a target's unary calls. */
import type { SlacklineError } from "./errors.ts";
import { REQUEST_PARAMETERS } from "./generated/parameters.ts";
import type { InferCall } from "./infer-call.ts";
import type { Urgency } from "./urgency.ts";
import type { WireParameter } from "./wire/request.ts";
import type { WireResponse } from "./wire/response.ts";

export interface Link {
  /** Whether a request of this urgency can be sent now: connected, and with room beside what is outstanding. */
  takes(urgency: Urgency): boolean;
  /** Whether it is connected. */
  readonly connected: boolean;
  /** Requests that the daemon has not answered, for choosing the least loaded link. */
  readonly load: number;
  /** Which daemon this leads to, as far as that is known. */
  readonly peer: string;
  /** Whether the same link may lead a second attempt to another daemon. */
  readonly roams: boolean;
  /** Throws INVALID_ARGUMENT where the request can't be encoded, and has nothing to do with it then. */
  send(call: InferCall): void;
  /** The deadline of a request that was sent has passed without an answer. */
  overdue(call: InferCall): void;
  /** Nobody waits for this request any more: cancels it at the daemon. */
  abandon(call: InferCall): void;
  close(): void;
}

/** A link that can be replaced while requests are outstanding on it. */
export interface ReplaceableLink extends Link {
  /** Takes no more requests, and closes once those it has are answered or given up; calls `closed` then. */
  drain(closed: () => void): void;
}

/** Why a request that was outstanding has no answer. */
export type Failure =
  /** The daemon answered with an error. */
  | { readonly type: "answered"; readonly error: SlacklineError; readonly shed: boolean }
  /** gRPC's own deadline, which is the request's and the grace after it. */
  | { readonly type: "expired" }
  /** The connection or stream is gone, whatever the request was. */
  | { readonly type: "lost"; readonly error: SlacklineError }
  /** The stream was ended by an error that one of its requests may have caused. */
  | { readonly type: "suspect"; readonly error: SlacklineError };

export interface LinkEvents {
  answered(call: InferCall, response: WireResponse): void;
  failed(call: InferCall, failure: Failure, link: Link): void;
  /** The link can take requests, or more of them than before. */
  available(): void;
}

/** Of a short time, no more than this share is kept for the answer's way back. */
const REPLY_SHARE_MAX = 0.1;

/** The parameter that tells the daemon by when an attempt's answer has to be ready: the time left, less the way back. */
export function deadlineParameters(call: InferCall): WireParameter[] {
  if (call.deadlineAt === null) return [];
  const remaining = call.remainingMs;
  const ready = remaining - Math.min(call.settings.replyMarginMs, remaining * REPLY_SHARE_MAX);
  // Whole milliseconds, unless these are too coarse.
  return [{ name: REQUEST_PARAMETERS.deadlineMs, value: ready > 20 ? Math.floor(ready) : Math.max(0.001, ready) }];
}
