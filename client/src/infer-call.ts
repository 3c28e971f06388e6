/** One `infer` from the call to its end. */
import type { Metadata } from "@grpc/grpc-js";
import type { SlacklineError } from "./errors.ts";
import type { Link } from "./link.ts";
import type { Lease } from "./shared/lease.ts";
import type { Urgency } from "./urgency.ts";
import type { WireRequest } from "./wire/request.ts";
import type { WireResponse } from "./wire/response.ts";

export interface InferCallSettings {
  readonly request: WireRequest;
  /** Milliseconds, as the caller stated it. */
  readonly deadlineMs: number | null;
  /** What is kept of it for the answer's way back. */
  readonly replyMarginMs: number;
  readonly bestEffort: boolean;
  readonly retry: boolean;
  /** Of a unary call; a stream has its own. */
  readonly metadata: Metadata;
}

const TIMER_MS_MAX = 2 ** 31 - 1;

/** The deadline's clock: monotonic milliseconds. */
export const nowMs = (): number => performance.now();

export class InferCall {
  readonly settings: InferCallSettings;
  /** On `nowMs`'s clock; null for none. */
  readonly deadlineAt: number | null;
  readonly urgency: Urgency;
  /** The id under which the link that has it knows it. */
  wireId = "";
  /** The shared memory that its attempt has; null for none. */
  lease: Lease | null = null;
  /** Whether the daemon could not use shared memory for it: then all travels in the message. */
  withoutLease = false;
  /** Where it is outstanding; null while it waits. */
  link: Link | null = null;
  /** Daemons that shed it. */
  readonly shedBy: string[] = [];
  /** When its last attempt was sent. */
  sentMs = 0;
  /** How often it was sent again since a daemon last had it for a while: a stream or connection broke, or the daemon asked for that. */
  resends = 0;
  /** When that happened first; undefined for never. */
  firstLostMs: number | undefined = undefined;
  /** How often a device's lane was lost while it executed the request. */
  lanesLost = 0;
  timer: NodeJS.Timeout | null = null;
  settled = false;
  /** Ends the request early and cancels it at the daemon; set by the router that has it. */
  giveUp: (error: SlacklineError) => void = (error) => this.reject(error);
  unwatchSignal: (() => void) | null = null;
  readonly #resolve: (response: WireResponse) => void;
  readonly #reject: (error: SlacklineError) => void;

  constructor(
    settings: InferCallSettings,
    resolve: (response: WireResponse) => void,
    reject: (error: SlacklineError) => void,
  ) {
    this.settings = settings;
    this.deadlineAt = settings.deadlineMs === null ? null : nowMs() + settings.deadlineMs;
    this.urgency = settings.bestEffort ? "background" : this.deadlineAt === null ? "slo" : "deadline";
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Milliseconds left; Infinity without a deadline. */
  get remainingMs(): number {
    return this.deadlineAt === null ? Number.POSITIVE_INFINITY : this.deadlineAt - nowMs();
  }

  resolve(response: WireResponse): void {
    if (this.#settle()) this.#resolve(response);
  }

  reject(error: SlacklineError): void {
    if (this.#settle()) this.#reject(error);
  }

  arm(delayMs: number, fn: () => void): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(fn, Math.min(TIMER_MS_MAX, Math.max(0, delayMs)));
  }

  #settle(): boolean {
    if (this.settled) return false;
    this.settled = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.unwatchSignal?.();
    return true;
  }
}
