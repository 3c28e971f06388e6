/** Idle time between executions while work was queued, from a live daemon's decision log. */
import { readFileSync } from "node:fs";
import { quantile } from "../budgets/quantile.ts";
import type { LogLine } from "../check/log-lines.ts";

export interface Gaps {
  readonly executions: number;
  readonly execution_ms_mean: number;
  /** From an execution's end to the next one's start, where something was queued at that end. */
  readonly gap_us: { readonly p50: number; readonly p99: number };
  /** Share of the time, from the first of those executions to the last, in which the device idled beside a queue. */
  readonly idle_share: number;
}

/** Times in microseconds of the daemon's clock; executions that started within them count. */
export function gapsIn(lines: Iterable<LogLine>, fromUs: number, toUs: number): Gaps | null {
  const queued = new Set<number>();
  const endedAt = new Map<string, { readonly t: number; readonly queued: boolean }>();
  const startedAt = new Map<string, number>();
  const gaps: number[] = [];
  let executions = 0;
  let executedUs = 0;
  let firstUs = Number.NaN;
  let lastUs = Number.NaN;
  for (const line of lines) {
    const within = line.t >= fromUs && line.t <= toUs;
    switch (line.ev) {
      case "arrive":
        queued.add(line.id);
        break;
      case "drop":
        queued.delete(line.id);
        break;
      case "start": {
        for (const id of line.ids) queued.delete(id);
        const last = endedAt.get(line.device);
        startedAt.set(line.device, line.t);
        if (!within) break;
        if (Number.isNaN(firstUs)) firstUs = line.t;
        if (last !== undefined && last.t >= fromUs && last.queued) gaps.push(line.t - last.t);
        break;
      }
      case "end": {
        const start = startedAt.get(line.device);
        endedAt.set(line.device, { t: line.t, queued: queued.size > 0 });
        if (!within || start === undefined || start < fromUs) break;
        executions++;
        executedUs += line.t - start;
        lastUs = line.t;
        break;
      }
    }
  }
  if (executions === 0) return null;
  const idleUs = gaps.reduce((sum, us) => sum + us, 0);
  return {
    executions,
    execution_ms_mean: executedUs / executions / 1000,
    gap_us: { p50: gaps.length === 0 ? 0 : quantile(gaps, 0.5), p99: gaps.length === 0 ? 0 : quantile(gaps, 0.99) },
    idle_share: lastUs > firstUs ? Math.min(1, idleUs / (lastUs - firstUs)) : 0,
  };
}

/** The lines of a log that is still being written: the last may be cut. */
export function readLog(file: string): LogLine[] {
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.slice(0, -1).map((line) => JSON.parse(line) as LogLine);
}
