import { readFileSync } from "node:fs";
import type { CoreShares } from "./cores.ts";
import type { CpuReplicas } from "./cpu/cpu-replicas.ts";
import type { DeviceChoice } from "./device/choose-device.ts";
import type { LaneProcess } from "./device/lane-process.ts";
import type { Engine } from "./engine/engine.ts";
import type { Clock } from "./engine/ports.ts";
import type { Lifecycle } from "./lifecycle/lifecycle.ts";
import type { ServedModel } from "./lifecycle/served-model.ts";
import type { EventLoopDelay } from "./metrics/event-loop-delay.ts";
import type { Metrics } from "./metrics/metrics.ts";
import { referenceText } from "./repository/model.ts";
import type { IndexEntry, ModelRepository } from "./repository/model-repository.ts";
import type { Profile } from "./scheduler/types.ts";
import type { DaemonState, DaemonStatus, LaneStatus, ModelCounts, ModelStatus } from "./status.ts";

export interface StatusParts {
  readonly version: string;
  readonly state: DaemonState;
  readonly ports: { readonly grpc: number; readonly http: number };
  readonly clock: Clock;
  readonly choices: readonly DeviceChoice[];
  readonly lanes: readonly LaneProcess[];
  readonly replicas: CpuReplicas;
  readonly shares: CoreShares;
  readonly lifecycle: Lifecycle;
  readonly repository: ModelRepository;
  readonly engine: Engine;
  readonly metrics: Metrics;
  readonly eventLoopDelay: EventLoopDelay;
}

/** Page size of Linux on x64, in which `/proc` counts resident memory. */
const PAGE_BYTES = 4096;

export function daemonStatus(parts: StatusParts): DaemonStatus {
  const { version, state, ports, clock, choices, lifecycle, repository, engine, metrics, eventLoopDelay } = parts;
  const choice = choices[0]!;
  const served = new Map(lifecycle.served.map((model) => [model.version.key, model]));
  const queues = new Map(engine.snapshot().models.map((queue) => [queue.model, queue.queuedItems]));
  return {
    version,
    pid: process.pid,
    state,
    now_us: clock.nowUs(),
    uptime_s: process.uptime(),
    activity: lifecycle.activity,
    grpc_port: ports.grpc,
    http_port: ports.http,
    device: {
      provider: choice.provider.name,
      name: choice.name,
      reason: choice.reason,
      passed_over: choice.passedOver,
    },
    lanes: laneStatus(parts),
    models: repository.index().map((entry) => {
      const key = `${entry.name}/${entry.version}`;
      const model = served.get(key) ?? null;
      const traffic = model === null ? 0 : lifecycle.trafficPart(model.version);
      return modelStatus(entry, model, traffic, queues.get(key) ?? 0, metrics.statistics.modelCounts(key));
    }),
    event_loop_delay_ms: eventLoopDelay.read(),
    rss_bytes: process.memoryUsage.rss(),
  };
}

function laneStatus({ lanes, replicas: pool, choices, shares, lifecycle, metrics }: StatusParts): LaneStatus[] {
  const devices = lanes.map((lane, index): LaneStatus => {
    const { pid } = lane;
    return {
      lane: lane.lane,
      kind: "device",
      provider: choices[index]!.provider.name,
      threads: shares.laneThreads,
      pid,
      rss_bytes: pid === null ? null : residentBytes(pid),
      ...metrics.statistics.laneCounts(lane.lane),
    };
  });
  const replicas = lifecycle.served.flatMap((model) =>
    model.replicas.map(
      (lane): LaneStatus => ({
        lane,
        kind: "replica",
        provider: "cpu",
        threads: model.replicaThreads,
        pid: pool.pid,
        // Its process is shared by all replicas.
        rss_bytes: null,
        ...metrics.statistics.laneCounts(lane),
      }),
    ),
  );
  return [...devices, ...replicas];
}

function modelStatus(
  entry: IndexEntry,
  served: ServedModel | null,
  traffic: number,
  queuedItems: number,
  counts: ModelCounts,
): ModelStatus {
  const fallback = served?.version.settings.fallback ?? null;
  return {
    name: entry.name,
    version: entry.version === "" ? null : Number(entry.version),
    state: entry.state,
    reason: entry.reason,
    traffic,
    fallback: fallback === null ? null : referenceText(fallback),
    placement: served?.placement ?? "none",
    lanes: served?.upLanes ?? [],
    max_batch: served?.version.maxBatchSize ?? 0,
    unbatched_reason: served?.version.unbatchedReason ?? null,
    slo_ms: (served?.sloUs ?? 0) / 1000,
    profile_ms: inMs(served?.profile("device") ?? null),
    replica_profile_ms: inMs(served?.profile("replica") ?? null),
    replicas: served?.replicaSummary ?? null,
    queued_items: queuedItems,
    counts,
  };
}

function inMs(profile: Profile | null): (readonly [number, number])[] | null {
  return profile?.map(({ bucket, us }) => [bucket, us / 1000] as const) ?? null;
}

/** Resident memory of a process; null where the system doesn't say. */
function residentBytes(pid: number): number | null {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * PAGE_BYTES;
  } catch {
    return null;
  }
}
