/** The device and the event loop under as much load as they take. */
import { setTimeout as sleep } from "node:timers/promises";
import { ToolError } from "../../tools/command-line/run-tool.ts";
import type { DaemonProcess } from "../live/daemon-process.ts";
import { type LoadTest, loadTest } from "../load/load-test.ts";
import type { ReplyTimings } from "../load/target.ts";
import { mixedLoad } from "../quickstart/mix.ts";
import { count, figure, percent } from "../report/format.ts";
import { parseScenario, type Scenario } from "../scenario/schema.ts";
import { atLeast, atMost, type BudgetLine } from "./budget.ts";
import { fetchRatios, type RatioCounts, ratioShare } from "./execution-ratio.ts";

const WARMUP_S = 3;
/** The daemon's event-loop delay is over its last ten seconds: they have to lie within the load. */
const MEASURE_S = 12;
const GAP_MEASURE_S = 6;
/** How much more than the quickstart's load, which takes some 60 % of the device for requests with deadlines. */
const FULL_SCALE = 2;
/** Shorter executions are bound by what happens around them. */
const LONG_EXECUTION_MS = 5;

export interface Reply {
  /** Milliseconds, on `performance.now()`. */
  readonly at: number;
  readonly model: string;
  readonly items: number;
  readonly timings: ReplyTimings;
}

interface Loaded {
  readonly test: LoadTest;
  readonly replies: readonly Reply[];
  /** At the end of the warm-up and at the end of the run. */
  readonly ratios: { readonly before: RatioCounts; readonly after: RatioCounts };
}

async function load(daemon: DaemonProcess, scenario: Scenario, scale: number): Promise<Loaded> {
  const replies: Reply[] = [];
  const before = sleep(scenario.warmup_s * 1000).then(() => fetchRatios(daemon.httpAddress));
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
  return { test, replies, ratios: { before: await before, after: await fetchRatios(daemon.httpAddress) } };
}

/** Event-loop delay and prediction error while all models together ask for more than the device can do. */
export async function underFullLoad(daemon: DaemonProcess): Promise<BudgetLine[]> {
  const scenario = mixedLoad(await daemon.status(), { warmupS: WARMUP_S, measureS: MEASURE_S, seed: 1 });
  if (scenario === null) throw new ToolError("no model is ready");
  const { test, ratios } = await load(daemon, scenario, FULL_SCALE);
  const { total, devices } = test.result;
  const busy = Object.values(devices)[0]?.busy_share ?? 0;
  const delay = (test.status?.after ?? (await daemon.status())).event_loop_delay_ms;
  const note = `device busy ${percent(busy)}, ${figure(total.offered / test.result.measured_s)} requests/s with deadlines and ${figure(total.best_effort.items_per_s)} best-effort items/s; max ${figure(delay.max)} ms`;
  return [
    atMost("event-loop delay under full load", 5, "ms", delay.p99, note, "p99"),
    ...predictionError(ratios.before, ratios.after),
  ];
}

/** How far executions were from what the scheduler had predicted for them. */
function predictionError(before: RatioCounts, after: RatioCounts): BudgetLine[] {
  const models = [...after.keys()].map((model) => {
    const near = ratioShare(before, after, 0.9, 1.1, model);
    return `${model} ${percent(near.within)} of ${count(near.executions)}`;
  });
  const what = "executions within 10 % of their prediction";
  const tenth = ratioShare(before, after, 0.9, 1.1);
  const quarter = ratioShare(before, after, 0.75, 1.25);
  return [
    atLeast(what, 50, "%", 100 * tenth.within, models.join(", ")),
    atLeast("executions within 25 % of their prediction", 95, "%", 100 * quarter.within),
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
export function gaps(replies: readonly Reply[]): { gapShare: number; executions: number; meanMs: number } {
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
