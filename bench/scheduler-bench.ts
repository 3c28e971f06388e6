/** What one arrival and one dispatch decision cost the scheduler, with full queues in overload. */
import { cpus } from "node:os";
import { performance } from "node:perf_hooks";
import { createScheduler } from "../daemon/scheduler/index.ts";
import type { BatchPlan, Scheduler, SchedulerEffect, SchedulerEvent } from "../daemon/scheduler/types.ts";
import { checkWritable, writeJson } from "../tools/command-line/output-file.ts";
import { runTool } from "../tools/command-line/run-tool.ts";
import { quantile } from "./budgets/quantile.ts";
import { count, figure } from "./report/format.ts";
import { table } from "./report/table.ts";
import { Random } from "./scenario/random.ts";

const USAGE = `usage: npm run bench:scheduler -- [--json FILE]

What one arrival and one dispatch decision cost the scheduler. Exit code 1 where a budget is exceeded.
`;

const ARRIVAL_MEDIAN_US = 10;
const DISPATCH_MEDIAN_US = 50;
const DISPATCH_P99_US = 200;
const MAX_BATCH = 64;
const RUNS = 3;
const WARMUP_DECISIONS = 2000;
const DECISIONS = 4000;

interface Case {
  readonly models: number;
  readonly queued: number;
  /** Deadlines lie this far ahead at most, and half as far at least: enough for the queue to stay filled. */
  readonly sloMs: number;
  readonly bestEffort: boolean;
  /** Whether the budgets are meant for it; the other cases show that work is bounded. */
  readonly budgeted: boolean;
}

const CASES: readonly Case[] = [
  { models: 6, queued: 300, sloMs: 500, bestEffort: false, budgeted: true },
  { models: 20, queued: 1000, sloMs: 1500, bestEffort: false, budgeted: true },
  { models: 20, queued: 1000, sloMs: 1500, bestEffort: true, budgeted: true },
  { models: 200, queued: 10_000, sloMs: 15_000, bestEffort: false, budgeted: false },
  { models: 1000, queued: 100_000, sloMs: 150_000, bestEffort: false, budgeted: false },
];

interface Measured extends Case {
  readonly arrival_us: { readonly median: number; readonly p99: number };
  readonly dispatch_us: { readonly median: number; readonly p99: number; readonly max: number };
}

/** A device and callers in virtual time, who keep the queue at its size; only the scheduler's steps are timed. */
class Load {
  readonly arrivalsUs: number[] = [];
  readonly decisionsUs: number[] = [];
  readonly #case: Case;
  readonly #scheduler: Scheduler = createScheduler();
  readonly #random: Random;
  #nowUs = 0;
  #lastId = 0;
  #queued = 0;
  #running: BatchPlan | null = null;

  constructor(one: Case) {
    this.#case = one;
    this.#random = new Random(1, "scheduler-bench");
    this.#step({ type: "lane-up", lane: "gpu", kind: "device" });
    for (let i = 0; i < one.models; i++) this.#addModel(`m${i}`);
  }

  #addModel(model: string): void {
    const alphaUs = 300 + 900 * this.#random.uniform();
    const betaUs = 1000 + 5000 * this.#random.uniform();
    const spec = { model, maxBatch: MAX_BATCH, sloUs: this.#case.sloMs * 1000, weight: 1, minShare: 0 };
    const limits = { shedImplicit: false, queueItemsMax: 1e9, queueBytesMax: 1e12 };
    this.#step({ type: "model-add", spec: { ...spec, ...limits } });
    const profile = Array.from({ length: MAX_BATCH }, (_, k) => ({
      bucket: k + 1,
      us: Math.round(alphaUs * (k + 1) + betaUs),
    }));
    this.#step({ type: "loaded", lane: "gpu", model, profiles: { "": profile } });
  }

