/** A daemon's status as it could be on a small machine, for tests of what is made from it. */
import type { DaemonStatus, ModelStatus } from "../../daemon/status.ts";

export function sampleModel(name: string, more: Partial<ModelStatus> = {}): ModelStatus {
  return {
    name,
    version: 1,
    state: "READY",
    reason: "",
    traffic: 1,
    fallback: null,
    placement: "device",
    lanes: ["cpu0"],
    max_batch: 8,
    unbatched_reason: null,
    slo_ms: 100,
    profile_ms: [
      [1, 2],
      [2, 3],
      [4, 5],
      [8, 9],
    ],
    replica_profile_ms: null,
    replicas: null,
    queued_items: 0,
    counts: {
      requests: 0,
      on_time: 0,
      late: 0,
      best_effort: 0,
      shed: {},
      failed: 0,
      cancelled: 0,
      fallbacks: 0,
      cache_hits: 0,
      cache_misses: 0,
      executions: 0,
      items: 0,
      slots: 0,
      busy_us: { deadline: 0, fill: 0, share: 0 },
    },
    ...more,
  };
}

export function sampleStatus(more: Partial<DaemonStatus> = {}): DaemonStatus {
  return {
    version: "0.1.0",
    pid: 4242,
    state: "ready",
    now_us: 1_000_000,
    uptime_s: 1,
    activity: null,
    grpc_port: 8001,
    http_port: 8002,
    device: {
      provider: "cpu",
      name: "Some Processor, 2 cores",
      reason: "chosen by 'auto': nothing better works here",
      passed_over: [
        { provider: "cuda", reason: "libonnxruntime_providers_cuda.so is not installed" },
        { provider: "webgpu", reason: "no <hardware> adapter" },
      ],
    },
    lanes: [
      {
        lane: "cpu0",
        kind: "device",
        provider: "cpu",
        threads: 1,
        pid: 4243,
        restarts: 0,
        executions: { deadline: 10, fill: 5, share: 0 },
        busy_us: { deadline: 100_000, fill: 50_000, share: 0 },
        items: 40,
        slots: 50,
        rss_bytes: 90 * 2 ** 20,
      },
    ],
    models: [sampleModel("fast"), sampleModel("slow", { profile_ms: [[1, 40]], max_batch: 1, slo_ms: 400 })],
    event_loop_delay_ms: { p50: 0.1, p99: 1, max: 4 },
    rss_bytes: 120 * 2 ** 20,
    ...more,
  };
}
