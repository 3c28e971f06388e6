/** Tensors sent as raw bytes: checked, and passed on as views. */
import type { OutsideBytes, StringElements, TensorData, TensorSpec } from "../../engine/tensors.ts";
import { ELEMENT_BYTES } from "../../engine/tensors.ts";
import { badBool, brokenString, wrongByteCount, wrongStringCount } from "./refusals.ts";

/**
 * The data of one input from its raw bytes: row-major, little-endian, no padding. Throws `RpcError` where the bytes don't
 * fit `count` elements.
 */
export function rawTensorData(spec: TensorSpec, count: number, bytes: Uint8Array, model: string): TensorData {
  const size = ELEMENT_BYTES[spec.datatype];
  if (size === null) return splitStrings(spec.name, count, bytes, model);
  if (bytes.byteLength !== count * size) {
    throw wrongByteCount(spec.name, BigInt(count) * BigInt(size), bytes.byteLength, model);
  }
  if (spec.datatype === "BOOL") checkBools(spec.name, bytes, model);
  return bytes;
}

/** A BOOL tensor's bytes outside the daemon, where their owner may change them at any time: checked once they are copied. */
export function checkedBools(input: string, bytes: OutsideBytes, model: string): OutsideBytes {
  return {
    byteLength: bytes.byteLength,
    copyTo(target) {
      bytes.copyTo(target);
      checkBools(input, target, model);
    },
  };
}

/** Kernels read bools as bits of machine code that knows only 0 and 1. */
function checkBools(input: string, bytes: Uint8Array, model: string): void {
  for (let index = 0; index < bytes.length; index++) {
    if (bytes[index]! > 1) throw badBool(input, bytes[index]!, model);
  }
}

const LENGTH_BYTES = 4;

/** Elements of a BYTES tensor: each its length (4 bytes, little-endian) and its bytes. */
function splitStrings(input: string, count: number, bytes: Uint8Array, model: string): StringElements {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const elements: Uint8Array[] = [];
  let offset = 0;
  while (offset < bytes.byteLength) {
    if (elements.length === count) throw wrongStringCount(input, count, countStrings(view, offset, count), model);
    const left = bytes.byteLength - offset - LENGTH_BYTES;
    if (left < 0) throw brokenString(input, elements.length, null, left + LENGTH_BYTES, model);
    const length = view.getUint32(offset, true);
    if (length > left) throw brokenString(input, elements.length, length, left, model);
    offset += LENGTH_BYTES;
    elements.push(bytes.subarray(offset, offset + length));
    offset += length;
  }
  if (elements.length !== count) throw wrongStringCount(input, count, elements.length, model);
  return elements;
}

/** How many elements there are in all, for the message: `count` and what is well-formed from `offset` on. */
function countStrings(view: DataView, from: number, count: number): number {
  let offset = from;
  let total = count;
  while (offset + LENGTH_BYTES <= view.byteLength) {
    offset += LENGTH_BYTES + view.getUint32(offset, true);
    total++;
  }
  return total;
}