  /** Fills the queue, then ends one batch after the other. */
  run(decisions: number): void {
    for (let i = 0; i < decisions; i++) {
      while (this.#queued < this.#case.queued) this.#arrive();
      const plan = this.#running!;
      const us = plan.steps[0]!.predictedUs;
      this.#nowUs += us;
      this.#running = null;
      const end: SchedulerEvent = { type: "end", lane: "gpu", execution: plan.execution, us, ok: true };
      this.decisionsUs.push(this.#step(end));
      if (this.#running === null) this.#arrive();
    }
  }

  #arrive(): void {
    const { models, sloMs, bestEffort } = this.#case;
    const fill = bestEffort && this.#random.uniform() < 0.2;
    const deadlineUs = this.#nowUs + Math.round(sloMs * 1000 * (0.5 + 0.5 * this.#random.uniform()));
    const request = {
      id: ++this.#lastId,
      model: `m${Math.floor(this.#random.uniform() * models)}`,
      items: 1,
      bytes: 1000,
      shape: "",
      deadlineUs: fill ? null : deadlineUs,
      explicit: true,
      expiresUs: null,
      tenant: "",
    };
    this.#queued += 1;
    const idle = this.#running === null;
    const us = this.#step({ type: "arrive", request });
    if (!idle) this.arrivalsUs.push(us);
  }

  /** @returns what the step took, in microseconds */
  #step(event: SchedulerEvent): number {
    const started = performance.now();
    const effects = this.#scheduler.step(event, this.#nowUs);
    const us = (performance.now() - started) * 1000;
    for (const effect of effects) this.#carryOut(effect);
    return us;
  }

  #carryOut(effect: SchedulerEffect): void {
    if (effect.type === "shed") this.#queued -= 1;
    if (effect.type !== "start") return;
    this.#running = effect.plan;
    this.#queued -= effect.plan.ids.length;
  }
}

/** The best of a few runs: what disturbs one only makes it slower. */
function measure(one: Case): Measured {
  const runs = Array.from({ length: RUNS }, () => measureOnce(one));
  return runs.reduce((best, run) => (run.dispatch_us.p99 < best.dispatch_us.p99 ? run : best));
}

function measureOnce(one: Case): Measured {
  const load = new Load(one);
  load.run(WARMUP_DECISIONS);
  load.arrivalsUs.length = 0;
  load.decisionsUs.length = 0;
  load.run(DECISIONS);
  return {
    ...one,
    arrival_us: { median: quantile(load.arrivalsUs, 0.5), p99: quantile(load.arrivalsUs, 0.99) },
    dispatch_us: {
      median: quantile(load.decisionsUs, 0.5),
      p99: quantile(load.decisionsUs, 0.99),
      max: quantile(load.decisionsUs, 1),
    },
  };
}

function isWithin({ arrival_us, dispatch_us }: Measured): boolean {
  return (
    arrival_us.median <= ARRIVAL_MEDIAN_US &&
    dispatch_us.median <= DISPATCH_MEDIAN_US &&
    dispatch_us.p99 <= DISPATCH_P99_US
  );
}

await runTool({ name: "bench:scheduler", usage: USAGE, options: { json: { type: "string" } } }, ({ values }) => {
  if (values.json !== undefined) checkWritable(values.json);
  const results = CASES.map(measure);
  const titles = ["models", "queued", "fill", "arrival", "p99", "dispatch", "p99", "max", "within budget"];
  const rows = results.map((result) => [
    count(result.models),
    count(result.queued),
    result.bestEffort ? "yes" : "no",
    ...[result.arrival_us.median, result.arrival_us.p99].map((us) => `${figure(us)} µs`),
    ...[result.dispatch_us.median, result.dispatch_us.p99, result.dispatch_us.max].map((us) => `${figure(us)} µs`),
    result.budgeted ? (isWithin(result) ? "yes" : "no") : "–",
  ]);
  const columns = titles.map((title) => ({ title, align: "right" as const }));
  process.stdout.write(`${table(columns, rows).join("\n")}\n`);
  if (values.json !== undefined) {
    const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length };
    const budgets_us = {
      arrival_median: ARRIVAL_MEDIAN_US,
      dispatch_median: DISPATCH_MEDIAN_US,
      dispatch_p99: DISPATCH_P99_US,
    };
    writeJson(values.json, { machine, budgets_us, results });
  }
  return results.every((result) => !result.budgeted || isWithin(result)) ? 0 : 1;
});
