/**
 * Tries whether the items of a batch are answered as they are alone. A first dimension that varies need not be a batch's: it may be a sequence's, or
 * that of a set whose members are compared, and sharing a batch would mix the answers of different callers.
 */
import { splitOutputs } from "../engine/split.ts";
import type { Tensor } from "../engine/tensors.ts";
import { gatherRows } from "./gather.ts";
import { batchLayout, product } from "./layout.ts";
import { largestDifference } from "./output-difference.ts";
import type { TrialBatch, TriedModel } from "./padding-trial.ts";
import { type Fill, fillSynthetic, fillVaried, madeUpFirst, syntheticData } from "./synthetic-inputs.ts";

/**
 * Largest difference, as a share of the output's largest value. Models that are quantized as they run differ by a percent or two with what is
 * beside them; answers that are mixed differ by more.
 */
const TOLERANCE = 0.05;

/**
 * Names of the outputs in which an item's answer is another beside other items than alone; empty where that can't be found out: batches of two
 * are not to be had, made-up inputs fail, or the model's answers are random.
 *
 * @param buckets ascending
 */
export async function mixedOutputs(
  model: TriedModel,
  shape: string,
  buckets: readonly number[],
  run: TrialBatch,
): Promise<string[]> {
  const pair = buckets.find((bucket) => bucket > 1);
  const single = buckets[0];
  if (pair === undefined || single === undefined) return [];
  // What is alike in all rows, as named values and ones for whole numbers are, hides what they do to each other; but is known to be valid.
  const attempts: readonly (readonly [TriedModel, Fill])[] = [
    ...madeUpFirst(model).map((tried) => [tried, fillVaried] as const),
    [model, fillSynthetic],
  ];
  for (const [tried, fill] of attempts) {
    const batch: Batch = (bucket, items) => runItems({ model: tried, shape, bucket, items, fill, run });
    try {
      return await mixedBetween(single, pair, batch);
    } catch {}
  }
  return [];
}

/** Executes a batch of this size that holds these items first; resolves to its outputs. */
type Batch = (bucket: number, items: readonly number[]) => Promise<Tensor[]>;

/** Names of the outputs in which two items are answered otherwise in a batch of size `pair` than each alone in one of size `single`. */
async function mixedBetween(single: number, pair: number, batch: Batch): Promise<string[]> {
  const together = await batch(pair, [0, 1]);
  const mixed = new Set<number>();
  for (const item of [0, 1]) {
    const alone = await batch(single, [item]);
    const suspects = [...together.keys()].filter((at) =>
      differ(row(alone, at, single, 0), row(together, at, pair, item)),
    );
    if (suspects.length === 0) continue;
    // Answers that are random differ from themselves.
    const again = await batch(single, [item]);
    for (const at of suspects) if (!differ(row(again, at, single, 0), row(alone, at, single, 0))) mixed.add(at);
  }
  return together.filter((_, at) => mixed.has(at)).map(({ name }) => name);
}

interface TrialItems {
  readonly model: TriedModel;
  readonly shape: string;
  readonly bucket: number;
  readonly items: readonly number[];
  readonly fill: Fill;
  readonly run: TrialBatch;
}

async function runItems({ model, shape, bucket, items, fill, run }: TrialItems): Promise<Tensor[]> {
  const layout = batchLayout(model, shape);
  const requests = items.map((item, id) => ({ id, items: 1, inputs: itemOf(model, layout.inputs, item, fill) }));
  return await run(shape, bucket, (slot) => gatherRows(slot, layout, requests, bucket, 0, new Map()));
}

function itemOf(
  model: TriedModel,
  places: readonly { readonly shape: readonly number[] }[],
  item: number,
  fill: Fill,
): Tensor[] {
  return model.inputs.map(({ name, datatype }, input): Tensor => {
    const shape = places[input]!.shape.map((size, axis) => (axis === 0 ? 1 : size));
    const data = syntheticData(datatype, product(shape), model.warmValues[input]!, fill, 1 + item + 2 * input);
    return { name, datatype, shape, data };
  });
}

function row(outputs: readonly Tensor[], at: number, bucket: number, item: number): Tensor {
  return (splitOutputs([outputs[at]!], null, bucket, item, 1) as readonly Tensor[])[0]!;
}

function differ(one: Tensor, other: Tensor): boolean {
  if (String(one.shape) !== String(other.shape)) return true;
  return largestDifference(one, other) > TOLERANCE;
}
