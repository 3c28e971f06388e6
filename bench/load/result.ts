import type { DeviceFigures, ServedFigures } from "./daemon-status.ts";
import type { LoadRecord } from "./load-run.ts";
import { type Figures, type Percentiles, percentiles } from "./recorder.ts";

/** What was run, for whoever reads the result later. */
export interface RunDescription {
  readonly scenario: string;
  readonly seed: number;
  readonly scale: number;
  readonly target: string;
  readonly transport: string;
  readonly started_at: string;
  readonly warmup_s: number;
}

/** A model's figures, with what the daemon itself counted where it could be asked. */
export interface ModelResult extends Figures {
  readonly served?: ServedFigures;
}

/** A load test's result, as it is written with `--json`: the simulator's keys, and what only a live run has. */
export interface LoadResult extends RunDescription {
  readonly measured_s: number;
  /** False where nothing was measured, or the generator could not keep to its schedule: latencies and counts then say nothing of the daemon. */
  readonly valid: boolean;
  readonly problems: readonly string[];
  readonly interrupted: boolean;
  /** How much later than scheduled requests were sent. */
  readonly generator_lag_ms: Percentiles;
  readonly total: Figures;
  readonly models: Readonly<Record<string, ModelResult>>;
  /** Attainment of the model that does worst. */
  readonly attainment_worst_model: number;
  readonly devices: Readonly<Record<string, DeviceFigures>>;
  readonly error_examples: Readonly<Record<string, string>>;
}

export interface ResultInputs {
  readonly run: RunDescription;
  readonly record: LoadRecord;
  /** The 99th percentile of the generator's lag above which a run is invalid. */
  readonly lagMsMax: number;
  readonly devices: Readonly<Record<string, DeviceFigures>>;
  readonly served: ReadonlyMap<string, ServedFigures>;
}

export function loadResult({ run, record, lagMsMax, devices, served }: ResultInputs): LoadResult {
  const measuredS = record.measuredUs / 1e6;
  const models: Record<string, ModelResult> = {};
  for (const [name, recorder] of record.models) {
    const figures = recorder.figures(measuredS);
    const ofDaemon = served.get(name);
    models[name] = ofDaemon === undefined ? figures : { ...figures, served: ofDaemon };
  }
  const problems = problemsOf(record, lagMsMax);
  return {
    ...run,
    measured_s: measuredS,
    valid: problems.length === 0,
    problems,
    interrupted: record.interrupted,
    generator_lag_ms: percentiles(record.lagUs),
    total: record.total.figures(measuredS),
    models,
    attainment_worst_model: Math.min(1, ...Object.values(models).map(({ attainment }) => attainment)),
    devices,
    error_examples: Object.fromEntries(record.errorExamples),
  };
}

function problemsOf({ lagUs, total, interrupted }: LoadRecord, lagMsMax: number): string[] {
  const { offered, best_effort } = total.figures(0);
  if (offered + best_effort.answered + best_effort.shed + best_effort.errors === 0) {
    const why = interrupted ? "the run was stopped before one had ended" : "the scenario has none in that time";
    return [`no request was measured: ${why}, so that nothing can be said of the daemon.`];
  }
  const { p99 } = percentiles(lagUs);
  if (p99 <= lagMsMax) return [];
  return [
    `the generator could not keep to its schedule: 1 in 100 requests was sent ${p99.toFixed(1)} ms or more after its time ` +
      `(limit ${lagMsMax} ms). Its own delays are in every latency above. Lower --scale, give the generator a core of ` +
      "its own or another machine, or raise --lag-max if the deadlines are long enough for it not to matter.",
  ];
}
