/**
 * Results as .npy files in a folder, one for each output: row n of each is the answer to row n of the input. Rows that failed are
 * zeros there and lines of `errors.jsonl`. The header states the final shape from the beginning; rows follow in order.
 */
import { existsSync } from "node:fs";
import { type FileHandle, mkdir, open, rm, stat } from "node:fs/promises";
import path from "node:path";
import { ARRAY_CLASSES, elementCount, type NumericDatatype } from "../datatypes.ts";
import { invalidArgument, SlacklineError } from "../errors.ts";
import { alreadyExists, appendResults, openLines, readResults } from "./json-output.ts";
import type { PredictModel } from "./model.ts";
import { descrOf, npyHeader, readNpyHeader } from "./npy.ts";
import type { Earlier, Existing, RowResult, RowSink } from "./rows.ts";

const ERRORS_FILE = "errors.jsonl";

/** The file in which an output's rows are. */
export function npyFileOf(folder: string, output: string): string {
  return path.join(folder, `${encodeURIComponent(output)}.npy`);
}

/** @param total rows of the input */
export async function npyOutput(
  folder: string,
  model: PredictModel,
  total: number,
  existing: Existing,
): Promise<RowSink> {
  const columns = model.outputs.map(({ name, datatype }) => {
    const descr = descrOf(datatype);
    if (datatype === "BYTES" || descr === null) {
      throw invalidArgument(
        `output '${name}' is ${datatype}, which .npy files can't hold: write JSON lines, or leave it out with --outputs`,
      );
    }
    return new Column(npyFileOf(folder, name), name, datatype, descr, total);
  });
  await mkdir(folder, { recursive: true });
  const errorsFile = path.join(folder, ERRORS_FILE);
  try {
    const rows = await begin(columns, errorsFile, existing);
    const { handle, before } = await openLines(errorsFile, existing, (row) => row < rows);
    return new NpyFolder(columns, handle, { rows, failed: before.failed, lastId: undefined });
  } catch (error) {
    for (const column of columns) await column.close();
    throw error;
  }
}

/** Does what is to be done with files that are there; resolves with the rows that are complete in them. */
async function begin(columns: readonly Column[], errorsFile: string, existing: Existing): Promise<number> {
  switch (existing) {
    case "refuse":
      for (const { file } of columns) if (existsSync(file)) throw alreadyExists(file);
      return 0;
    case "overwrite":
      for (const { file } of columns) await rm(file, { force: true });
      return 0;
    case "resume":
      return resumedRows(columns, errorsFile);
  }
}

/** Opens the files of an earlier run, and cuts them off where the shortest ends; resolves with the rows of each. */
async function resumedRows(columns: readonly Column[], errorsFile: string): Promise<number> {
  const complete: number[] = [];
  for (const column of columns) {
    const rows = await column.open();
    if (rows === null) {
      // Before the first answer told the outputs' shapes, there were errors only.
      for (const any of columns) await any.close();
      let next = 0;
      return existsSync(errorsFile) ? (await readResults(errorsFile, (row) => row === next++)).before.rows : 0;
    }
    complete.push(rows);
  }
  const rows = Math.min(...complete);
  for (const column of columns) await column.truncate(rows);
  return rows;
}

/** One output's file. */
class Column {
  readonly file: string;
  readonly name: string;
  readonly #datatype: NumericDatatype;
  readonly #descr: string;
  readonly #total: number;
  #open: { readonly handle: FileHandle; readonly itemShape: readonly number[]; readonly dataOffset: number } | null =
    null;

  constructor(file: string, name: string, datatype: NumericDatatype, descr: string, total: number) {
    this.file = file;
    this.name = name;
    this.#datatype = datatype;
    this.#descr = descr;
    this.#total = total;
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
    if (descr !== this.#descr || total !== this.#total) {
      const message = `${this.file} holds '${descr}' of shape (${shape.join(", ")}); expected '${this.#descr}' and ${this.#total} rows: that is another run's output (--force overwrites it)`;
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

  async write(results: readonly RowResult[]): Promise<number> {
    const first = results.find((result) => "outputs" in result);
    if (first !== undefined) {
      for (const column of this.#columns) {
        if (column.itemShape === null) await column.create(first.outputs[column.name]!.shape);
      }
    }
    const fitting = results.map((result) => this.#fitting(result));
    // Errors first: rows that are in the arrays are complete.
    const failed = await appendResults(
      this.#errors,
      fitting.filter((result) => "error" in result),
    );
    for (const column of this.#columns) if (column.itemShape !== null) await column.write(fitting);
    return failed;
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
      const message = `output '${name}' has the shape [${shape}], but [${itemShape}] in the first row that was answered: one array can't hold both (JSON lines can)`;
      return {
        row: result.row,
        id: result.id,
        error: { code: "FAILED_PRECONDITION", reason: "output_shape", message },
      };
    }
    return result;
  }
}
