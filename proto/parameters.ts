/**
 * Names that slackline gives a meaning beyond the protocol: parameters of requests and answers, metadata keys. Daemon and
 * client both take them from here (the client package has a copy, kept equal by generate.ts).
 */

/** Parameters of a ModelInferRequest. */
export const REQUEST_PARAMETERS = {
  /** Milliseconds from receipt to answer; int64, uint64 or double. */
  deadlineMs: "deadline_ms",
  /** The same in microseconds, as existing clients send it; int64 or uint64. */
  timeoutUs: "timeout",
  /** Smaller is more important, as existing clients send it; uint64 or int64. */
  priority: "priority",
  /** bool: run in time that no deadline needs. */
  bestEffort: "best_effort",
  /** bool: the answer carries `TIMING_PARAMETERS`. */
  timings: "slackline_timings",
  /** bool: all outputs are answered; those that the request names are places in shared memory, for such as exist and fit. */
  allOutputs: "slackline_all_outputs",
  /** string: requests of one key go to one version of a model whose traffic is shared out, a user's for example. */
  trafficKey: "slackline_traffic_key",
  /** bool, on a stream: cancels the request with this message's id. Nothing answers the message itself. */
  cancel: "slackline_cancel",
} as const;

/**
 * What an error carries: response parameters on a stream, trailers of the same names on a unary call. `code` is the
 * status's name (`RESOURCE_EXHAUSTED`), `cause` a word (`late`, `queue_items`), `retryAfterMs` a number (int64 or double; decimal in a
 * trailer).
 */
export const ERROR_PARAMETERS = {
  code: "slackline_code",
  cause: "slackline_cause",
  retryAfterMs: "slackline_retry_after_ms",
} as const;

/** Parameters of an answer, sent unasked. */
export const ANSWER_PARAMETERS = {
  /** bool, true where it is there: nothing was executed, an equal request's answer was cached. */
  cacheHit: "slackline_cache_hit",
  /** string: the model that was asked for refused, for this cause (`late`), and its fallback answered. */
  fallback: "slackline_fallback",
} as const;

/**
 * Where an answered request's time went: int64 microseconds (`…_us`), int64 counts, strings for lane and model. The `wait…` ones explain
 * `queue_us` and are absent where the scheduler gives no explanation; batch, bucket and lane where nothing was executed.
 */
export const TIMING_PARAMETERS = {
  queueUs: "slackline_queue_us",
  gatherUs: "slackline_gather_us",
  executeUs: "slackline_execute_us",
  collectUs: "slackline_collect_us",
  batchItems: "slackline_batch_items",
  bucket: "slackline_bucket",
  lane: "slackline_lane",
  lateUs: "slackline_late_us",
  waitBlockedUs: "slackline_wait_blocked_us",
  waitBlockedBy: "slackline_wait_blocked_by",
  waitOwnBatchesUs: "slackline_wait_own_batches_us",
  waitMispredictedUs: "slackline_wait_mispredicted_us",
  waitHeldUs: "slackline_wait_held_us",
} as const;

/** Parameters of an input, or of an output asked for, that lies in a registered region instead of the message. */
export const SHARED_MEMORY_PARAMETERS = {
  region: "shared_memory_region",
  /** int64 or uint64. */
  byteSize: "shared_memory_byte_size",
  /** In the region; int64 or uint64, 0 where absent. */
  offset: "shared_memory_offset",
} as const;

/** Cause of errors that say what became of a region: the same request without it may succeed. */
export const SHARED_MEMORY_CAUSE = "shared_memory";

/**
 * Extension of daemons that touch a request's regions until its one answer (to a cancelled one, that it is cancelled) and not after,
 * list no region whose object is unlinked, let go of those that nobody uses, and know `allOutputs`.
 */
export const SHARED_MEMORY_EXTENSION = "slackline_shared_memory";

/** Parameter of a model's configuration: the version that it is of, where the request for it named none that with the largest share of the traffic. */
export const VERSION_PARAMETER = "slackline_version";

/** Metadata key that names the tenant, for weights and guaranteed shares. */
export const TENANT_METADATA = "slackline-tenant";
