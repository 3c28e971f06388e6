/** Counters of one model version or one lane since the daemon started: plain numbers, so that counting costs next to nothing. */
import type { ShedCause, StartReason } from "../scheduler/types.ts";

export const START_REASONS: readonly StartReason[] = ["deadline", "fill", "share"];

/**
 * Why a request with a deadline was not answered by it. Sheds have the scheduler's cause; late answers the largest part
 * of their wait: other models' batches, own earlier batches, executions that took longer than predicted, time held back,
 * or, where nothing of that stands out, the execution itself.
 */
export type MissCause =
  | ShedCause
  | "blocked"
  | "own_batches"
  | "mispredicted"
  | "held"
  | "execution"
  | "failed"
  | "lost";

/** Executions of one batch size (items, padding left out). */
export interface BatchSizeTally {
  executions: number;
  gatherUs: number;
  executeUs: number;
  collectUs: number;
}

export class ExecutionTally {
  readonly executions: Record<StartReason, number> = { deadline: 0, fill: 0, share: 0 };
  /** Wall time from start to end as the engine saw it. */
  readonly busyUs: Record<StartReason, number> = { deadline: 0, fill: 0, share: 0 };
  items = 0;
  /** Items and padding. */
  slots = 0;
  /** Padding, in items: what fills up buckets, and by what share longer sequences stood in their batch than they are. */
  paddingItems = 0;
}

/** The parts of a model version's key (`name/version`). */
export function labelsOfKey(key: string): { readonly model: string; readonly version: string } {
  const slash = key.lastIndexOf("/");
  return slash < 0 ? { model: key, version: "" } : { model: key.slice(0, slash), version: key.slice(slash + 1) };
}

export class ModelTally extends ExecutionTally {
  readonly name: string;
  readonly version: string;
  requests = 0;
  bestEffortRequests = 0;
  onTime = 0;
  late = 0;
  /** Best-effort and demoted requests answered. */
  bestEffort = 0;
  demoted = 0;
  failed = 0;
  /** Went down with their lane. */
  lost = 0;
  cancelledQueued = 0;
  cancelledExecuting = 0;
  /** Refused before they reached the engine. */
  refused = 0;
  /** Accepted, and not executing yet. */
  pending = 0;
  readonly shed: Partial<Record<ShedCause, number>> = {};
  /** Refused by this model and given to its fallback: which answered, by cause, or did not. */
  readonly fallbacks: Partial<Record<string, number>> = {};
  readonly fallbackFailures: Partial<Record<string, number>> = {};
  readonly misses: Partial<Record<MissCause, number>> = {};
  /** Answered from the cache; requests and answers count them too. */
  cacheHits = 0;
  /** Executed, or tried to be, since the cache had no answer. */
  cacheMisses = 0;
  /** What the cache took for hits: looking up; for misses: looking up and keeping the answer. */
  cacheHitUs = 0;
  cacheMissUs = 0;
  lastInferenceMs = 0;
  /** Items of requests that were executed and answered. */
  inferredItems = 0;
  /** Executions that succeeded. */
  succeededExecutions = 0;
  /** From arrival to answer of those answered, to the end of those that failed or were shed. */
  successUs = 0;
  failUs = 0;
  queueUs = 0;
  /** Each request counts its whole batch's time, as Triton counts it. */
  gatherUs = 0;
  executeUs = 0;
  collectUs = 0;
  readonly batchSizes: Map<number, BatchSizeTally> = new Map();

  constructor(key: string) {
    super();
    ({ model: this.name, version: this.version } = labelsOfKey(key));
  }

  get answered(): number {
    return this.onTime + this.late + this.bestEffort;
  }

  /** Answered by executing them. */
  get inferred(): number {
    return this.answered - this.cacheHits;
  }

  get shedTotal(): number {
    return Object.values(this.shed).reduce((sum, count) => sum + count, 0);
  }

  get cancelled(): number {
    return this.cancelledQueued + this.cancelledExecuting;
  }
}

export class LaneTally extends ExecutionTally {
  readonly lane: string;
  kind: "device" | "replica";
  up = true;
  /** Taken away in order: it is not down, and only its counters are still shown. */
  removed = false;
  /** Times it came into service. */
  starts = 0;
  losses = 0;

  constructor(lane: string, kind: "device" | "replica") {
    super();
    this.lane = lane;
    this.kind = kind;
  }
}

export function count<K extends string>(counts: Partial<Record<K, number>>, key: K): void {
  counts[key] = (counts[key] ?? 0) + 1;
}
