/** Results as JSON lines: `{"row": N, "id": …, "version": …, "outputs": {…}}`, or `"error"` in place of version and outputs. */
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, stat } from "node:fs/promises";
import path from "node:path";
import { invalidArgument, SlacklineError } from "../errors.ts";
import { tensorToJson } from "./json-tensor.ts";
import { jsonOf, LINE_BYTES_MAX, type Line, linesOf } from "./lines.ts";
import type { PredictModel } from "./model.ts";
import {
  type Earlier,
  type Existing,
  type FailedRow,
  NOTHING_BEFORE,
  READ_BYTES,
  type RowId,
  type RowResult,
  type RowSink,
} from "./rows.ts";

/** Characters that are gathered for a write: all lines of a request can be more than a string holds. */
const WRITE_CHARACTERS = 2 ** 20;

/** A file's results, or standard output's for `-`; throws where what is there may not be touched or is no output of this kind. */
export async function jsonOutput(file: string, model: PredictModel, existing: Existing): Promise<RowSink> {
  if (file === "-") return new StandardOutput();
  const isFolder = await stat(file).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isFolder) {
    throw invalidArgument(
      `--output ${file} is a folder: name a file for JSON lines, or end it with a slash for the arrays of NumPy inputs`,
    );
  }
  await mkdir(path.dirname(path.resolve(file)), { recursive: true });
  const wanted = namesText(model.outputs.map(({ name }) => name));
  let next = 0;
  const { handle, before } = await openLines(file, existing, ({ row, outputs }) => {
    if (row !== next) throw noResult(file, next + 1);
    next++;
    if (outputs === null || namesText(outputs) === wanted) return true;
    const message = `line ${next} of ${file} has the outputs ${namesText(outputs)}, but ${wanted} are to be written: choose the same with --outputs`;
    throw new SlacklineError("FAILED_PRECONDITION", message);
  });
  return new JsonFile(handle, before);
}

/** The version that answered the last rows of an earlier run's file; undefined where there are none, or none says it. */
export async function versionIn(file: string): Promise<string | undefined> {
  const isFile = await stat(file).then(
    (found) => found.isFile(),
    () => false,
  );
  return isFile ? (await readResults(file, () => true)).before.version : undefined;
}

function namesText(names: readonly string[]): string {
  return names.toSorted().join(", ");
}

/** Whether a line is kept, and those after it looked at. */
type Keep = (written: WrittenResult) => boolean;

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
async function readResults(file: string, keep: Keep): Promise<{ readonly before: Earlier; readonly end: number }> {
  let before = NOTHING_BEFORE;
  let end = 0;
  for await (const lines of linesOf(createReadStream(file, { highWaterMark: READ_BYTES }))) {
    for (const line of lines) {
      if (!line.ended) {
        if (!isBegun(line)) throw noResult(file, line.number);
        break;
      }
      const written = resultOf(line, file);
      if (!keep(written)) return { before, end };
      before = {
        rows: before.rows + 1,
        failed: before.failed + (written.outputs === null ? 1 : 0),
        lastId: written.id,
        version: written.version ?? before.version,
      };
      end = line.end;
    }
  }
  return { before, end };
}

const RESULT_START = Buffer.from('{"row":');

/** Whether an unended line can be one whose writing was cut short: another file's is not to be cut off. */
function isBegun({ bytes }: Line): boolean {
  const length = Math.min(bytes.length, RESULT_START.length);
  return Buffer.compare(bytes.subarray(0, length), RESULT_START.subarray(0, length)) === 0;
}

interface WrittenResult {
  readonly row: number;
  readonly id: RowId | undefined;
  readonly version: string | undefined;
  /** Names; null where the row failed. */
  readonly outputs: readonly string[] | null;
}

function resultOf(line: Line, file: string): WrittenResult {
  const { row, id, version, outputs, error } = (parsed(line) ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof row !== "number" || (outputs === undefined) === (error === undefined)) throw noResult(file, line.number);
  return {
    row,
    id: id as RowId | undefined,
    version: version as string | undefined,
    outputs: error === undefined ? Object.keys(outputs as object) : null,
  };
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

/** Writes results as lines, some at a time; resolves with how many of them are failures. */
export async function writeLines(
  results: readonly RowResult[],
  write: (text: string) => Promise<void>,
): Promise<number> {
  let failed = 0;
  let text = "";
  for (const result of results) {
    const line = answerLine(result);
    if (line === null) failed++;
    text += line ?? failureLine("error" in result ? result : tooLong(result));
    if (text.length < WRITE_CHARACTERS) continue;
    await write(text);
    text = "";
  }
  if (text !== "") await write(text);
  return failed;
}

/** null where the row failed, or its line would be longer than any that is read again. */
function answerLine(result: RowResult): string | null {
  if ("error" in result) return null;
  const { row, id, version } = result;
  try {
    const outputs = Object.fromEntries(Object.entries(result.outputs).map(([name, of]) => [name, tensorToJson(of)]));
    const line = `${JSON.stringify({ row, id, version, outputs })}\n`;
    return Buffer.byteLength(line) <= LINE_BYTES_MAX ? line : null;
  } catch (error) {
    // No string can be as long as that.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function failureLine({ row, id, error }: FailedRow): string {
  return `${JSON.stringify({ row, id, error })}\n`;
}

function tooLong({ row, id }: RowResult): FailedRow {
  const message = `the outputs are more than the ${LINE_BYTES_MAX} bytes that a line may have: choose fewer with --outputs`;
  return { row, id, error: { code: "RESOURCE_EXHAUSTED", reason: "line_bytes", message } };
}

class JsonFile implements RowSink {
  readonly before: Earlier;
  readonly lacking = null;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, before: Earlier) {
    this.#handle = handle;
    this.before = before;
  }

  write(results: readonly RowResult[]): Promise<number> {
    return writeLines(results, (text) => this.#handle.appendFile(text));
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

class StandardOutput implements RowSink {
  readonly before: Earlier = NOTHING_BEFORE;
  readonly lacking = null;

  constructor() {
    // A write's callback tells of it too; without a listener the process would end.
    process.stdout.on("error", ignore);
  }

  write(results: readonly RowResult[]): Promise<number> {
    return writeLines(
      results,
      (text) =>
        new Promise((resolve, reject) => {
          process.stdout.write(text, (error) => {
            if (error) reject(Object.assign(error, { message: outputProblem(error) }));
            else resolve();
          });
        }),
    );
  }

  async close(): Promise<void> {
    process.stdout.off("error", ignore);
  }
}

function outputProblem(error: NodeJS.ErrnoException): string {
  return error.code === "EPIPE" ? "whoever read the output has stopped (EPIPE): no more rows are run" : error.message;
}

function ignore(): void {}
