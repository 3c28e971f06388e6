/** Reading a decision log: its lines, one by one, checked for form. Shares no code with what writes them. */
import { closeSync, openSync, readSync } from "node:fs";

export interface ArriveLine {
  readonly ev: "arrive";
  readonly t: number;
  readonly id: number;
  readonly model: string;
  readonly items: number;
  readonly deadline: number | null;
}

export interface StartLine {
  readonly ev: "start";
  readonly t: number;
  readonly device: string;
  readonly model: string;
  readonly ids: readonly number[];
  readonly size: number;
  readonly bucket: number;
  /** When the batch was chosen, where that was before the one that executed then had ended. */
  readonly chosen?: number;
}

export interface EndLine {
  readonly ev: "end";
  readonly t: number;
  readonly device: string;
  readonly model: string;
  readonly ok?: boolean;
  /** The batch failed, and its requests are queued again. */
  readonly again?: boolean;
}

export interface DropLine {
  readonly ev: "drop";
  readonly t: number;
  readonly id: number;
  readonly cause: string;
}

export type LogLine = ArriveLine | StartLine | EndLine | DropLine;

const FIELDS: Readonly<Record<string, Readonly<Record<string, (value: unknown) => boolean>>>> = {
  arrive: { id: isCount, model: isName, items: isCount, deadline: (v) => v === null || Number.isSafeInteger(v) },
  start: { device: isName, model: isName, ids: isIds, size: isCount, bucket: isCount, chosen: isTime },
  end: { device: isName, model: isName, ok: isFlag, again: isFlag },
  drop: { id: isCount, cause: isName },
};

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

/** Absent, or a time. */
function isTime(value: unknown): boolean {
  return value === undefined || Number.isSafeInteger(value);
}

function isName(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function isFlag(value: unknown): boolean {
  return value === undefined || typeof value === "boolean";
}

function isIds(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(isCount);
}

/** @returns the line, or what is wrong with its form */
export function parseLine(text: string): LogLine | string {
  let line: Record<string, unknown>;
  try {
    line = JSON.parse(text);
  } catch {
    return "is not JSON";
  }
  if (typeof line !== "object" || line === null || Array.isArray(line)) return "is not a JSON object";
  if (!Number.isSafeInteger(line.t)) return "t is not a whole number of microseconds";
  const fields = typeof line.ev === "string" && Object.hasOwn(FIELDS, line.ev) ? FIELDS[line.ev] : undefined;
  if (fields === undefined) return `ev is ${JSON.stringify(line.ev)}, not arrive, start, end or drop`;
  for (const [name, ok] of Object.entries(fields)) {
    if (!ok(line[name])) return `${name} is ${JSON.stringify(line[name])}, which ${line.ev} does not allow`;
  }
  return line as unknown as LogLine;
}

const CHUNK_BYTES = 1 << 20;

/** The lines of a file, without reading it as a whole. */
export function* linesOf(file: string): Generator<string> {
  const descriptor = openSync(file, "r");
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    let rest: Buffer = Buffer.alloc(0);
    for (;;) {
      const length = readSync(descriptor, chunk);
      if (length === 0) break;
      const data = Buffer.concat([rest, chunk.subarray(0, length)]);
      const end = data.lastIndexOf(0x0a) + 1;
      if (end > 0) yield* data.toString("utf8", 0, end - 1).split("\n");
      rest = data.subarray(end);
    }
    if (rest.length > 0) yield rest.toString("utf8");
  } finally {
    closeSync(descriptor);
  }
}
