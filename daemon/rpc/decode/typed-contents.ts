/** Tensors sent as repeated fields: brought into wire order, since that is how tensors travel inside. */
import type { Datatype, TensorData, TensorSpec } from "../../engine/tensors.ts";
import { ELEMENT_BYTES } from "../../engine/tensors.ts";
import type { ReadContents, WireLong } from "../messages.ts";
import { mustBeRaw, valueOutOfRange, wrongByteCount, wrongContentsField, wrongStringCount } from "./refusals.ts";

type ContentsField = keyof ReadContents;

/** The field in which each datatype travels; null: only raw. */
const FIELD_OF: Readonly<Record<Datatype, ContentsField | null>> = {
  BOOL: "bool_contents",
  UINT8: "uint_contents",
  UINT16: "uint_contents",
  UINT32: "uint_contents",
  UINT64: "uint64_contents",
  INT8: "int_contents",
  INT16: "int_contents",
  INT32: "int_contents",
  INT64: "int64_contents",
  FP16: null,
  FP32: "fp32_contents",
  FP64: "fp64_contents",
  BYTES: "bytes_contents",
};

const FIELDS: readonly ContentsField[] = [
  "bool_contents",
  "int_contents",
  "int64_contents",
  "uint_contents",
  "uint64_contents",
  "fp32_contents",
  "fp64_contents",
  "bytes_contents",
];

/** The data of one input from its typed contents (absent: no element). Throws `RpcError` where it doesn't fit. */
export function typedTensorData(
  spec: TensorSpec,
  count: number,
  contents: ReadContents | null,
  model: string,
): TensorData {
  const field = FIELD_OF[spec.datatype];
  const others = contents === null ? [] : FIELDS.filter((name) => name !== field && contents[name].length > 0);
  if (field === null) throw mustBeRaw(spec, model);
  if (others.length > 0) throw wrongContentsField(spec, field, others.join(" and "), model);

  const values = contents?.[field] ?? [];
  const size = ELEMENT_BYTES[spec.datatype];
  if (size === null) {
    if (values.length !== count) throw wrongStringCount(spec.name, count, values.length, model);
    return values as readonly Uint8Array[];
  }
  if (values.length !== count) {
    throw wrongByteCount(spec.name, BigInt(count) * BigInt(size), values.length * size, model);
  }
  return toBytes(spec, values, model);
}

/** Integers narrower than the field that carries them: typed arrays would wrap what doesn't fit. */
const RANGES: Partial<Readonly<Record<Datatype, readonly [number, number]>>> = {
  UINT8: [0, 0xff],
  UINT16: [0, 0xffff],
  INT8: [-0x80, 0x7f],
  INT16: [-0x8000, 0x7fff],
};

function toBytes(spec: TensorSpec, values: ReadContents[ContentsField], model: string): Uint8Array {
  const range = RANGES[spec.datatype];
  if (range !== undefined) {
    for (const value of values as readonly number[]) {
      if (value < range[0] || value > range[1]) throw valueOutOfRange(spec, value, model);
    }
  }
  const array = toTypedArray(spec.datatype, values);
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Typed arrays have the host's byte order, which is the wire's on every platform that Node's runtimes support here. */
function toTypedArray(datatype: Datatype, values: ReadContents[ContentsField]): NodeJS.TypedArray {
  const numbers = values as readonly number[];
  switch (datatype) {
    case "BOOL":
      return Uint8Array.from(values as readonly boolean[], Number);
    case "UINT8":
      return Uint8Array.from(numbers);
    case "UINT16":
      return Uint16Array.from(numbers);
    case "UINT32":
      return Uint32Array.from(numbers);
    case "INT8":
      return Int8Array.from(numbers);
    case "INT16":
      return Int16Array.from(numbers);
    case "INT32":
      return Int32Array.from(numbers);
    case "FP32":
      return Float32Array.from(numbers);
    case "FP64":
      return Float64Array.from(numbers);
    case "INT64":
    case "UINT64": {
      const words = new Int32Array(values.length * 2);
      for (const [index, value] of (values as readonly WireLong[]).entries()) {
        words[2 * index] = value.low;
        words[2 * index + 1] = value.high;
      }
      return words;
    }
    case "FP16":
    case "BYTES":
      throw new Error(`${datatype} has no typed numbers`);
  }
}
