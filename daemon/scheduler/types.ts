/**
 * The scheduler's vocabulary: what it is told (events), what it asks for (effects), and nothing else.
 *
 * All times are integer microseconds on one monotonic clock; all sizes are items (rows of the batch dimension) unless
 * the name says bytes. This folder imports nothing from outside itself.
 */

/** Identifies a request for its whole life; assigned by the engine, increasing in order of arrival. */
export type RequestId = number;

/** Identifies an execution (one batch on one lane); assigned by the scheduler, increasing. */
export type ExecutionId = number;

/** One bucket of a profile: executing a batch padded to `bucket` items takes `us`. */
export interface ProfilePoint {
  readonly bucket: number;
  readonly us: number;
}

/** Execution time by bucket, ascending in both; a batch of b items costs the first bucket that is at least b. */
export type Profile = readonly ProfilePoint[];

/**
 * Profiles of one model on one lane, by shape key (`""` for a model whose items all have one shape). The key `"*"`, where
 * present, stands for all shapes not listed, on lanes that need no warming for a new shape. Without it, a device lane runs
 * such shapes only as fill.
 */
export type ShapeProfiles = Readonly<Record<string, Profile>>;

/** What the scheduler knows of a model. A model is one version of one name; the key is opaque here. */
export interface ModelSpec {
  readonly model: string;
  /** Largest batch in items; at least 1. */
  readonly maxBatch: number;
  /** Default time from arrival to answer. */
  readonly sloUs: number;
  /** Share of attention relative to other models when there is not enough for all; 1 by default. */
  readonly weight: number;
  /** Share of device time in 0..1 that this model's queued work gets even in overload; 0 by default. */
  readonly minShare: number;
  /** Whether requests whose deadline is only the model's SLO are shed when they would miss it (else demoted). */
  readonly shedImplicit: boolean;
  /** Limits of this model's queue; arrivals beyond either are shed. */
  readonly queueItemsMax: number;
  readonly queueBytesMax: number;
}

/** A request as the scheduler sees it: metadata only. */
export interface RequestMeta {
  readonly id: RequestId;
  readonly model: string;
  /** 1..maxBatch; a request is never split. */
  readonly items: number;
  readonly bytes: number;
  /** Only requests of equal shape key share a batch. */
  readonly shape: string;
  /** Absolute deadline; null for best-effort work. */
  readonly deadlineUs: number | null;
  /** Whether the caller stated the deadline (false: it is the model's SLO). */
  readonly explicit: boolean;
  /** When best-effort work, demoted work included, expires (its caller stops listening); null for never. */
  readonly expiresUs: number | null;
  /** Who asks, for weights and guaranteed shares; `""` where no tenant was named. */
  readonly tenant: string;
  /** It was let into the queue before and comes again: limits do not hold for it, and it is no new arrival. */
  readonly again?: boolean;
  /** It comes again since it failed in a batch with others: it shares no batch. */
  readonly alone?: boolean;
}

export type LaneKind = "device" | "replica";

export type SchedulerEvent =
  /** A lane exists and is idle; nothing is loaded on it yet. */
  | { readonly type: "lane-up"; readonly lane: string; readonly kind: LaneKind }
  /** A lane is gone with whatever it executed; the engine answers the requests that were on it. */
  | { readonly type: "lane-down"; readonly lane: string }
  /** A model may receive requests (they wait until it is loaded on some lane). Replaces an earlier spec of the model. */
  | { readonly type: "model-add"; readonly spec: ModelSpec }
  /** A model is gone: its queued requests are shed with cause `unloaded`. */
  | { readonly type: "model-remove"; readonly model: string }
  /** A model is ready to execute on a lane with these profiles (or its profiles were measured anew). */
  | {
      readonly type: "loaded";
      readonly lane: string;
      readonly model: string;
      readonly profiles: ShapeProfiles;
    }
  | { readonly type: "unloaded"; readonly lane: string; readonly model: string }
  | { readonly type: "arrive"; readonly request: RequestMeta }
  /** The caller has gone. Queued: removed without an effect. Executing: only forgotten. */
  | { readonly type: "cancel"; readonly id: RequestId }
  /** The lane ended the execution it had started; `us` is what it took on the device, where that is known. */
  | {
      readonly type: "end";
      readonly lane: string;
      readonly execution: ExecutionId;
      readonly us: number | null;
      readonly ok: boolean;
    }
  /** The time asked for by `wake-at` has come. */
  | { readonly type: "wake" };

