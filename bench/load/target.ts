/** What the load generator sends requests to: a daemon through the SDK, or a fake in tests. */

/** One inference call as the generator asks for it. */
export interface Call {
  readonly model: string;
  readonly tenant: string;
  readonly items: number;
  /** Time that is left to answer, from now; null where the caller states none. */
  readonly deadlineMs: number | null;
  readonly bestEffort: boolean;
}

/** Where the daemon says the time went. */
export interface ReplyTimings {
  /** Items of the batch that answered this request, padding left out. */
  readonly batchItems: number;
  /** What was executed: items padded up to this size. */
  readonly bucket: number;
  readonly queueUs: number;
  readonly executeUs: number;
  readonly lane: string;
}

/** How a call ended. Never rejected: what goes wrong is an outcome too. */
export type CallOutcome =
  | {
      readonly type: "answered";
      readonly timings: ReplyTimings | null;
      /** Where the answer did not come from executing the model that was asked for. */
      readonly otherwise?: "fallback" | "cached" | undefined;
    }
  /** Refused or dropped before execution, and the daemon said why. */
  | { readonly type: "shed"; readonly cause: string }
  | { readonly type: "error"; readonly code: string; readonly message: string };

export interface Target {
  send(call: Call): Promise<CallOutcome>;
}
