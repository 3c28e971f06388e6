/**
 * Results as .npy files in a folder, one for each output: row n of each is the answer to row n of the input. Rows that failed are
 * zeros there and lines of `errors.jsonl`. The header states the final shape from the beginning; rows follow in order.
 */
import { existsSync } from "node:fs";
import { type FileHandle, mkdir, open, rm, stat } from "node:fs/promises";
import path from "node:path";
import { ARRAY_CLASSES, elementCount, type NumericDatatype } from "../datatypes.ts";
import { invalidArgument, SlacklineError } from "../errors.ts";
import type { TensorMetadata } from "../server-info.ts";
import { alreadyExists, openLines, writeLines } from "./json-output.ts";
import type { PredictModel } from "./model.ts";
import { descrOf, fits, npyHeader, readNpyHeader } from "./npy.ts";
import type { Earlier, Existing, RowResult, RowSink } from "./rows.ts";

const ERRORS_FILE = "errors.jsonl";

/** The file in which an output's rows are. */
function npyFileOf(folder: string, output: string): string {
  return path.join(folder, `${encodeURIComponent(output)}.npy`);
}

/** The files of all outputs, and that of errors. */
export function filesOf(folder: string, model: PredictModel): string[] {
  return [...model.outputs.map(({ name }) => npyFileOf(folder, name)), path.join(folder, ERRORS_FILE)];
}

/** @param total rows of the input */
export async function npyOutput(
  folder: string,
  model: PredictModel,
  total: number,
  existing: Existing,
): Promise<RowSink> {
  const columns = model.outputs.map((output) => new Column(npyFileOf(folder, output.name), output, total));
  await mkdir(folder, { recursive: true });
  if (existing === "refuse") {
    for (const file of filesOf(folder, model)) if (existsSync(file)) throw alreadyExists(file);
  }
  try {
    const rows = existing === "resume" ? await resumedRows(columns) : 0;
    const { handle, before } = await openLines(path.join(folder, ERRORS_FILE), existing, ({ row }) => row < rows);
    const sink = new NpyFolder(columns, handle, { ...before, rows, lastId: undefined });
    try {
      checkComplete(columns, rows, before.failed);
    } catch (error) {
      await handle.close();
      throw error;
    }
    for (const column of columns) if (column.isOpen) await column.truncate(rows);
    for (const column of columns) {
      if (existing === "overwrite") await rm(column.file, { force: true });
      if (!column.isOpen && !column.declaredShape.includes(-1)) await column.create(column.declaredShape);
    }
    return sink;
  } catch (error) {
    for (const column of columns) await column.close();
    throw error;
  }
}

/** Opens the files of an earlier run; resolves with the rows that all of them have. */
async function resumedRows(columns: readonly Column[]): Promise<number> {
  let rows: number | null = null;
  for (const column of columns) {
    const complete = await column.open();
    if (complete !== null) rows = Math.min(rows ?? complete, complete);
  }
  return rows ?? 0;
}

function checkComplete(columns: readonly Column[], rows: number, failed: number): void {
  // Where every row failed, nothing has told the shape of an output that varies.
  const missing = columns.find(
    ({ isOpen, declaredShape }) => !isOpen && !(failed === rows && declaredShape.includes(-1)),
  );
  if (missing === undefined || rows === 0) return;
  const message = `${missing.file} is missing, but ${rows} rows of other outputs are there: choose those with --outputs, or begin anew with --force`;
  throw new SlacklineError("FAILED_PRECONDITION", message);
}

/** One output's file. */
class Column {
  readonly file: string;
  readonly name: string;
  /** Of a row, -1 where it varies. */
  readonly declaredShape: readonly number[];
  readonly #datatype: NumericDatatype;
  readonly #descr: string;
  readonly #total: number;
  #open: { readonly handle: FileHandle; readonly itemShape: readonly number[]; readonly dataOffset: number } | null =
    null;

  constructor(file: string, { name, datatype, shape }: TensorMetadata, total: number) {
    const descr = descrOf(datatype);
    if (datatype === "BYTES" || descr === null) {
      throw invalidArgument(
        `output '${name}' is ${datatype}, which .npy files can't hold: write JSON lines, or leave it out with --outputs`,
      );
    }
    this.file = file;
    this.name = name;
    this.declaredShape = shape;
    this.#datatype = datatype;
    this.#descr = descr;
    this.#total = total;
  }

  get isOpen(): boolean {
    return this.#open !== null;
  }

  /** Shape of a row; null until it is known. */
  get itemShape(): readonly number[] | null {
    return this.#open?.itemShape ?? null;
  }

