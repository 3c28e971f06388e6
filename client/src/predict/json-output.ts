/** Results as JSON lines: `{"row": N, "id": …, "outputs": {…}}`, or `"error"` in place of `"outputs"`. */
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import path from "node:path";
import { SlacklineError } from "../errors.ts";
import { tensorToJson } from "./json-tensor.ts";
import { jsonOf, type Line, linesOf } from "./lines.ts";
import { type Earlier, type Existing, NOTHING_BEFORE, type RowId, type RowResult, type RowSink } from "./rows.ts";

function resultLine(result: RowResult): string {
  const { row, id } = result;
  const what =
    "error" in result
      ? { error: result.error }
      : {
          outputs: Object.fromEntries(Object.entries(result.outputs).map(([name, of]) => [name, tensorToJson(of)])),
        };
  return `${JSON.stringify({ row, id, ...what })}\n`;
}

/** A file's results, or standard output's for `-`; throws where what is there may not be touched or is no output of this kind. */
export async function jsonOutput(file: string, existing: Existing): Promise<RowSink> {
  if (file === "-") return new StandardOutput();
  await mkdir(path.dirname(path.resolve(file)), { recursive: true });
  let next = 0;
  const { handle, before } = await openLines(file, existing, (row) => {
    if (row !== next) throw noResult(file, next + 1);
    next++;
    return true;
  });
  return new JsonFile(handle, before);
}

/** Whether the line of this row is kept, and those after it looked at. */
type Keep = (row: number) => boolean;

/**
 * Opens a file of result lines. One that is resumed is cut off after its last complete line that is kept.
 *
 * @throws SlacklineError ALREADY_EXISTS where the file exists and is neither to be overwritten nor resumed
 */
export async function openLines(
  file: string,
  existing: Existing,
  keep: Keep,
): Promise<{ readonly handle: FileHandle; readonly before: Earlier }> {
  // `a`: created where it is missing, appended to where it is not; `x`: only where it is missing.
  const flags = existing === "overwrite" ? "w" : existing === "resume" ? "a" : "wx";
  const handle = await open(file, flags).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "EEXIST" ? alreadyExists(file) : error;
  });
  if (existing !== "resume") return { handle, before: NOTHING_BEFORE };
  try {
    const { before, end } = await readResults(file, keep);
    await handle.truncate(end);
    return { handle, before };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

export function alreadyExists(what: string): SlacklineError {
  return new SlacklineError(
    "ALREADY_EXISTS",
    `${what} exists already: --resume goes on with it, --force overwrites it`,
  );
}

/** What a file has of complete lines that are kept, and where they end, in bytes. */
export async function readResults(
  file: string,
  keep: Keep,
): Promise<{ readonly before: Earlier; readonly end: number }> {
  let before = NOTHING_BEFORE;
  let end = 0;
  for await (const lines of linesOf(createReadStream(file, { highWaterMark: 2 ** 20 }))) {
    for (const line of lines) {
      if (!line.ended) break;
      const { row, id, failed } = resultOf(line, file);
      if (!keep(row)) return { before, end };
      before = { rows: before.rows + 1, failed: before.failed + (failed ? 1 : 0), lastId: id };
      end = line.end;
    }
  }
  return { before, end };
}

interface WrittenResult {
  readonly row: number;
  readonly id: RowId | undefined;
  readonly failed: boolean;
}

function resultOf(line: Line, file: string): WrittenResult {
  const { row, id, outputs, error } = (parsed(line) ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof row !== "number" || (outputs === undefined) === (error === undefined)) throw noResult(file, line.number);
  return { row, id: id as RowId | undefined, failed: error !== undefined };
}

function parsed(line: Line): unknown {
  try {
    return jsonOf(line);
  } catch {
    return null;
  }
}

function noResult(file: string, lineNumber: number): SlacklineError {
  const message = `line ${lineNumber} of ${file} is not what predict writes there; --force overwrites the file`;
  return new SlacklineError("FAILED_PRECONDITION", message);
}

/** Appends results to an open file; resolves with how many of them are failures. */
export async function appendResults(handle: FileHandle, results: readonly RowResult[]): Promise<number> {
  await handle.appendFile(results.map(resultLine).join(""));
  return countFailed(results);
}

function countFailed(results: readonly RowResult[]): number {
  return results.filter((result) => "error" in result).length;
}

class JsonFile implements RowSink {
  readonly before: Earlier;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, before: Earlier) {
    this.#handle = handle;
    this.before = before;
  }

  write(results: readonly RowResult[]): Promise<number> {
    return appendResults(this.#handle, results);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

class StandardOutput implements RowSink {
  readonly before: Earlier = NOTHING_BEFORE;

  constructor() {
    // A write's callback tells of it too; without a listener the process would end.
    process.stdout.on("error", ignore);
  }

  write(results: readonly RowResult[]): Promise<number> {
    return new Promise((resolve, reject) => {
      process.stdout.write(results.map(resultLine).join(""), (error) => {
        if (error) reject(error);
        else resolve(countFailed(results));
      });
    });
  }

  async close(): Promise<void> {
    process.stdout.off("error", ignore);
  }
}

function ignore(): void {}
