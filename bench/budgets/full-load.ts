/** The device and the event loop under as much load as they take. */
import type { DaemonStatus } from "../../daemon/status.ts";
import type { DaemonProcess } from "../live/daemon-process.ts";
import { type LoadTest, loadTest } from "../load/load-test.ts";
import type { ReplyTimings } from "../load/target.ts";
import { mixedLoad } from "../quickstart/mix.ts";
import { figure, percent } from "../report/format.ts";
import { parseScenario, type Scenario } from "../scenario/schema.ts";
import { atMost, type BudgetLine } from "./budget.ts";
import { type Weighted, weightedQuantile } from "./quantile.ts";

const WARMUP_S = 3;
/** The daemon's event-loop delay is over its last ten seconds: they have to lie within the load. */
const MEASURE_S = 12;
const GAP_MEASURE_S = 6;
/** How much more than the quickstart's load, which takes some 60 % of the device for requests with deadlines. */
const FULL_SCALE = 2;
const STATUS_EVERY_MS = 250;
/** Shorter executions are bound by what happens around them. */
const LONG_EXECUTION_MS = 5;

interface Reply {
  /** Milliseconds, on `performance.now()`. */
  readonly at: number;
  readonly model: string;
  readonly items: number;
  readonly timings: ReplyTimings;
}

interface Snapshot {
  readonly at: number;
  readonly status: DaemonStatus;
}

interface Loaded {
  readonly test: LoadTest;
  readonly replies: readonly Reply[];
  readonly snapshots: readonly Snapshot[];
}

async function load(daemon: DaemonProcess, scenario: Scenario, scale: number): Promise<Loaded> {
  const replies: Reply[] = [];
  const snapshots: Snapshot[] = [];
  const poll = setInterval(async () => {
    const at = performance.now();
    snapshots.push({ at, status: await daemon.status() });
  }, STATUS_EVERY_MS);
  try {
    const test = await loadTest({
      scenario,
      plan: { scale },
      address: daemon.grpcAddress,
      statusAddress: daemon.httpAddress,
      transport: "stream",
      lagMsMax: Number.POSITIVE_INFINITY,
      onOutcome: ({ model, items }, outcome) => {
        if (outcome.type !== "answered" || outcome.timings === null) return;
        replies.push({ at: performance.now(), model, items, timings: outcome.timings });
      },
    });
    return { test, replies, snapshots };
  } finally {
    clearInterval(poll);
  }
}

/** Event-loop delay and prediction error while all models together ask for more than the device can do. */
export async function underFullLoad(daemon: DaemonProcess): Promise<BudgetLine[]> {
  const scenario = mixedLoad(await daemon.status(), { warmupS: WARMUP_S, measureS: MEASURE_S, seed: 1 });
  if (scenario === null) throw new Error("no model is ready");
  const { test, replies, snapshots } = await load(daemon, scenario, FULL_SCALE);
  const { total, devices } = test.result;
  const busy = Object.values(devices)[0]?.busy_share ?? 0;
  const delay = (test.status?.after ?? (await daemon.status())).event_loop_delay_ms;
  const note = `device busy ${percent(busy)}, ${figure(total.offered / test.result.measured_s)} requests/s with deadlines and ${figure(total.best_effort.items_per_s)} best-effort items/s; max ${figure(delay.max)} ms`;
  return [
    atMost("event-loop delay under full load", 5, "ms", delay.p99, note, "p99"),
    ...predictionError(replies, snapshots),
  ];
}

/** Each execution against the profile as the daemon had it shortly before. */
function predictionError(replies: readonly Reply[], snapshots: readonly Snapshot[]): BudgetLine[] {
  const errors: Weighted[] = [];
  const byModel = new Map<string, Weighted[]>();
  const lanes = new Set(snapshots[0]?.status.lanes.filter(({ kind }) => kind === "device").map(({ lane }) => lane));
  let next = 0;
  for (const { at, model, items, timings } of replies) {
    // The snapshot asked for before the execution can have begun.
    const beforeMs = at - (timings.queueUs + timings.executeUs) / 1000 - STATUS_EVERY_MS;
    while (snapshots[next + 1] !== undefined && snapshots[next + 1]!.at <= beforeMs) next++;
    const known = snapshots[next];
    if (known === undefined || known.at > beforeMs || !lanes.has(timings.lane)) continue;
    const profile = known.status.models.find(({ name }) => name === model)?.profile_ms ?? [];
    const predicted = profile.find(([bucket]) => bucket === timings.bucket)?.[1];
    if (predicted === undefined) continue;
    const sample: Weighted = [Math.abs(timings.executeUs / 1000 / predicted - 1), items / timings.batchItems];
    errors.push(sample);
    byModel.set(model, [...(byModel.get(model) ?? []), sample]);
  }
  const executions = errors.reduce((sum, [, weight]) => sum + weight, 0);
  const models = [...byModel].map(
    ([model, samples]) =>
      `${model} ${percent(weightedQuantile(samples, 0.5))}/${percent(weightedQuantile(samples, 0.95))}`,
  );
  const note = `${figure(executions)} executions; median/p95 ${models.join(", ")}`;
  const what = "predicted against actual execution time";
  return [
    atMost(what, 10, "%", 100 * weightedQuantile(errors, 0.5), note, "off at the median"),
    atMost(what, 25, "%", 100 * weightedQuantile(errors, 0.95), "", "off at p95"),
  ];
}

/** The share of time that the device does not execute although work is queued, for each model with long executions. */
export async function idleGaps(daemon: DaemonProcess): Promise<BudgetLine[]> {
  const status = await daemon.status();
  const lines: BudgetLine[] = [];
  for (const model of status.models) {
    const largest = model.profile_ms?.at(-1);
    if (model.state !== "READY" || largest === undefined || largest[1] < LONG_EXECUTION_MS) continue;
    const scenario = parseScenario(
      {
        name: `backlog of ${model.name}`,
        warmup_s: 1,
        measure_s: GAP_MEASURE_S,
        models: [{ name: model.name, max_batch: model.max_batch, slo_ms: model.slo_ms }],
        best_effort: [{ model: model.name, backlog: "infinite" }],
      },
      "idle gaps",
    );
    const { replies } = await load(daemon, scenario, 1);
    const { gapShare, executions, meanMs } = gaps(replies);
    const note = `${figure(executions)} executions of ${figure(meanMs)} ms`;
    lines.push(atMost(`device idle while ${model.name} is queued`, 2, "%", 100 * gapShare, note, "of the time"));
  }
  return lines;
}

/** Between the first and the last reply, with the queue never empty: time in which no run call was executing. */
function gaps(replies: readonly Reply[]): { gapShare: number; executions: number; meanMs: number } {
  const first = replies[0]?.at ?? 0;
  // Replies of one batch come within moments; the first batch ended when its first reply came.
  const firstBatch = replies[0]?.timings;
  const counted = replies.filter(({ timings }, i) => i >= (firstBatch?.batchItems ?? 0) && timings.batchItems > 0);
  const lastAt = counted.at(-1)?.at ?? first;
  let executedMs = 0;
  let executions = 0;
  for (const { items, timings } of counted) {
    const part = items / timings.batchItems;
    executions += part;
    executedMs += (part * timings.executeUs) / 1000;
  }
  const elapsedMs = lastAt - first;
  return {
    gapShare: elapsedMs > 0 ? Math.max(0, 1 - executedMs / elapsedMs) : Number.NaN,
    executions,
    meanMs: executedMs / executions,
  };
}