  /** Opens the file of an earlier run; resolves with its complete rows, null where there is none. */
  async open(): Promise<number | null> {
    const size = await stat(this.file).then(
      (found) => found.size,
      () => 0,
    );
    if (size === 0) return null;
    const handle = await open(this.file, "r+");
    // From here on it is closed with the column.
    this.#open = { handle, itemShape: [], dataOffset: 0 };
    const { descr, shape, dataOffset } = await readNpyHeader(handle, this.file);
    const [total, ...itemShape] = shape;
    if (descr !== this.#descr || total !== this.#total || !fits(itemShape, this.declaredShape)) {
      const expected = [this.#total, ...this.declaredShape].join(", ");
      const message = `${this.file} holds '${descr}' of shape (${shape.join(", ")}); expected '${this.#descr}' of shape (${expected}): that is another run's output (--force overwrites it)`;
      throw new SlacklineError("FAILED_PRECONDITION", message);
    }
    this.#open = { handle, itemShape, dataOffset };
    const rowBytes = this.#rowBytes(itemShape);
    return rowBytes === 0 ? total : Math.min(total, Math.floor(Math.max(0, size - dataOffset) / rowBytes));
  }

  async create(itemShape: readonly number[]): Promise<void> {
    const handle = await open(this.file, "w");
    const header = npyHeader(this.#descr, [this.#total, ...itemShape]);
    await writeAt(handle, header, 0);
    this.#open = { handle, itemShape, dataOffset: header.length };
  }

  async truncate(rows: number): Promise<void> {
    const { handle, itemShape, dataOffset } = this.#open!;
    await handle.truncate(dataOffset + rows * this.#rowBytes(itemShape));
  }

  /** Writes results that follow each other; those that failed as zeros. */
  async write(results: readonly RowResult[]): Promise<void> {
    const { handle, itemShape, dataOffset } = this.#open!;
    const rowBytes = this.#rowBytes(itemShape);
    const bytes = Buffer.alloc(results.length * rowBytes);
    for (const [i, result] of results.entries()) {
      if ("error" in result) continue;
      const { buffer, byteOffset, byteLength } = result.outputs[this.name]!.data as Uint8Array;
      bytes.set(new Uint8Array(buffer, byteOffset, byteLength), i * rowBytes);
    }
    await writeAt(handle, bytes, dataOffset + results[0]!.row * rowBytes);
  }

  async close(): Promise<void> {
    await this.#open?.handle.close();
    this.#open = null;
  }

  #rowBytes(itemShape: readonly number[]): number {
    return elementCount(itemShape) * ARRAY_CLASSES[this.#datatype].BYTES_PER_ELEMENT;
  }
}

/** A single write may take less than all. */
async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

class NpyFolder implements RowSink {
  readonly before: Earlier;
  readonly #columns: readonly Column[];
  readonly #errors: FileHandle;

  constructor(columns: readonly Column[], errors: FileHandle, before: Earlier) {
    this.#columns = columns;
    this.#errors = errors;
    this.before = before;
  }

  get lacking(): string | null {
    const columns = this.#columns.filter(({ isOpen }) => !isOpen);
    if (columns.length === 0) return null;
    const shapes = columns.map(({ file, declaredShape }) => `${file} (declared [${declaredShape}])`).join(", ");
    return `not written, since only an answer tells the shape, and there was none: ${shapes}`;
  }

  async write(results: readonly RowResult[]): Promise<number> {
    const first = results.find((result) => "outputs" in result);
    if (first !== undefined) {
      for (const column of this.#columns) {
        if (!column.isOpen) await column.create(first.outputs[column.name]!.shape);
      }
    }
    const fitting = results.map((result) => this.#fitting(result));
    // Errors first: rows that are in the arrays are complete.
    const failed = fitting.filter((result) => "error" in result);
    await writeLines(failed, (text) => this.#errors.appendFile(text));
    for (const column of this.#columns) if (column.isOpen) await column.write(fitting);
    return failed.length;
  }

  async close(): Promise<void> {
    await this.#errors.close();
    for (const column of this.#columns) await column.close();
  }

  /** The result, or why it can't be a row of arrays that have another shape. */
  #fitting(result: RowResult): RowResult {
    if ("error" in result) return result;
    for (const { name, itemShape } of this.#columns) {
      const { shape } = result.outputs[name]!;
      if (String(shape) === String(itemShape)) continue;
      const message = `output '${name}' has the shape [${shape}]; expected [${itemShape}], as all rows of its array have (JSON lines can hold others)`;
      return {
        row: result.row,
        id: result.id,
        error: { code: "FAILED_PRECONDITION", reason: "output_shape", message },
      };
    }
    return result;
  }
}
