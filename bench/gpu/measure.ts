/** One load on a running daemon, and the search for the largest that it carries. */
import { setTimeout as sleep } from "node:timers/promises";
import { fetchRatios, ratioShare } from "../budgets/execution-ratio.ts";
import { gaps, type Reply } from "../budgets/full-load.ts";
import type { DaemonProcess } from "../live/daemon-process.ts";
import { loadTest } from "../load/load-test.ts";
import type { Scenario } from "../scenario/schema.ts";
import { ATTAINMENT_MIN } from "../sim/capacity.ts";
import { GpuSampler } from "./gpu-sampler.ts";
import type { CapacityFigures, LoadFigures } from "./result.ts";

/** Of the shortest SLO: a generator that lags more decides itself who is late. */
const LAG_SHARE_MAX = 0.25;

export async function measureLoad(daemon: DaemonProcess, scenario: Scenario, scale: number): Promise<LoadFigures> {
  const gpu = new GpuSampler();
  const warm = sleep(scenario.warmup_s * 1000).then(async () => {
    await gpu.start();
    return fetchRatios(daemon.httpAddress);
  });
  const replies: Reply[] = [];
  const { result } = await loadTest({
    scenario,
    plan: { scale },
    address: daemon.grpcAddress,
    statusAddress: daemon.httpAddress,
    transport: "stream",
    lagMsMax: LAG_SHARE_MAX * Math.min(...scenario.models.map((model) => model.slo_ms)),
    onOutcome: ({ model, items }, outcome) => {
      if (outcome.type !== "answered" || outcome.timings === null) return;
      replies.push({ at: performance.now(), model, items, timings: outcome.timings });
    },
  });
  const before = await warm;
  const { gapShare, executions, meanMs } = gaps(replies);
  const used = gpu.stop();
  const after = await fetchRatios(daemon.httpAddress);
  const within = (low: number, high: number, model?: string): number | null => {
    const { within: share } = ratioShare(before, after, low, high, model);
    return Number.isNaN(share) ? null : share;
  };
  const device = Object.values(result.devices)[0];
  const { total } = result;
  return {
    scale,
    offered_per_s: total.offered / result.measured_s,
    goodput_per_s: total.goodput_per_s,
    attainment: total.attainment,
    attainment_worst_model: result.attainment_worst_model,
    latency_ms: total.latency_ms,
    device_busy_share: device?.busy_share ?? 0,
    batch_size_mean: device?.batch_size_mean ?? 0,
    best_effort_items_per_s: total.best_effort.items_per_s,
    best_effort_share: device?.best_effort_share ?? 0,
    predicted_within_10: within(0.9, 1.1),
    predicted_within_25: within(0.75, 1.25),
    runtime: { executions, execution_ms_mean: meanMs, outside_share: gapShare },
    gpu: used,
    models: Object.fromEntries(
      Object.entries(result.models).map(([name, { attainment, latency_ms }]) => [
        name,
        { attainment, latency_ms, predicted_within_25: within(0.75, 1.25, name) },
      ]),
    ),
    generator_lag_ms_p99: result.generator_lag_ms.p99,
    valid: result.valid,
  };
}

/**
 * @param scaleMax where the range ends
 * @param steps loads, each halving what is left of the range
 */
export async function searchLiveCapacity(
  measure: (scale: number) => Promise<LoadFigures>,
  scaleMax: number,
  steps: number,
): Promise<CapacityFigures> {
  const probes: LoadFigures[] = [];
  let low: LoadFigures | null = null;
  let lowScale = 0;
  let highScale = scaleMax;
  let limit: CapacityFigures["limit"] = "range";
  for (let step = 0; step < steps; step++) {
    const scale = Math.round(((lowScale + highScale) / 2) * 1000) / 1000;
    const probe = await measure(scale);
    probes.push(probe);
    if (probe.valid && probe.attainment >= ATTAINMENT_MIN) {
      low = probe;
      lowScale = scale;
    } else {
      highScale = scale;
      limit = probe.valid ? "deadlines" : "generator";
    }
  }
  return { scale: lowScale, per_s: low?.offered_per_s ?? 0, limit, probes };
}
