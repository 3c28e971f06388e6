/**
 * Tries whether the items of a batch are answered as they are alone. A first dimension that varies need not be a batch's: it may be a sequence's, or
 * that of a set whose members are compared, and sharing a batch would mix the answers of different callers.
 */
import { splitOutputs } from "../engine/split.ts";
import type { Tensor } from "../engine/tensors.ts";
import { gatherRows } from "./gather.ts";
import { batchLayout, product } from "./layout.ts";
import type { LoadRequest } from "./messages.ts";
import { largestDifference } from "./output-difference.ts";
import type { TrialBatch } from "./padding-trial.ts";
import { type Fill, fillSynthetic, fillVaried, syntheticData, withoutWarmValues } from "./synthetic-inputs.ts";

type TriedModel = Pick<LoadRequest, "inputs" | "batched" | "maxBatchSize" | "sequence" | "warmValues">;

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
    [withoutWarmValues(model), fillVaried],
    [model, fillVaried],
    [model, fillSynthetic],
  ];
  for (const [tried, fill] of attempts) {
    const batch = (bucket: number, items: readonly number[]) =>
      runItems({ model: tried, shape, bucket, items, fill, run });
    try {
      const together = await batch(pair, [0, 1]);
      const apart = together.map(() => false);
      for (const item of [0, 1]) {
        const alone = await batch(single, [item]);
        const differing = together.map((_, at) => differ(row(alone, at, single, 0), row(together, at, pair, item)));
        if (!differing.includes(true)) continue;
        // Answers that are random differ from themselves.
        const again = await batch(single, [item]);
        for (const [at, differs] of differing.entries()) {
          if (differs && !differ(row(again, at, single, 0), row(alone, at, single, 0))) apart[at] = true;
        }
      }
      return together.filter((_, at) => apart[at]).map(({ name }) => name);
    } catch {}
  }
  return [];
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
