/**
 * Where a batch's inputs stand in a slot. Offsets depend on the model and the shape key alone, not on the batch's size, so
 * that a staged batch can grow without moving what was already gathered. Parent and lane compute it alike.
 */
import { elementOf, type PaddableModel, sequenceAxis } from "../engine/sequence.ts";
import { shapesOfKey } from "../engine/shape-key.ts";
import { ELEMENT_BYTES } from "../engine/tensors.ts";

/** Input and output tensors start at multiples of this: a cache line, and what vector instructions like. */
export const ALIGNMENT_BYTES = 64;

export interface InputPlace {
  /** From the start of the slot; 0 and unused for strings, which travel in messages. */
  readonly offset: number;
  /** Bytes of one item; −1 for strings. */
  readonly itemBytes: number;
  /** Elements of one item. */
  readonly itemElements: number;
  /** Concrete shape with one item. */
  readonly shape: readonly number[];
  /** How shorter tensors are brought to this shape; null where they can't be. */
  readonly paddable: Paddable | null;
}

export interface Paddable {
  /** The dimension that may be shorter. */
  readonly axis: number;
  /** Pieces of an item that are padded each by itself: the product of the dimensions between the batch's and this one. */
  readonly blocks: number;
  /** One element of padding. */
  readonly fill: Uint8Array;
}

export interface BatchLayout {
  readonly inputs: readonly InputPlace[];
  /** End of the inputs with the largest batch, aligned: outputs begin here. */
  readonly inputsBytes: number;
}

export interface LaidOutModel extends PaddableModel {
  readonly maxBatchSize: number;
}

export function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

export function product(shape: readonly number[]): number {
  return shape.reduce((result, size) => result * size, 1);
}

/** Throws where the key is none of this model's. */
export function batchLayout(model: LaidOutModel, key: string): BatchLayout {
  const shapes = shapesOfKey(model, key, 1);
  let end = 0;
  const inputs = model.inputs.map((spec, index): InputPlace => {
    const shape = shapes[index]!;
    const itemElements = product(shape);
    const elementBytes = ELEMENT_BYTES[spec.datatype];
    if (elementBytes === null) return { offset: 0, itemBytes: -1, itemElements, shape, paddable: null };
    const itemBytes = itemElements * elementBytes;
    const offset = end;
    end = align(end + itemBytes * (model.batched ? model.maxBatchSize : 1));
    return { offset, itemBytes, itemElements, shape, paddable: paddableInput(model, index, shape) };
  });
  return { inputs, inputsBytes: end };
}

function paddableInput(model: LaidOutModel, input: number, shape: readonly number[]): Paddable | null {
  const axis = model.sequence === null ? null : sequenceAxis(model, input);
  if (axis === null || shape[axis] === 0) return null;
  const { name, datatype } = model.inputs[input]!;
  const fill = elementOf(datatype, model.sequence!.pad[name] ?? 0);
  return fill === null ? null : { axis, blocks: product(shape.slice(1, axis)), fill };
}

/** The concrete shape of an input for a batch of `items`. */
export function withItems(shape: readonly number[], items: number, batched: boolean): number[] {
  return batched ? [items, ...shape.slice(1)] : [...shape];
}

/** End of the inputs of a batch of `items`. */
export function endOfInputs({ inputs }: BatchLayout, items: number): number {
  return inputs.reduce((end, { offset, itemBytes }) => Math.max(end, offset + items * itemBytes), 0);
}

/** Layouts by shape key, bounded: callers choose the shapes, so their number is not ours. */
export class LayoutCache {
  readonly #model: LaidOutModel;
  readonly #layouts = new Map<string, BatchLayout>();
  static readonly #SIZE_MAX = 512;

  constructor(model: LaidOutModel) {
    this.#model = model;
  }

  get(key: string): BatchLayout {
    let layout = this.#layouts.get(key);
    if (layout === undefined) {
      layout = batchLayout(this.#model, key);
      if (this.#layouts.size >= LayoutCache.#SIZE_MAX) this.#layouts.clear();
      this.#layouts.set(key, layout);
    }
    return layout;
  }
}
