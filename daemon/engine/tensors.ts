/** Tensors as they travel inside the daemon: metadata plus bytes in wire order (row-major, little-endian). */

export type Datatype =
  | "BOOL"
  | "UINT8"
  | "UINT16"
  | "UINT32"
  | "UINT64"
  | "INT8"
  | "INT16"
  | "INT32"
  | "INT64"
  | "FP16"
  | "FP32"
  | "FP64"
  | "BYTES";

/** Bytes per element; null for BYTES, whose elements vary. */
export const ELEMENT_BYTES: Readonly<Record<Datatype, number | null>> = {
  BOOL: 1,
  UINT8: 1,
  UINT16: 2,
  UINT32: 4,
  UINT64: 8,
  INT8: 1,
  INT16: 2,
  INT32: 4,
  INT64: 8,
  FP16: 2,
  FP32: 4,
  FP64: 8,
  BYTES: null,
};

/** A model's declared input or output. */
export interface TensorSpec {
  readonly name: string;
  readonly datatype: Datatype;
  /** −1 where a dimension varies; the batch dimension comes first where the model is batched. */
  readonly shape: readonly number[];
}

/** Elements of a string tensor, row-major, each the bytes of one string. */
export type StringElements = readonly Uint8Array[];

/** A tensor's contents: raw bytes, or the elements of a BYTES tensor. */
export type TensorData = Uint8Array | StringElements;

/** Raw bytes that stay outside the daemon until a batch is gathered. */
export interface OutsideBytes {
  readonly byteLength: number;
  /** Copies all of them into `target`, which has as many bytes; once for each time that a batch is gathered. Throws where they can't be had. */
  copyTo(target: Uint8Array): void;
}

/** A concrete tensor of a request. */
export interface InputTensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly data: TensorData | OutsideBytes;
}

/** A concrete tensor whose contents the daemon has: every tensor of an answer. */
export interface Tensor extends InputTensor {
  readonly data: TensorData;
}

/** Elements of a BYTES tensor as they travel: each its length (4 bytes, little-endian) and its bytes. */
export function joinStrings(elements: StringElements): Buffer {
  let total = 0;
  for (const element of elements) total += 4 + element.byteLength;
  const bytes = Buffer.allocUnsafe(total);
  let offset = 0;
  for (const element of elements) {
    offset = bytes.writeUInt32LE(element.byteLength, offset);
    bytes.set(element, offset);
    offset += element.byteLength;
  }
  return bytes;
}
