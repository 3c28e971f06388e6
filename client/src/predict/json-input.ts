/** Rows from JSON lines: `{"id": …, "inputs": {"NAME": nested arrays, …}}`, blank lines aside. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { addAbortSignal, type Readable } from "node:stream";
import { invalidArgument, SlacklineError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { tensorFromJson } from "./json-tensor.ts";
import { isBlank, jsonOf, type Line, linesOf } from "./lines.ts";
import { inputsText, type PredictModel } from "./model.ts";
import type { Earlier, Row, RowId, RowSource } from "./rows.ts";

const READ_BYTES = 2 ** 20;
const KEYS: ReadonlySet<string> = new Set(["id", "inputs"]);

/** A file's rows, or standard input's for `-`. */
export async function jsonInput(file: string, model: PredictModel): Promise<RowSource> {
  if (file === "-") return new JsonLines("standard input", process.stdin, null, model);
  // Opened here, so that a missing file is an error before anything is written.
  const handle = await open(file, "r");
  const { size } = await handle.stat();
  const stream = createReadStream(file, { fd: handle, highWaterMark: READ_BYTES });
  return new JsonLines(file, stream, size, model);
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
    const { id: found, inputs } = members(value, model);
    if (typeof found === "string" || typeof found === "number") id = found;
    else if (found !== undefined)
      throw invalidArgument(`"id" is ${JSON.stringify(found)}; expected a string or a number`);
    return { row, id, inputs: tensorsOf(inputs, model) };
  } catch (error) {
    if (!(error instanceof SlacklineError)) throw error;
    return { row, id, error: { code: error.code, reason: "input", message: `line ${line.number}: ${error.message}` } };
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function members(value: unknown, model: PredictModel): { readonly id?: unknown; readonly inputs: object } {
  const form = `{"id": …, "inputs": {…}} with the inputs ${inputsText(model)}`;
  if (!isObject(value)) throw invalidArgument(`it is no object; expected ${form}`);
  const unknown = Object.keys(value).find((key) => !KEYS.has(key));
  if (unknown !== undefined) throw invalidArgument(`it has an unknown member "${unknown}"; expected ${form}`);
  const { id, inputs } = value;
  if (!isObject(inputs)) throw invalidArgument(`it has no object "inputs"; expected ${form}`);
  return { id, inputs };
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
    throw invalidArgument(`there is no input '${name}'; model '${model.name}' takes ${inputsText(model)}`);
  }
  return tensors;
}
