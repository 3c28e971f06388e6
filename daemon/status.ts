/**
 * What the daemon tells about itself as JSON at `/status` on its HTTP port, from the moment that port listens (before
 * models are ready too, so that a watcher can show progress). Counters grow from the daemon's start: whoever wants
 * figures for a window takes the difference of two snapshots. Units are in the names.
 */

import type { ModelState } from "./repository/model.ts";
import type { StartReason } from "./scheduler/types.ts";

export type Provider = "cuda" | "webgpu" | "cpu";

export type DaemonState = "starting" | "ready" | "draining";

export interface DaemonStatus {
  readonly version: string;
  readonly pid: number;
  readonly state: DaemonState;
  /** Monotonic time of this snapshot, on the clock of all counters here. */
  readonly now_us: number;
  readonly uptime_s: number;
  /** What is being done now, in plain words ("profiling ranker/1: bucket 16"); null when nothing is being prepared. */
  readonly activity: string | null;
  readonly grpc_port: number;
  readonly http_port: number;
  readonly device: DeviceChoice;
  readonly lanes: readonly LaneStatus[];
  readonly models: readonly ModelStatus[];
  readonly event_loop_delay_ms: DelayStatus;
  readonly rss_bytes: number;
}

/** The execution provider of the device lanes, and how it came to be chosen. */
export interface DeviceChoice {
  readonly provider: Provider;
  /** Hardware as the provider or the operating system names it. */
  readonly name: string;
  /** One sentence: asked for by the operator, or why the best available. */
  readonly reason: string;
  /** Better providers that were tried or looked for, each with the sentence that says why it is not used. */
  readonly passed_over: readonly { readonly provider: Provider; readonly reason: string }[];
}

export interface LaneStatus {
  readonly lane: string;
  readonly kind: "device" | "replica";
  readonly provider: Provider;
  /** Intra-op threads of its sessions. */
  readonly threads: number;
  /** Process that executes; several lanes may share one. Null while it restarts. */
  readonly pid: number | null;
  readonly restarts: number;
  /** Executions by the reason for which the scheduler started them. */
  readonly executions: Readonly<Record<StartReason, number>>;
  /** Wall time from start to end of executions, as the engine saw it, by the same reasons. */
  readonly busy_us: Readonly<Record<StartReason, number>>;
  /** Items executed, padding left out, and slots executed, padding counted. */
  readonly items: number;
  readonly slots: number;
  /** Of its process; null where that is not its alone, or not known. */
  readonly rss_bytes: number | null;
}

export interface ModelStatus {
  readonly name: string;
  /** Null where the model as a whole is not served. */
  readonly version: number | null;
  readonly state: ModelState;
  /** Why it is not ready, or what is being done with it; empty where there is nothing to say. */
  readonly reason: string;
  /** Part of the requests for the model without a version that it gets, 0 to 1. */
  readonly traffic: number;
  /** The model that answers what this one can't answer in time, as its settings name it; null where it has none. */
  readonly fallback: string | null;
  /** Where it executes. */
  readonly placement: "device" | "replica" | "both" | "none";
  readonly lanes: readonly string[];
  readonly max_batch: number;
  /** Why its requests run one by one; null where they can share a batch, or it is not served. */
  readonly unbatched_reason: string | null;
  /** The effective default time from arrival to answer. */
  readonly slo_ms: number;
  /** Profile by lane kind as it is now, for its first warmed shape: ascending `[bucket, ms]`. Null where it has none. */
  readonly profile_ms: readonly (readonly [number, number])[] | null;
  readonly replica_profile_ms: readonly (readonly [number, number])[] | null;
  /** How many replicas × threads it runs on, in words, where it runs on replicas ("2 × 1 thread, kept over …"). */
  readonly replicas: string | null;
  readonly queued_items: number;
  readonly counts: ModelCounts;
}

/** Requests of one model version since the daemon started, each in exactly one of the ends once it has ended. */
export interface ModelCounts {
  readonly requests: number;
  readonly on_time: number;
  readonly late: number;
  /** Best-effort and demoted requests answered. */
  readonly best_effort: number;
  /** By cause. */
  readonly shed: Readonly<Record<string, number>>;
  readonly failed: number;
  readonly cancelled: number;
  /** Of those shed or lost, how many its fallback answered. */
  readonly fallbacks: number;
  /** Of the requests, those that were answered from the cache, and those that it had no answer for. */
  readonly cache_hits: number;
  readonly cache_misses: number;
  readonly executions: number;
  /** Items executed, padding left out, and slots executed, padding counted. */
  readonly items: number;
  readonly slots: number;
  /** Wall time of its executions, by the reason for which they were started. */
  readonly busy_us: Readonly<Record<StartReason, number>>;
}

/** Event-loop delay of the daemon's main thread over its last ten seconds. */
export interface DelayStatus {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}
