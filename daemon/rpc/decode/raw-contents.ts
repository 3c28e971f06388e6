/** Tensors sent as raw bytes: checked, and passed on as views. */
import type { OutsideBytes, StringElements, TensorData, TensorSpec } from "../../engine/tensors.ts";
import { ELEMENT_BYTES } from "../../engine/tensors.ts";
import { badBool, brokenString, wrongByteCount, wrongStringCount } from "./refusals.ts";
import type { RequestMemory } from "./request-memory.ts";
import { checkTexts } from "./texts.ts";

/**
 * The data of one input from its raw bytes: row-major, little-endian, no padding. Throws `RpcError` where the bytes don't
 * fit `count` elements.
 */
export function rawTensorData(
  spec: TensorSpec,
  count: number,
  bytes: Uint8Array,
  memory: RequestMemory,
  model: string,
): TensorData {
  const size = ELEMENT_BYTES[spec.datatype];
  if (size === null) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    checkStrings(spec.name, count, view, model);
    memory.takeStrings(spec.name, count);
    const elements = splitStrings(count, bytes, view);
    checkTexts(spec.name, elements, model);
    return elements;
  }
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

/** A BYTES tensor's elements, each its length (4 bytes, little-endian) and its bytes: as many as expected, and none cut off. */
function checkStrings(input: string, count: number, view: DataView, model: string): void {
  let offset = 0;
  let elements = 0;
  for (; offset < view.byteLength; elements++) {
    if (elements === count) throw wrongStringCount(input, count, countStrings(view, offset, count), model);
    const left = view.byteLength - offset - LENGTH_BYTES;
    if (left < 0) throw brokenString(input, elements, null, left + LENGTH_BYTES, model);
    const length = view.getUint32(offset, true);
    if (length > left) throw brokenString(input, elements, length, left, model);
    offset += LENGTH_BYTES + length;
  }
  if (elements !== count) throw wrongStringCount(input, count, elements, model);
}

function splitStrings(count: number, bytes: Uint8Array, view: DataView): StringElements {
  const elements: Uint8Array[] = new Array(count);
  let offset = 0;
  for (let index = 0; index < count; index++) {
    const start = offset + LENGTH_BYTES;
    offset = start + view.getUint32(offset, true);
    elements[index] = bytes.subarray(start, offset);
  }
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
