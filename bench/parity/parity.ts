/** Whether the simulator foretells what a live run did. */
import { writeFileSync } from "node:fs";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { Scenario } from "../scenario/types.ts";
import { OWN_POLICY } from "../sim/policies.ts";
import { simulate } from "../sim/simulation.ts";
import type { LiveLog, LoggedRequest } from "./live-log.ts";
import { withMeasuredProfiles } from "./measured-profiles.ts";

/** What became of requests, live or simulated; latency from arrival at the scheduler to the end of the batch. */
export interface Served {
  readonly offered: number;
  readonly attainment: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

export interface Parity {
  readonly live: Served;
  readonly simulated: Served;
  readonly models: Readonly<Record<string, { readonly live: Served; readonly simulated: Served }>>;
  /** Standard deviation of execution times relative to their bucket's mean, over all models. */
  readonly noise: number;
  readonly turnaround_ms: number;
  /** Simulated less live, in points of 0..1. */
  readonly attainment_difference: number;
  /** Simulated by live, less 1. */
  readonly p99_difference: number;
}

/** What is promised: the on-time share within two points, and the 99th percentile of latency within a fifth. */
export const ATTAINMENT_TOLERANCE = 0.02;
export const P99_TOLERANCE = 0.2;

/**
 * Simulates a live run's arrivals with the profiles that the run showed.
 *
 * @param scenario the models and lanes as they were live; its arrivals are replaced by those of the log
 * @param warmupS requests that came before this, counted from the first, do not count
 * @param traceFile where the arrivals are written as a trace
 */
export function parityOf(scenario: Scenario, log: LiveLog, warmupS: number, traceFile: string): Parity {
  const firstUs = log.requests[0]?.atUs ?? 0;
  const requests = log.requests.filter(({ model }) => scenario.models.some(({ name }) => name === model));
  const rows = requests.map(
    ({ atUs, model, deadlineUs }) => `${atUs - firstUs},${model},${Math.max(1, deadlineUs - atUs)}`,
  );
  writeFileSync(traceFile, `arrival_us,model,slo_us\n${rows.join("\n")}\n`);
  const lastUs = (requests.at(-1)?.atUs ?? firstUs) - firstUs;
  const measured = withMeasuredProfiles(scenario, log);
  const { total, models } = simulate(
    {
      ...measured,
      models: measured.models.map(({ arrivals: _, ...model }) => model),
      trace: { file: traceFile, speed: 1 },
      warmup_s: warmupS,
      measure_s: Math.max(1, lastUs / 1e6 - warmupS + 0.001),
    },
    { policy: OWN_POLICY, scheduler: (options) => createScheduler(options) },
  );
  const counted = requests.filter(({ atUs }) => atUs - firstUs >= warmupS * 1e6);
  const live = servedOf(counted);
  const simulated = fromFigures(total);
  return {
    live,
    simulated,
    models: Object.fromEntries(
      scenario.models.flatMap(({ name }) => {
        const ofModel = counted.filter(({ model }) => model === name);
        return ofModel.length === 0 ? [] : [[name, { live: servedOf(ofModel), simulated: fromFigures(models[name]!) }]];
      }),
    ),
    noise: deviation(measured.models.flatMap(({ time_ratios }) => time_ratios ?? [])),
    turnaround_ms: log.turnaroundUs / 1000,
    attainment_difference: simulated.attainment - live.attainment,
    p99_difference: live.p99_ms === 0 ? 0 : simulated.p99_ms / live.p99_ms - 1,
  };
}

function deviation(ratios: readonly number[]): number {
  return Math.sqrt(ratios.reduce((sum, ratio) => sum + (ratio - 1) ** 2, 0) / Math.max(1, ratios.length));
}

function fromFigures(figures: {
  readonly offered: number;
  readonly attainment: number;
  readonly latency_ms: { readonly p50: number; readonly p99: number };
}): Served {
  const { offered, attainment, latency_ms } = figures;
  return { offered, attainment, p50_ms: latency_ms.p50, p99_ms: latency_ms.p99 };
}

function servedOf(requests: readonly LoggedRequest[]): Served {
  const latencies = requests
    .flatMap(({ atUs, endUs }) => (endUs === null ? [] : [(endUs - atUs) / 1000]))
    .sort((a, b) => a - b);
  const onTime = requests.filter(({ endUs, deadlineUs }) => endUs !== null && endUs <= deadlineUs).length;
  const at = (share: number): number => latencies[Math.max(0, Math.ceil(share * latencies.length) - 1)] ?? 0;
  return {
    offered: requests.length,
    attainment: requests.length === 0 ? 1 : onTime / requests.length,
    p50_ms: at(0.5),
    p99_ms: at(0.99),
  };
}
