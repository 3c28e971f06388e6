/** Which deadline counts, where several are stated. */
import type { RequestParameters } from "./decode/parameters.ts";

/** The caller's gRPC deadline, and what it means where it was given. */
export interface CallDeadline {
  /** Absolute, engine clock; null without one. */
  readonly atUs: number | null;
  /** On a stream it ends the stream, and so bounds its requests, but it was not chosen for any one of them. */
  readonly stream: boolean;
}

export interface DeadlineInputs {
  /** When the request was received, engine clock. */
  readonly receivedUs: number;
  readonly call: CallDeadline;
  readonly parameters: RequestParameters;
  readonly sloUs: number;
  /** Whether the model or the tenant makes requests best-effort work by default. */
  readonly bestEffortDefault: boolean;
  readonly replyMarginUs: number;
}

export interface Deadline {
  readonly deadlineUs: number | null;
  readonly explicit: boolean;
  readonly expiresUs: number | null;
}

/** The deadline of one request: absolute microseconds on the engine's clock. */
export function resolveDeadline(inputs: DeadlineInputs): Deadline {
  const { receivedUs, call, parameters, replyMarginUs } = inputs;
  const own = parameters.withinUs === null ? null : receivedUs + parameters.withinUs;
  // A deadline of the request's own says that it is no best-effort work, unless the caller says both.
  const bestEffort = parameters.bestEffort ?? (inputs.bestEffortDefault && own === null);
  if (bestEffort) return { deadlineUs: null, explicit: false, expiresUs: earliest(own, call.atUs) };

  const byCall = call.atUs === null ? null : call.atUs - replyMarginUs;
  const stated = call.stream && own === null ? null : earliest(own, byCall);
  if (stated !== null) return { deadlineUs: stated, explicit: true, expiresUs: call.atUs };
  return { deadlineUs: earliest(receivedUs + inputs.sloUs, byCall), explicit: false, expiresUs: call.atUs };
}

function earliest(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.min(a, b);
}

/** A gRPC deadline (Unix milliseconds, Infinity for none) on the engine's clock. */
export function callDeadlineUs(grpcDeadline: Date | number, unixMs: number, nowUs: number): number | null {
  const atMs = Number(grpcDeadline);
  return Number.isFinite(atMs) ? nowUs + Math.round((atMs - unixMs) * 1000) : null;
}
