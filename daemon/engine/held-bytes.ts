import type { InputTensor } from "./tensors.ts";

/**
 * Bytes that the daemon holds for these tensors, counted as on the wire (a string element carries a 4-byte length). Those that
 * stay outside until a batch is gathered take no memory, however long the request waits.
 */
export function heldBytes(tensors: readonly InputTensor[]): number {
  let bytes = 0;
  for (const { data } of tensors) {
    if (data instanceof Uint8Array) bytes += data.byteLength;
    else if (!("copyTo" in data)) for (const element of data) bytes += element.byteLength + 4;
  }
  return bytes;
}
