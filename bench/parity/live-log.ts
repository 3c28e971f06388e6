import { readFileSync } from "node:fs";

/** One request with a deadline as a daemon's decision log has it; times in microseconds of the daemon's clock. */
export interface LoggedRequest {
  /** Name without the version. */
  readonly model: string;
  readonly atUs: number;
  readonly deadlineUs: number;
  /** When its batch ended; null where it was dropped or failed. */
  endUs: number | null;
}

/** One batch, from the decision to start it until its outputs were there. */
export interface LoggedExecution {
  readonly lane: string;
  readonly model: string;
  readonly bucket: number;
  readonly startUs: number;
  readonly us: number;
}

export interface LiveLog {
  readonly requests: readonly LoggedRequest[];
  readonly executions: readonly LoggedExecution[];
  /**
   * Time from the end of a batch to the start of the lane's next, at the median over those times when requests waited for
   * it; 0 where none did.
   */
  readonly turnaroundUs: number;
}

interface Line {
  readonly t: number;
  readonly ev: "arrive" | "start" | "end" | "drop";
  readonly id: number;
  readonly model: string;
  readonly deadline: number | null;
  readonly device: string;
  readonly ids: readonly number[];
  readonly bucket: number;
  readonly ok?: boolean;
}

/** Reads a daemon's decision log. Best-effort requests are left out. */
export function readLiveLog(file: string): LiveLog {
  const requests = new Map<number, LoggedRequest>();
  const waiting = new Set<number>();
  const running = new Map<string, Line>();
  const endedUs = new Map<string, number>();
  const executions: LoggedExecution[] = [];
  const turnarounds: number[] = [];
  for (const text of readFileSync(file, "utf8").split("\n")) {
    if (text === "") continue;
    const line = JSON.parse(text) as Line;
    switch (line.ev) {
      case "arrive":
        if (line.deadline === null) break;
        requests.set(line.id, { model: unversioned(line.model), atUs: line.t, deadlineUs: line.deadline, endUs: null });
        waiting.add(line.id);
        break;
      case "start": {
        const freeUs = endedUs.get(line.device);
        // A lane that nothing waited for when it became free was idle for another reason.
        if (freeUs !== undefined) turnarounds.push(line.t - freeUs);
        endedUs.delete(line.device);
        for (const id of line.ids) waiting.delete(id);
        running.set(line.device, line);
        break;
      }
      case "end": {
        const start = running.get(line.device);
        running.delete(line.device);
        if (start === undefined) break;
        const { device: lane, bucket, t: startUs } = start;
        if (line.ok !== false) {
          executions.push({ lane, model: unversioned(start.model), bucket, startUs, us: line.t - startUs });
          for (const id of start.ids) {
            const request = requests.get(id);
            if (request !== undefined) request.endUs = line.t;
          }
        }
        if (waiting.size > 0) endedUs.set(line.device, line.t);
        break;
      }
      case "drop":
        waiting.delete(line.id);
        break;
    }
  }
  return { requests: [...requests.values()], executions, turnaroundUs: median(turnarounds) ?? 0 };
}

function unversioned(model: string): string {
  return model.replace(/\/\d+$/, "");
}

export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)]!;
}
