/** What the quickstart found out, in one place for the text and the HTML report. */
import type { DaemonStatus, ModelStatus } from "../../daemon/status.ts";
import type { LoadTest } from "../load/load-test.ts";
import type { ModelResult } from "../load/result.ts";
import { count, figure, percent } from "../report/format.ts";

export interface ModelFacts {
  readonly name: string;
  readonly status: ModelStatus;
  readonly result: ModelResult;
  /** What batches of it cost where it runs: ascending `[bucket, ms]`. */
  readonly profileMs: readonly (readonly [number, number])[];
  readonly deadlineShare: number;
  readonly bestEffortShare: number;
}

export interface Facts {
  readonly status: DaemonStatus;
  readonly result: LoadTest["result"];
  readonly models: readonly ModelFacts[];
  /** Shares of the device lanes' time, their mean; work on CPU replicas is not in them. */
  readonly busyShare: number;
  readonly bestEffortShare: number;
}

export function gatherFacts({ result }: LoadTest, status: DaemonStatus): Facts {
  const models = Object.entries(result.models).flatMap(([name, model]) => {
    const found = status.models.find((candidate) => candidate.name === name && candidate.state === "READY");
    if (found === undefined) return [];
    const onReplica = found.placement === "replica";
    return {
      name,
      status: found,
      result: model,
      profileMs: (onReplica ? found.replica_profile_ms : found.profile_ms) ?? [],
      deadlineShare: (model.served?.busy_share ?? 0) - (model.served?.best_effort_share ?? 0),
      bestEffortShare: model.served?.best_effort_share ?? 0,
    };
  });
  const devices = Object.values(result.devices);
  const mean = (of: (device: (typeof devices)[number]) => number): number =>
    devices.reduce((sum, device) => sum + of(device), 0) / Math.max(1, devices.length);
  return {
    status,
    result,
    models,
    busyShare: mean((device) => device.busy_share),
    bestEffortShare: mean((device) => device.best_effort_share),
  };
}

export type Verdict = "good" | "poor" | "failed";

/** Below this share of requests answered on time, the report says that the machine could not hold the deadlines. */
const GOOD_ATTAINMENT = 0.95;

export function verdict(facts: Facts): Verdict {
  const { result } = facts;
  const { total } = result;
  if (total.on_time + total.late === 0 || errorsOf(facts) > 0) return "failed";
  return total.attainment >= GOOD_ATTAINMENT && result.valid ? "good" : "poor";
}

function errorsOf({ result: { total } }: Facts): number {
  return total.errors + total.best_effort.errors;
}

/** What was seen, in a few plain sentences. */
export function inWords(facts: Facts): string {
  const { result, models, status } = facts;
  const { total } = result;
  const first = `${models.length} models shared one ${deviceWord(status)}: ${percent(total.attainment)} of ${count(total.offered)} requests were answered by their deadlines.`;
  switch (verdict(facts)) {
    case "failed": {
      const errors = errorsOf(facts);
      if (errors === 0) return "Nothing was served: no request was answered.";
      const examples = Object.entries(result.error_examples).map(([code, message]) => `${code}: ${message}`);
      return `${first} ${count(errors)} ended in errors, which should not happen (${examples.join("; ")}).`;
    }
    case "poor":
      return `${first} ${poorWords(facts)} ${busyWords(facts)}`;
    case "good":
      return [first, busyWords(facts), deferralWords(facts), batchWords(facts)]
        .filter((words) => words !== "")
        .join(" ");
  }
}

function deviceWord({ device }: DaemonStatus): string {
  return device.provider === "cpu" ? "device (the CPU, standing in for a GPU)" : `GPU (${device.name})`;
}

function poorWords({ result }: Facts): string {
  if (!result.valid) {
    return `This machine was so busy that even sending the requests was late (${figure(result.generator_lag_ms.p99)} ms at the 99th percentile), so take the figures with care.`;
  }
  const { late, shed } = result.total;
  return `The others came late (${count(late)}) or were shed before they cost anything (${count(shed)}): something else was using this machine, or it is too slow for these rates.`;
}

function busyWords({ busyShare, bestEffortShare, models, result }: Facts): string {
  if (Object.keys(result.devices).length === 0) return "";
  const deadlines = `The device was busy ${percent(busyShare)} of the time, ${percent(busyShare - bestEffortShare)} with requests that had deadlines`;
  const filled = models.filter((model) => model.result.best_effort.answered > 0);
  if (filled.length === 0) return `${deadlines}.`;
  const work = filled.map((m) => `${figure(m.result.best_effort.items_per_s)} ${m.name} items a second`).join(" and ");
  return `${deadlines} and ${percent(bestEffortShare)} with best-effort work in the slack between them (${work}).`;
}

/** Below this share of best-effort work the latencies are those of an eager server. */
const DEFERRING_SHARE = 0.1;

function deferralWords({ bestEffortShare }: Facts): string {
  if (bestEffortShare < DEFERRING_SHARE) return "";
  return "Latencies come near the SLOs on purpose: while best-effort work waits, a request is run when its deadline needs it, and not before.";
}

function batchWords({ models }: Facts): string {
  const batched = models.filter((m) => (m.result.batch_size_mean ?? 0) >= 1.05);
  if (batched.length === 0) return "";
  const most = batched.reduce((a, b) => (a.result.batch_size_mean! >= b.result.batch_size_mean! ? a : b));
  return `Batches formed by themselves, without a wait window: ${most.name} ran ${figure(most.result.batch_size_mean!)} items at a time on average.`;
}
