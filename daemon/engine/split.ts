import type { Padding } from "./sequence.ts";
import type { Tensor, TensorData } from "./tensors.ts";

/**
 * One request's share of a batch's outputs, as views.
 *
 * @param outputs the batch's outputs; those whose first dimension is `bucket` are cut, others are given whole
 * @param wanted names and order of the outputs asked for; null for all
 * @returns the name of a wanted output that the batch lacks, where there is one
 */
export function splitOutputs(
  outputs: readonly Tensor[],
  wanted: readonly string[] | null,
  bucket: number,
  offset: number,
  items: number,
): readonly Tensor[] | string {
  const chosen = wanted === null ? outputs : choose(outputs, wanted);
  if (items === bucket || typeof chosen === "string") return chosen;
  return chosen.map((output) => rows(output, bucket, offset, items));
}

function choose(outputs: readonly Tensor[], wanted: readonly string[]): Tensor[] | string {
  const chosen: Tensor[] = [];
  for (const name of wanted) {
    const output = outputs.find((tensor) => tensor.name === name);
    if (output === undefined) return name;
    chosen.push(output);
  }
  return chosen;
}

function rows(output: Tensor, bucket: number, offset: number, items: number): Tensor {
  const { name, datatype, shape, data } = output;
  const [first, ...rest] = shape;
  if (first !== bucket) return output;
  return { name, datatype, shape: [items, ...rest], data: range(data, bucket, offset, items) };
}

function range(data: TensorData, bucket: number, offset: number, items: number): TensorData {
  const perItem = data.length / bucket;
  const from = offset * perItem;
  const to = from + items * perItem;
  return data instanceof Uint8Array ? data.subarray(from, to) : data.slice(from, to);
}

/** A padded request's output without its padding: a view where its own part is in one piece, else a copy. */
export function cutBack(output: Tensor, { length, paddedLength, outputAxes }: Padding): Tensor {
  const { name, datatype } = output;
  const shape = [...output.shape];
  let { data } = output;
  for (const axis of outputAxes[name] ?? []) {
    const blocks = shape.slice(0, axis).reduce((count, size) => count * size, 1);
    data = heads(data, blocks, length / paddedLength);
    shape[axis] = length;
  }
  return { name, datatype, shape, data };
}

/** The first part of each of `blocks` equal pieces. */
function heads(data: TensorData, blocks: number, share: number): TensorData {
  const block = blocks === 0 ? 0 : data.length / blocks;
  const kept = Math.round(block * share);
  if (blocks <= 1) return data instanceof Uint8Array ? data.subarray(0, kept) : data.slice(0, kept);
  if (!(data instanceof Uint8Array)) return data.filter((_, index) => index % block < kept);
  const cut = new Uint8Array(blocks * kept);
  for (let index = 0; index < blocks; index++) {
    cut.set(data.subarray(index * block, index * block + kept), index * kept);
  }
  return cut;
}
