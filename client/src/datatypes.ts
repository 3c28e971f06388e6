/** The protocol's element types and the typed arrays that hold them in JavaScript. */

/** What the elements of a tensor of each datatype are kept in. FP16 and BF16 are bit patterns; BOOL is one byte, 0 or 1. */
export interface TensorDataByDatatype {
  BOOL: Uint8Array;
  UINT8: Uint8Array;
  UINT16: Uint16Array;
  UINT32: Uint32Array;
  UINT64: BigUint64Array;
  INT8: Int8Array;
  INT16: Int16Array;
  INT32: Int32Array;
  INT64: BigInt64Array;
  FP16: Uint16Array;
  BF16: Uint16Array;
  FP32: Float32Array;
  FP64: Float64Array;
  BYTES: readonly Uint8Array[];
}

export type Datatype = keyof TensorDataByDatatype;

/** Datatypes whose elements all have one size. */
export type NumericDatatype = Exclude<Datatype, "BYTES">;

type TypedArray = TensorDataByDatatype[NumericDatatype];

interface TypedArrayConstructor {
  readonly name: string;
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): TypedArray;
}

/** Array class by datatype. */
export const ARRAY_CLASSES: Readonly<Record<NumericDatatype, TypedArrayConstructor>> = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  BF16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

/** Whether a name from the wire is a datatype known here. */
export function isDatatype(name: string): name is Datatype {
  return name === "BYTES" || Object.hasOwn(ARRAY_CLASSES, name);
}

/** Elements in a tensor of this shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const dim of shape) count *= dim;
  return count;
}
