/**
 * Copies the requests of a batch into a slot, input by input and row by row.
 *
 * Padding rows repeat the batch's last row: real values keep the runtime off the slow paths that zeros divided by zeros or
 * denormals take, and rows of a batch do not see each other, so the answers of the others stay the same. A request whose
 * bytes lie outside the daemon and can't be had leaves its rows to another's, for the same reason.
 */
import type { AcceptedRequest } from "../engine/ports.ts";
import type { StringElements } from "../engine/tensors.ts";
import type { RequestId } from "../scheduler/types.ts";
import type { BatchLayout, InputPlace } from "./layout.ts";
import { ownItemBytes, spread } from "./pad.ts";

/** The part of a request that is gathered. */
export type GatheredRequest = Pick<AcceptedRequest, "id" | "items" | "inputs">;

/**
 * Writes the requests from index `from` on (earlier ones stand there already) and the padding up to `bucket` items.
 * Inputs of strings are left out. Throws where a tensor's bytes do not fit its shape.
 *
 * @param unreadable takes the requests that could not be read, beside those of the earlier ones; where it then holds all
 *   requests of the batch, the slot holds none
 */
export function gatherRows(
  target: Uint8Array,
  layout: BatchLayout,
  requests: readonly GatheredRequest[],
  bucket: number,
  from: number,
  unreadable: Map<RequestId, Error>,
): void {
  let firstItem = 0;
  for (let index = 0; index < from; index++) firstItem += requests[index]!.items;
  let items = firstItem;
  for (const [input, place] of layout.inputs.entries()) {
    if (place.itemBytes <= 0) continue;
    items = firstItem;
    for (let index = from; index < requests.length; index++) {
      const request = requests[index]!;
      if (!unreadable.has(request.id)) copyRows(target, place, input, request, items, unreadable);
      items += request.items;
    }
  }
  if (unreadable.size > 0) coverUnreadable(target, layout, requests, unreadable);
  for (const place of layout.inputs) if (place.itemBytes > 0) repeatRow(target, place, items - 1, items, bucket);
}

function copyRows(
  target: Uint8Array,
  place: InputPlace,
  input: number,
  request: GatheredRequest,
  firstItem: number,
  unreadable: Map<RequestId, Error>,
): void {
  const { name, data, shape } = request.inputs[input]!;
  const itemBytes = ownItemBytes(place, shape);
  const expected = request.items * itemBytes;
  if (!("byteLength" in data) || data.byteLength !== expected) {
    const got = "byteLength" in data ? `${data.byteLength} bytes` : "strings";
    throw new RangeError(`input "${name}" holds ${got} where its shape needs ${expected} bytes`);
  }
  const position = place.offset + firstItem * place.itemBytes;
  if (data instanceof Uint8Array) target.set(data, position);
  else {
    try {
      data.copyTo(target.subarray(position, position + expected));
    } catch (error) {
      unreadable.set(request.id, error instanceof Error ? error : new Error(String(error)));
      return;
    }
  }
  if (itemBytes < place.itemBytes) spread(target, position, request.items, place, shape);
}

/** Gives the rows of requests that could not be read the values of one that could. */
function coverUnreadable(
  target: Uint8Array,
  layout: BatchLayout,
  requests: readonly GatheredRequest[],
  unreadable: ReadonlyMap<RequestId, Error>,
): void {
  let donor = 0;
  let readable: GatheredRequest | null = null;
  for (const request of requests) {
    if (!unreadable.has(request.id)) {
      readable = request;
      break;
    }
    donor += request.items;
  }
  if (readable === null) return;
  let item = 0;
  for (const { id, items } of requests) {
    if (unreadable.has(id)) {
      for (const place of layout.inputs) if (place.itemBytes > 0) repeatRow(target, place, donor, item, item + items);
    }
    item += items;
  }
}

/** Copies one row to the rows of the items from `first` to `end`. */
function repeatRow(target: Uint8Array, place: InputPlace, row: number, first: number, end: number): void {
  const { offset, itemBytes } = place;
  const source = offset + row * itemBytes;
  for (let item = first; item < end; item++) target.copyWithin(offset + item * itemBytes, source, source + itemBytes);
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
  while (elements.length < bucket * itemElements) elements.push(elements[elements.length - itemElements]!);
  return elements;
}
