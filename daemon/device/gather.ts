/**
 * Copies the requests of a batch into a slot, input by input and row by row.
 *
 * Padding rows repeat the batch's last row: real values keep the runtime off the slow paths that zeros divided by zeros or
 * denormals take, and rows of a batch do not see each other, so the answers of the others stay the same.
 */
import type { AcceptedRequest } from "../engine/ports.ts";
import type { StringElements } from "../engine/tensors.ts";
import type { BatchLayout } from "./layout.ts";
import { ownItemBytes, spread } from "./pad.ts";

/** The part of a request that is gathered. */
export type GatheredRequest = Pick<AcceptedRequest, "items" | "inputs">;

/**
 * Writes the requests from index `from` on (earlier ones stand there already) and the padding up to `bucket` items.
 * Inputs of strings are left out. Throws where a tensor's bytes do not fit its shape.
 */
export function gatherRows(
  target: Uint8Array,
  layout: BatchLayout,
  requests: readonly GatheredRequest[],
  bucket: number,
  from: number = 0,
): void {
  let firstItem = 0;
  for (let index = 0; index < from; index++) firstItem += requests[index]!.items;
  for (const [input, place] of layout.inputs.entries()) {
    if (place.itemBytes <= 0) continue;
    let position = place.offset + firstItem * place.itemBytes;
    for (let index = from; index < requests.length; index++) {
      const request = requests[index]!;
      const tensor = request.inputs[input]!;
      const data = tensor.data as Uint8Array;
      const itemBytes = ownItemBytes(place, tensor.shape);
      const expected = request.items * itemBytes;
      if (data.byteLength !== expected) {
        throw new RangeError(`input "${tensor.name}" holds ${data.byteLength} bytes where its shape needs ${expected}`);
      }
      target.set(data, position);
      if (itemBytes < place.itemBytes) spread(target, position, request.items, place, tensor.shape);
      position += request.items * place.itemBytes;
    }
    const end = place.offset + bucket * place.itemBytes;
    const last = position - place.itemBytes;
    for (; position < end; position += place.itemBytes) target.copyWithin(position, last, last + place.itemBytes);
  }
}

/** The elements of one input of strings for the whole batch, padding included. */
export function gatherStrings(
  layout: BatchLayout,
  input: number,
  requests: readonly AcceptedRequest[],
  bucket: number,
): StringElements {
  const { itemElements } = layout.inputs[input]!;
  const elements: Uint8Array[] = [];
  for (const request of requests) {
    const tensor = request.inputs[input]!;
    const data = tensor.data as StringElements;
    const expected = request.items * itemElements;
    if (data.length !== expected) {
      throw new RangeError(`input "${tensor.name}" holds ${data.length} strings where its shape needs ${expected}`);
    }
    for (const element of data) elements.push(element);
  }
  const lastRow = elements.slice(elements.length - itemElements);
  while (elements.length < bucket * itemElements) elements.push(...lastRow);
  return elements;
}
