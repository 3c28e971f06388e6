/** Tensors as callers hold them, and the functions that make them. */
import { endianness } from "node:os";
import {
  ARRAY_CLASSES,
  type Datatype,
  elementCount,
  type NumericDatatype,
  type TensorDataByDatatype,
} from "./datatypes.ts";
import { invalidArgument } from "./errors.ts";

/** A tensor: row-major elements of one datatype. Made by the functions of `tensor`, or found in a result. */
export type Tensor<D extends Datatype = Datatype> = D extends Datatype
  ? { readonly datatype: D; readonly shape: readonly number[]; readonly data: TensorDataByDatatype[D] }
  : never;

if (endianness() !== "LE") throw new Error("slackline-client needs a little-endian host: tensors travel little-endian");

function checkShape(datatype: Datatype, shape: readonly number[]): void {
  if (!Array.isArray(shape)) throw invalidArgument(`${datatype} tensor: shape must be an array of numbers`);
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw invalidArgument(
        `${datatype} tensor: shape [${shape}] holds ${dim}; each dimension must be a whole number >= 0`,
      );
    }
  }
}

/** Throws INVALID_ARGUMENT where shape and data don't fit each other or the datatype. */
export function checkTensor(tensor: Tensor, name?: string): void {
  if (typeof tensor !== "object" || tensor === null) {
    throw invalidArgument(`input '${name}' must be a tensor, such as tensor.float32 makes, got ${typeof tensor}`);
  }
  const { datatype, shape, data } = tensor;
  const what = name === undefined ? `${datatype} tensor` : `input '${name}' (${datatype})`;
  const expectedClass = datatype === "BYTES" ? undefined : ARRAY_CLASSES[datatype];
  if (datatype === "BYTES") {
    if (!Array.isArray(data)) throw invalidArgument(`${what}: data must be an array of Uint8Array`);
    const wrong = data.findIndex((element) => !(element instanceof Uint8Array));
    if (wrong >= 0) {
      throw invalidArgument(
        `${what}: data[${wrong}] must be a Uint8Array, got ${typeof data[wrong]} (tensor.strings takes strings)`,
      );
    }
  } else if (expectedClass === undefined) {
    throw invalidArgument(`${what}: unknown datatype; known are ${Object.keys(ARRAY_CLASSES).join(", ")} and BYTES`);
  } else if (!(data instanceof (expectedClass as unknown as new () => object))) {
    const got = (data as { constructor?: { name?: string } } | undefined)?.constructor?.name ?? typeof data;
    throw invalidArgument(`${what}: data must be a ${expectedClass.name}, got ${got}`);
  }
  checkShape(datatype, shape);
  const expected = elementCount(shape);
  if (data.length !== expected) {
    const bytes = (count: number): string =>
      expectedClass === undefined ? "" : ` (${count * expectedClass.BYTES_PER_ELEMENT} bytes)`;
    throw invalidArgument(
      `${what}: shape [${shape}] needs ${expected} elements${bytes(expected)}, data has ${data.length}${bytes(data.length)}`,
    );
  }
}

function make<D extends Datatype>(datatype: D, shape: readonly number[], data: TensorDataByDatatype[D]): Tensor<D> {
  const made = { datatype, shape, data } as unknown as Tensor<D>;
  checkTensor(made as Tensor);
  return made;
}

/** A maker of tensors of one numeric datatype; the array is kept, not copied: leave it alone until the answer is there. */
type Maker<D extends NumericDatatype> = (shape: readonly number[], data: TensorDataByDatatype[D]) => Tensor<D>;

const maker =
  <D extends NumericDatatype>(datatype: D): Maker<D> =>
  (shape, data) =>
    make(datatype, shape, data);

const utf8 = new TextEncoder();

function bool(shape: readonly number[], data: Uint8Array | readonly boolean[]): Tensor<"BOOL"> {
  return make("BOOL", shape, data instanceof Uint8Array ? data : Uint8Array.from(data, Number));
}

function strings(shape: readonly number[], data: readonly string[]): Tensor<"BYTES"> {
  return make(
    "BYTES",
    shape,
    data.map((element) => utf8.encode(element)),
  );
}

function bytes(shape: readonly number[], data: readonly Uint8Array[]): Tensor<"BYTES"> {
  return make("BYTES", shape, data);
}

/** One function per datatype: shape first, then elements, row-major. Each throws INVALID_ARGUMENT where they don't fit. */
export const tensor: {
  /** One byte an element, 0 or 1; or booleans. */
  readonly bool: typeof bool;
  readonly uint8: Maker<"UINT8">;
  readonly uint16: Maker<"UINT16">;
  readonly uint32: Maker<"UINT32">;
  readonly uint64: Maker<"UINT64">;
  readonly int8: Maker<"INT8">;
  readonly int16: Maker<"INT16">;
  readonly int32: Maker<"INT32">;
  readonly int64: Maker<"INT64">;
  /** IEEE half-precision bit patterns. */
  readonly float16: Maker<"FP16">;
  /** bfloat16 bit patterns. */
  readonly bfloat16: Maker<"BF16">;
  readonly float32: Maker<"FP32">;
  readonly float64: Maker<"FP64">;
  /** A BYTES tensor of strings, sent as UTF-8. */
  readonly strings: typeof strings;
  /** A BYTES tensor of byte strings. */
  readonly bytes: typeof bytes;
} = {
  bool,
  uint8: maker("UINT8"),
  uint16: maker("UINT16"),
  uint32: maker("UINT32"),
  uint64: maker("UINT64"),
  int8: maker("INT8"),
  int16: maker("INT16"),
  int32: maker("INT32"),
  int64: maker("INT64"),
  float16: maker("FP16"),
  bfloat16: maker("BF16"),
  float32: maker("FP32"),
  float64: maker("FP64"),
  strings,
  bytes,
};

const utf8Decoder = new TextDecoder();

/** The elements of a BYTES tensor as strings, read as UTF-8. */
export function toStrings(of: Tensor<"BYTES">): string[] {
  return of.data.map((element) => utf8Decoder.decode(element));
}
