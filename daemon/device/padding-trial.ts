/**
 * Tries whether padding leaves a model's answers as they are: items of made-up values run padded, beside one of another
 * length, and alone in their own shape. They go the way of requests: gathered, split and cut back by the same code.
 */
import { keyOfLength, type Padding, sequenceAxis } from "../engine/sequence.ts";
import { cutBack, splitOutputs } from "../engine/split.ts";
import type { Datatype, Tensor } from "../engine/tensors.ts";
import { gatherRows } from "./gather.ts";
import { batchLayout, product } from "./layout.ts";
import type { LoadRequest, PaddingTrial } from "./messages.ts";
import { largestDifference } from "./output-difference.ts";
import { fillVaried, syntheticData } from "./synthetic-inputs.ts";

/** Executes a batch of this shape key and returns its outputs; `gather` writes the inputs into the memory it is given. */
export type TrialBatch = (shape: string, bucket: number, gather: (slot: Uint8Array) => void) => Promise<Tensor[]>;

/** What trial runs need to know of a model. */
export type TriedModel = Pick<LoadRequest, "inputs" | "batched" | "maxBatchSize" | "sequence" | "warmValues">;

/**
 * Largest difference, as a share of the output's largest value. Kernels differ with the shape in the order of their sums; on
 * a GPU also in whether they round to TF32. Padding that is not masked makes differences of another order.
 */
const TOLERANCE: Partial<Record<Datatype, number>> = { FP16: 1e-2, FP32: 1e-3, FP64: 1e-3 };

/** @param bucket the batch size to try with; rejects where the model fails */
export async function tryPadding(
  model: TriedModel,
  lengths: readonly number[],
  bucket: number,
  run: TrialBatch,
): Promise<PaddingTrial> {
  const ends = new Set([Math.min(...lengths), Math.max(...lengths)]);
  let outputAxes: Record<string, readonly number[]> | null = null;
  for (const paddedLength of ends) {
    const short = Math.max(1, paddedLength >> 2);
    const long = Math.max(1, paddedLength - Math.max(1, paddedLength >> 2));
    for (const [length, other] of [
      [long, short],
      [short, long],
    ] as const) {
      // A length of one is never padded to.
      if (length === paddedLength) continue;
      const own = await batch(model, length, [length], bucket, run);
      const padded = await batch(model, paddedLength, [length, other], bucket, run);
      const found = grownAxes(own, padded, length, paddedLength);
      if ("reason" in found) return { ok: false, reason: found.reason };
      outputAxes ??= found.axes;
      const reason = difference(own, padded, bucket, { length, paddedLength, outputAxes });
      if (reason !== null) return { ok: false, reason };
    }
  }
  return { ok: true, outputAxes: outputAxes ?? {} };
}

/** The outputs of a batch at one length whose items have these lengths of their own; the last fills it up. */
async function batch(
  model: TriedModel,
  length: number,
  items: readonly number[],
  bucket: number,
  run: TrialBatch,
): Promise<Tensor[]> {
  const shape = keyOfLength(model, length);
  const layout = batchLayout(model, shape);
  const requests = items.slice(0, bucket).map((own, id) => ({ id, items: 1, inputs: itemOfLength(model, own) }));
  return await run(shape, bucket, (slot) => gatherRows(slot, layout, requests, bucket, 0, new Map()));
}

/** An item whose values depend on its length, and where that is the same are the same. */
function itemOfLength(model: TriedModel, length: number): Tensor[] {
  return model.inputs.map(({ name, datatype, shape: declared }, input): Tensor => {
    const axis = sequenceAxis(model, input);
    const shape = declared.map((size, at) => (at === axis ? length : at === 0 ? 1 : size));
    const value = name === model.sequence!.mask ? 1 : model.warmValues[input]!;
    const data = syntheticData(datatype, product(shape), value, fillVaried, length + input);
    return { name, datatype, shape, data };
  });
}

/** The dimensions of each output that grew from an item's own length to the padded one; others must have stayed. */
function grownAxes(
  own: readonly Tensor[],
  padded: readonly Tensor[],
  length: number,
  paddedLength: number,
): { readonly axes: Record<string, readonly number[]> } | { readonly reason: string } {
  const axes: Record<string, readonly number[]> = {};
  for (const [index, output] of own.entries()) {
    const grown = padded[index]!.shape;
    const differing = output.shape.flatMap((size, axis) => (axis === 0 || size === grown[axis] ? [] : [axis]));
    const explained = differing.every((axis) => output.shape[axis] === length && grown[axis] === paddedLength);
    if (grown.length !== output.shape.length || !explained) {
      const shapes = `[${output.shape}] at length ${length} and [${grown}] at length ${paddedLength}`;
      return { reason: `output '${output.name}' is ${shapes}: it can't be cut back` };
    }
    if (differing.length > 0) axes[output.name] = differing;
  }
  return { axes };
}

/** How the first item's answers differ; null where they agree. */
function difference(
  own: readonly Tensor[],
  padded: readonly Tensor[],
  bucket: number,
  padding: Padding,
): string | null {
  const { length, paddedLength } = padding;
  const alone = splitOutputs(own, null, bucket, 0, 1) as readonly Tensor[];
  const shared = splitOutputs(padded, null, bucket, 0, 1) as readonly Tensor[];
  for (const [index, output] of alone.entries()) {
    const cut = cutBack(shared[index]!, padding);
    const what = `output '${output.name}' of an item of length ${length}, padded to ${paddedLength},`;
    if (String(cut.shape) !== String(output.shape)) {
      return `${what} is [${cut.shape}] instead of [${output.shape}]`;
    }
    const share = largestDifference(output, cut);
    if (share > (TOLERANCE[output.datatype] ?? 0)) {
      const much = Number.isFinite(share) ? `by ${(100 * share).toPrecision(2)} % of its largest value` : "entirely";
      return `${what} differs ${much}`;
    }
  }
  return null;
}
