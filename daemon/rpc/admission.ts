/**
 * Refuses unary requests that have waited too long to be read, by their headers alone: that takes a third of what an answer takes. Without it,
 * callers that ask for more than can be read are all answered when nobody waits any more. As with the controlled delay of "Fail at Scale"
 * (Facebook, ACM Queue 2015) a burst may wait for as long as its deadlines bear it, but where waiting does not end it helps nobody, and
 * all wait for less.
 */
import { ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import type { Arrivals } from "./arrivals.ts";
import { type ErrorStyle, RpcError, type UnaryStatus, unaryStatus } from "./errors.ts";
import { RETRY_AFTER_MS } from "./inference-gateway.ts";
import type { RequestObserver } from "./ports.ts";

/** A request may, as far as can be known, have lost this share of its time when it is read: the rest is for planning, executing and answering. */
const LOST_SHARE_MAX = 0.75;

/** Where waiting does not end: an answer waits for two more turns that are as long. */
const STANDING_SHARE_MAX = 0.25;

/** However little time a request has: so long callers wait for each other at any daemon that is busy. */
const STANDING_US_MIN = 10_000;

/** It does not end when a daemon has been behind for longer than a stall lasts, and than a request may wait. */
const STALL_US_MAX = 100_000;

/** What was read so soon need not be corrected. */
const UNNOTICED_US = 1000;

export interface AdmissionParts {
  readonly arrivals: Arrivals;
  readonly errors: ErrorStyle;
  readonly observer: RequestObserver | null;
  /** The clock of `arrivals`, microseconds. */
  nowUs(): number;
  /** Whether all requests are refused, however soon they are read: with another answer than here. */
  draining(): boolean;
}

/** For the unary method of this path; other calls stay as they are. */
export function admission(
  path: string,
  { arrivals, errors, observer, nowUs, draining }: AdmissionParts,
): ServerInterceptor {
  const refusal = new RpcError(
    "RESOURCE_EXHAUSTED",
    "overloaded",
    "the daemon receives more requests than it can read, and this one has waited for too long: ask for less, or use more daemons",
    RETRY_AFTER_MS,
  );
  const status = unaryStatus(refusal, errors);
  return (method, call) => {
    // A call that nothing is added to need not be wrapped, whatever the declared type says.
    const asItIs = call as ServerInterceptingCall;
    if (method.path !== path || draining()) return asItIs;
    const connection = asItIs.getPeer();
    const latestUs = arrivals.latestUs(connection);
    const now = nowUs();
    const waitedUsMin = now - latestUs;
    const waitedUsMax = now - arrivals.earliestUs(connection);
    if (waitedUsMax < UNNOTICED_US) return asItIs;
    const timeoutUs = 1000 * (Number(call.getDeadline()) - Date.now());
    if (waitedUsMax > waitUsMax(timeoutUs, arrivals.behindUs())) {
      observer?.refused(null, refusal.code, refusal.cause);
      return new RefusedCall(asItIs, status);
    }
    return waitedUsMin < UNNOTICED_US ? asItIs : new AgedCall(asItIs, waitedUsMin / 1000);
  };
}

function waitUsMax(timeoutUs: number, behindUs: number): number {
  const burstUsMax = LOST_SHARE_MAX * timeoutUs;
  if (behindUs <= Math.max(STALL_US_MAX, burstUsMax)) return burstUsMax;
  return Math.min(burstUsMax, Math.max(STANDING_US_MIN, STANDING_SHARE_MAX * timeoutUs));
}

class RefusedCall extends ServerInterceptingCall {
  readonly #status: UnaryStatus;

  constructor(call: ServerInterceptingCall, status: UnaryStatus) {
    super(call);
    this.#status = status;
  }

  override start(): void {
    this.sendStatus(this.#status);
  }
}

/** A call whose deadline began to run before it was read. */
class AgedCall extends ServerInterceptingCall {
  readonly #waitedMs: number;

  constructor(call: ServerInterceptingCall, waitedMs: number) {
    super(call);
    this.#waitedMs = waitedMs;
  }

  override getDeadline(): number {
    return Number(super.getDeadline()) - this.#waitedMs;
  }
}
