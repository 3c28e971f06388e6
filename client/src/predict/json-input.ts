/** Rows from JSON lines: `{"id": …, "inputs": {"NAME": nested arrays, …}}`, blank lines aside. */
import { closeSync, createReadStream, fstat, open } from "node:fs";
import { Socket } from "node:net";
import { addAbortSignal, type Readable } from "node:stream";
import { promisify } from "node:util";
import { invalidArgument, SlacklineError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { shortened, shown, tensorFromJson } from "./json-tensor.ts";
import { isBlank, jsonOf, type Line, linesOf } from "./lines.ts";
import { inputsText, type PredictModel } from "./model.ts";
import { type Earlier, READ_BYTES, type Row, type RowId, type RowSource } from "./rows.ts";

const KEYS: ReadonlySet<string> = new Set(["id", "inputs"]);

/** A file's rows, or standard input's for `-`. */
export async function jsonInput(file: string, model: PredictModel): Promise<RowSource> {
  if (file === "-") return new JsonLines("standard input", process.stdin, null, model);
  // Opened here, so that a missing file is an error before anything is written.
  const fd = await promisify(open)(file, "r");
  const stats = await promisify(fstat)(fd);
  if (stats.isDirectory()) {
    closeSync(fd);
    throw invalidArgument(`--input ${file} is a folder; expected a file of JSON lines`);
  }
  // A file's stream could not be ended while it waits for whoever writes to a pipe.
  const stream = stats.isFIFO()
    ? new Socket({ fd, readable: true, writable: false })
    : createReadStream(file, { fd, highWaterMark: READ_BYTES });
  return new JsonLines(file, stream, stats.isFile() ? stats.size : null, model);
}

class JsonLines implements RowSource {
  readonly total = null;
  readonly #name: string;
  readonly #stream: Readable;
  readonly #size: number | null;
  readonly #model: PredictModel;
  #bytesRead = 0;

  constructor(name: string, stream: Readable, size: number | null, model: PredictModel) {
    this.#name = name;
    this.#stream = stream;
    this.#size = size;
    this.#model = model;
  }

  get readShare(): number | null {
    return this.#size === null || this.#size === 0 ? null : Math.min(1, this.#bytesRead / this.#size);
  }

  async *read(before: Earlier, signal: AbortSignal): AsyncGenerator<readonly Row[]> {
    addAbortSignal(signal, this.#stream);
    let row = 0;
    for await (const lines of linesOf(this.#stream)) {
      this.#bytesRead = lines.at(-1)!.end;
      const rows: Row[] = [];
      for (const line of lines) {
        if (isBlank(line)) continue;
        if (row >= before.rows) rows.push(rowOf(line, row, this.#model));
        else if (row === before.rows - 1) this.#checkLast(line, row, before);
        row++;
      }
      if (rows.length > 0) yield rows;
    }
    if (row < before.rows) {
      throw invalidArgument(
        `${this.#name} has ${row} rows, but the output ${before.rows} already: that is another input's output`,
      );
    }
  }

  async close(): Promise<void> {
    this.#stream.destroy();
  }

  #checkLast(line: Line, row: number, { lastId }: Earlier): void {
    const { id } = rowOf(line, row, this.#model);
    if (lastId === undefined || id === lastId) return;
    throw invalidArgument(
      `row ${row} of ${this.#name} has the id ${JSON.stringify(id)}, but ${JSON.stringify(lastId)} in the output: that is another input's output`,
    );
  }
}

function rowOf(line: Line, row: number, model: PredictModel): Row {
  let id: RowId | undefined;
  try {
    const value = jsonOf(line);
    if (!isObject(value)) throw invalidArgument(`it is no object; expected ${formText(model)}`);
    id = idOf(value.id);
    return { row, id, inputs: tensorsOf(inputsOf(value, model), model) };
  } catch (error) {
    // A line may ask for more than there is memory for, among other things; it fails alone all the same.
    const code = error instanceof SlacklineError ? error.code : "INVALID_ARGUMENT";
    return { row, id, error: { code, reason: "input", message: `line ${line.number}: ${(error as Error).message}` } };
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function formText(model: PredictModel): string {
  return `{"id": …, "inputs": {…}} with the inputs ${inputsText(model)}`;
}

function idOf(id: unknown): RowId | undefined {
  if (id === undefined || typeof id === "string") return id;
  if (typeof id !== "number") throw invalidArgument(`"id" is ${shown(id)}; expected a string or a number`);
  // A larger number was rounded when its line was parsed.
  if (Math.abs(id) > Number.MAX_SAFE_INTEGER) {
    throw invalidArgument(`"id" is a number beyond ±${Number.MAX_SAFE_INTEGER}; write it as a string`);
  }
  return id;
}

function inputsOf(value: Readonly<Record<string, unknown>>, model: PredictModel): object {
  const unknown = Object.keys(value).find((key) => !KEYS.has(key));
  if (unknown !== undefined) {
    throw invalidArgument(`it has an unknown member "${shortened(unknown)}"; expected ${formText(model)}`);
  }
  const { inputs } = value;
  if (!isObject(inputs)) throw invalidArgument(`it has no object "inputs"; expected ${formText(model)}`);
  return inputs;
}

function tensorsOf(inputs: object, model: PredictModel): ReadonlyMap<string, Tensor> {
  const values = new Map<string, unknown>(Object.entries(inputs));
  const tensors = new Map<string, Tensor>();
  for (const declared of model.inputs) {
    const { name } = declared;
    if (!values.has(name)) {
      throw invalidArgument(`input '${name}' is missing; model '${model.name}' takes ${inputsText(model)}`);
    }
    tensors.set(name, tensorFromJson(values.get(name), declared));
    values.delete(name);
  }
  for (const name of values.keys()) {
    throw invalidArgument(`there is no input '${shortened(name)}'; model '${model.name}' takes ${inputsText(model)}`);
  }
  return tensors;
}
