/** A whole load test: connect, send, read the daemon's counters, put the result together. */
import type { Histogram } from "hdr-histogram-js";
import type { Clock } from "../../daemon/engine/ports.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import type { Scenario } from "../scenario/schema.ts";
import { connectTarget, type LoadTransport } from "./connect.ts";
import { deviceFigures, fetchStatus, servedFigures } from "./daemon-status.ts";
import { type LoadProgress, LoadRun } from "./load-run.ts";
import { PacedClock } from "./paced-clock.ts";
import { type PlanOptions, planLoad } from "./plan.ts";
import { type LoadResult, loadResult } from "./result.ts";
import type { Call, CallOutcome, Target } from "./target.ts";

export interface LoadTestOptions {
  readonly scenario: Scenario;
  readonly plan: PlanOptions;
  /** HOST:PORT of the daemon's gRPC port. */
  readonly address: string;
  /** HOST:PORT of the daemon's HTTP port, for its own counters; null where there is none to be asked. */
  readonly statusAddress: string | null;
  readonly transport: LoadTransport;
  readonly lagMsMax: number;
  readonly signal?: AbortSignal;
  /** Told when all is prepared, before the first request is sent. */
  readonly onReady?: () => void;
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Told of every call as it ends, best-effort ones and the warm-up's included. */
  readonly onOutcome?: (call: Call, outcome: CallOutcome) => void;
}

export interface LoadTest {
  readonly result: LoadResult;
  /** Latencies in microseconds, of all requests (`total`) and by model. */
  readonly latencies: { readonly total: Histogram; readonly models: ReadonlyMap<string, Histogram> };
  /** The daemon's own account at both ends of the measured window, where it gives one. */
  readonly status: { readonly before: DaemonStatus; readonly after: DaemonStatus } | null;
}

/** How long answers are waited for after the last request: a few SLOs, and at least this. */
const DRAIN_US_MIN = 5_000_000;
const DRAIN_SLOS = 4;

/**
 * @throws {TargetError} where the daemon can't be reached or does not serve what the scenario names
 * @throws {ScenarioError} where the scenario's trace can't be used
 * @throws {ToolError} where it would be too many requests
 */
export async function loadTest(options: LoadTestOptions): Promise<LoadTest> {
  const { scenario, plan: planOptions, address, statusAddress, transport } = options;
  const { target, plan } = await connectTarget({
    address,
    transport,
    scenario,
    plan: () => planLoad(scenario, planOptions),
  });
  options.onReady?.();
  const clock: Clock & { close(): Promise<void> } = new PacedClock();
  try {
    const startedAt = new Date();
    const askStatus = async (): Promise<DaemonStatus | null> =>
      statusAddress === null ? null : fetchStatus(statusAddress);
    let asked: { begin?: Promise<DaemonStatus | null>; end?: Promise<DaemonStatus | null> } = {};
    const record = await new LoadRun({
      plan,
      target: options.onOutcome === undefined ? target : watched(target, options.onOutcome),
      clock,
      drainUs: Math.max(DRAIN_US_MIN, DRAIN_SLOS * 1000 * Math.max(...scenario.models.map((model) => model.slo_ms))),
      onWindow: (edge) => {
        asked = { ...asked, [edge]: askStatus() };
      },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    }).run();
    const before = (await asked.begin) ?? null;
    const after = (await (asked.end ?? askStatus())) ?? null;
    const status = before !== null && after !== null && before.pid === after.pid ? { before, after } : null;
    const result = loadResult({
      run: {
        scenario: scenario.name,
        seed: planOptions.seed ?? scenario.seed,
        scale: planOptions.scale ?? 1,
        target: address,
        transport,
        started_at: startedAt.toISOString(),
        warmup_s: plan.warmupUs / 1e6,
      },
      record,
      lagMsMax: options.lagMsMax,
      devices: status === null ? {} : deviceFigures(status.before, status.after),
      served: status === null ? new Map() : servedFigures(status.before, status.after),
    });
    const models = new Map([...record.models].map(([name, recorder]) => [name, recorder.latencyUs]));
    return { result, latencies: { total: record.total.latencyUs, models }, status };
  } finally {
    await clock.close();
    await target.close();
  }
}

function watched(target: Target, tell: (call: Call, outcome: CallOutcome) => void): Target {
  return {
    send: async (call) => {
      const outcome = await target.send(call);
      tell(call, outcome);
      return outcome;
    },
  };
}
