/** Rows from .npy files, one for each input of the model: a row is an entry along the first axis. */
import { type FileHandle, open, stat } from "node:fs/promises";
import { ARRAY_CLASSES, elementCount, type NumericDatatype } from "../datatypes.ts";
import { invalidArgument } from "../errors.ts";
import type { TensorMetadata } from "../server-info.ts";
import type { Tensor } from "../tensor.ts";
import { inputsText, type PredictModel } from "./model.ts";
import { descrOf, fits, type NpyHeader, readNpyHeader } from "./npy.ts";
import { type Earlier, READ_BYTES, type ReadRow, type RowSource } from "./rows.ts";

type NumericArrayClass = (typeof ARRAY_CLASSES)[NumericDatatype];

/** Opens the files, by input name, and checks what they hold; throws INVALID_ARGUMENT. */
export async function npyInput(files: ReadonlyMap<string, string>, model: PredictModel): Promise<RowSource> {
  for (const name of files.keys()) {
    if (model.inputs.some((input) => input.name === name)) continue;
    throw invalidArgument(`there is no input '${name}'; model '${model.name}' takes ${inputsText(model)}`);
  }
  const arrays: NpyArray[] = [];
  try {
    for (const input of model.inputs) {
      const file = files.get(input.name);
      if (file === undefined) {
        throw invalidArgument(
          `input '${input.name}' is missing (--input ${input.name}=FILE.npy); model '${model.name}' takes ${inputsText(model)}`,
        );
      }
      arrays.push(await NpyArray.open(file, input));
    }
    const [first] = arrays;
    if (first === undefined) throw invalidArgument(`model '${model.name}' has no inputs`);
    const other = arrays.find(({ rows }) => rows !== first.rows);
    if (other !== undefined) {
      throw invalidArgument(`${other.file} has ${other.rows} rows, but ${first.file} ${first.rows}; expected as many`);
    }
    return new NpyRows(arrays, first.rows);
  } catch (error) {
    for (const array of arrays) await array.close();
    throw error;
  }
}

class NpyRows implements RowSource {
  readonly total: number;
  readonly #arrays: readonly NpyArray[];
  #row = 0;

  constructor(arrays: readonly NpyArray[], total: number) {
    this.#arrays = arrays;
    this.total = total;
  }

  get readShare(): number | null {
    return this.total === 0 ? null : this.#row / this.total;
  }

  async *read(before: Earlier, signal: AbortSignal): AsyncGenerator<readonly ReadRow[]> {
    const rowBytes = this.#arrays.reduce((sum, array) => sum + array.rowBytes, 0);
    const rowsAtOnce = Math.max(1, Math.floor(READ_BYTES / Math.max(1, rowBytes)));
    if (before.rows > this.total) {
      const [first] = this.#arrays;
      throw invalidArgument(
        `${first!.file} has ${this.total} rows, but the output ${before.rows} already: that is another input's output`,
      );
    }
    for (this.#row = before.rows; this.#row < this.total && !signal.aborted; ) {
      const begin = this.#row;
      const count = Math.min(rowsAtOnce, this.total - begin);
      const columns = await Promise.all(this.#arrays.map((array) => array.read(begin, count)));
      this.#row += count;
      yield Array.from({ length: count }, (_, i) => ({
        row: begin + i,
        inputs: new Map(this.#arrays.map(({ name }, input) => [name, columns[input]![i]!])),
      }));
    }
  }

  async close(): Promise<void> {
    for (const array of this.#arrays) await array.close();
  }
}

class NpyArray {
  readonly file: string;
  readonly name: string;
  readonly rows: number;
  readonly rowBytes: number;
  readonly #handle: FileHandle;
  readonly #input: TensorMetadata;
  readonly #header: NpyHeader;
  readonly #ArrayClass: NumericArrayClass;

  private constructor(file: string, handle: FileHandle, input: TensorMetadata, header: NpyHeader) {
    const [rows, ...itemShape] = header.shape;
    if (rows === undefined || !fits(itemShape, input.shape)) {
      const wanted = ["rows", ...input.shape].join(", ");
      throw invalidArgument(
        `${file} has the shape (${header.shape.join(", ")}); input '${input.name}' takes (${wanted})${input.shape.includes(-1) ? ", -1 for any" : ""}`,
      );
    }
    this.file = file;
    this.name = input.name;
    this.rows = rows;
    this.#handle = handle;
    this.#input = { ...input, shape: itemShape };
    this.#header = header;
    this.#ArrayClass = arrayClassOf(file, header.descr, input);
    this.rowBytes = elementCount(itemShape) * this.#ArrayClass.BYTES_PER_ELEMENT;
  }

  static async open(file: string, input: TensorMetadata): Promise<NpyArray> {
    // Opening a pipe would wait for one who writes.
    if (!(await stat(file)).isFile()) throw invalidArgument(`${file} is no regular file; expected a .npy file`);
    const handle = await open(file, "r");
    try {
      const array = new NpyArray(file, handle, input, await readNpyHeader(handle, file));
      const { size } = await handle.stat();
      const needed = array.#header.dataOffset + array.rows * array.rowBytes;
      if (size < needed)
        throw invalidArgument(`${file} is cut off: it has ${size} bytes of the ${needed} its header tells`);
      return array;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Tensors of so many rows, views on one buffer. */
  async read(begin: number, count: number): Promise<Tensor[]> {
    const { rowBytes } = this;
    const bytes = Buffer.from(new ArrayBuffer(count * rowBytes));
    const position = this.#header.dataOffset + begin * rowBytes;
    for (let got = 0; got < bytes.length; ) {
      const { bytesRead } = await this.#handle.read(bytes, got, bytes.length - got, position + got);
      if (bytesRead === 0) throw invalidArgument(`${this.file} became shorter while it was read`);
      got += bytesRead;
    }
    const { datatype, shape } = this.#input;
    const elements = elementCount(shape);
    return Array.from({ length: count }, (_, i) => {
      const data = new this.#ArrayClass(bytes.buffer, bytes.byteOffset + i * rowBytes, elements);
      return { datatype, shape, data } as unknown as Tensor;
    });
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

function arrayClassOf(file: string, descr: string, { name, datatype }: TensorMetadata): NumericArrayClass {
  const expected = descrOf(datatype);
  if (datatype === "BYTES" || expected === null) {
    throw invalidArgument(`input '${name}' is ${datatype}, which .npy files can't hold: use JSON lines`);
  }
  if (descr !== expected) {
    throw invalidArgument(
      `${file} has elements of type '${descr}'; input '${name}' (${datatype}) takes '${expected}': save a.astype('${expected}')`,
    );
  }
  return ARRAY_CLASSES[datatype];
}
