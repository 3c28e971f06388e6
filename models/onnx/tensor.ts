import type { Datatype } from "../../daemon/engine/tensors.ts";

/** A constant of a graph. */
export interface Constant {
  readonly datatype: Datatype;
  readonly dims: readonly number[];
  /** Row-major, little-endian; null where the contents lie in an external file. */
  readonly data: Uint8Array | null;
  /** Elements of a BYTES constant, instead of `data`. */
  readonly strings?: readonly string[];
  readonly external?: ExternalRange;
}

/** Where external contents lie: a file beside the model. */
export interface ExternalRange {
  readonly location: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** A float32 constant of the given shape. */
export function floats(dims: readonly number[], values: ArrayLike<number>): Constant {
  return { datatype: "FP32", dims, data: bytesOf(values instanceof Float32Array ? values : Float32Array.from(values)) };
}

/** A one-dimensional int64 constant, as shapes and axes are given. */
export function integers(values: readonly number[]): Constant {
  return { datatype: "INT64", dims: [values.length], data: bytesOf(BigInt64Array.from(values, BigInt)) };
}

/** A float32 constant without dimensions. */
export function scalar(value: number): Constant {
  return { datatype: "FP32", dims: [], data: bytesOf(Float32Array.of(value)) };
}