/** Why a request was refused or dropped before execution. */
export type ShedCause =
  /** Its deadline had passed on arrival. */
  | "expired"
  /** It can no longer finish by its deadline: other work stood before it. */
  | "late"
  /** Dropped although it might have finished, to save more requests than it costs. */
  | "sacrificed"
  | "queue_items"
  | "queue_bytes"
  | "unloaded";

/** Numbers and names behind a shed, for the caller's message, the log and the metrics. */
export interface ShedDetail {
  /** What stood before it: the model executing on, or chosen for, the lane it needed. */
  readonly blockedBy?: string;
  /** Earliest predicted finish at the time of the decision. */
  readonly predictedEndUs?: number;
  /** Limit that was reached, for `queue_items` and `queue_bytes`. */
  readonly limit?: number;
  readonly queuedItems?: number;
  /** Absent where trying again does not help: the request alone is more than the limit, for example. */
  readonly retryAfterUs?: number;
}

/** What one request of a batch waited for, in microseconds from arrival to start; the parts sum to the wait. */
export interface WaitExplanation {
  /** The lane was executing other models' batches; `blockedBy` names the one that cost most. */
  readonly blockedUs: number;
  readonly blockedBy?: string;
  /** The lane was executing this model's earlier batches. */
  readonly ownBatchesUs: number;
  /** Of all that, how much longer executions took than predicted. */
  readonly mispredictedUs: number;
  /** The lane was free, and the scheduler held the request back (fill waiting for slack, a hold for a tight model). */
  readonly heldUs: number;
}

/** One step of an execution. There is one today; models cut in segments will have several. */
export interface ExecutionStep {
  readonly predictedUs: number;
}

/** Why this batch now: work with deadlines, best-effort work in slack, best-effort work's guaranteed share. */
export type StartReason = "deadline" | "fill" | "share";

export interface BatchPlan {
  readonly execution: ExecutionId;
  readonly lane: string;
  readonly model: string;
  readonly shape: string;
  /** In the order in which their items stand in the batch. */
  readonly ids: readonly RequestId[];
  readonly items: number;
  /** What is executed: items padded up to this size. */
  readonly bucket: number;
  readonly steps: readonly ExecutionStep[];
  readonly reason: StartReason;
}

export type SchedulerEffect =
  /** Provisional: the lane's next batch will probably be this one; gather it now. `start` confirms, changes or ignores it. */
  | { readonly type: "stage"; readonly plan: BatchPlan }
  /** Execute now, or, where the lane still executes another batch, right after that one. */
  | { readonly type: "start"; readonly plan: BatchPlan }
  | { readonly type: "shed"; readonly id: RequestId; readonly cause: ShedCause; readonly detail: ShedDetail }
  /** The request will miss its (implicit) deadline and goes on as best-effort work. */
  | { readonly type: "demote"; readonly id: RequestId }
  /** Replaces the one timer; a `wake` event is due then. Absent from a step's effects: the timer stays as it is. */
  | { readonly type: "wake-at"; readonly atUs: number | null };

export interface SchedulerOptions {
  /** Whether models that miss more than the mean gain weight, and the others lose it: up to four times between them. */
  readonly fairness: boolean;
  /** Share of device time that queued best-effort work gets at least, 0..1. */
  readonly bestEffortShareMin: number;
  /** Relative weight by tenant; 1 for those not named. */
  readonly tenantWeights: Readonly<Record<string, number>>;
  /** Share of device time in 0..1 that a tenant's queued work with deadlines gets even in overload; 0 for those not named. */
  readonly tenantMinShares?: Readonly<Record<string, number>>;
  /** Time from `stage` to a gathered batch; stages come this long before the lane is expected to take its next batch. */
  readonly gatherUs: number;
  /**
   * Longest time from the end of an execution on a device until a batch that is started when the end is known executes there;
   * how long it really is is learnt. The next batch may start that long before the predicted end, and as much earlier as predictions
   * are off, behind the one that executes, so that the device does not wait for it; 0: only when the lane is free.
   */
  readonly handoverUs: number;
}

/** The port through which the engine drives a scheduler; comparison policies in `bench/` implement it too. */
export interface Scheduler {
  /** Takes one event and returns what is to be done, in order. Pure but for the scheduler's own state. */
  step(event: SchedulerEvent, nowUs: number): readonly SchedulerEffect[];
  /** What each request of an execution that just started waited for; asked only by those who show it. */
  explain?(execution: ExecutionId): ReadonlyMap<RequestId, WaitExplanation>;
}
