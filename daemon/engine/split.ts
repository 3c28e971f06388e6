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
  const [first, ...rest] = output.shape;
  if (first !== bucket) return output;
  return { ...output, shape: [items, ...rest], data: range(output.data, bucket, offset, items) };
}

function range(data: TensorData, bucket: number, offset: number, items: number): TensorData {
  const perItem = data.length / bucket;
  const from = offset * perItem;
  const to = from + items * perItem;
  return data instanceof Uint8Array ? data.subarray(from, to) : data.slice(from, to);
}
