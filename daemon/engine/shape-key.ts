/**
 * Shape keys: only requests of equal key share a batch, and profiles are kept by key.
 *
 * A key lists, for each input with varying non-batch dimensions, in the order of the model's inputs, the values of those
 * dimensions: `input_ids:128;attention_mask:128`, or `image:224,320` where one input has two. `""` when none varies.
 */
import type { TensorSpec } from "./tensors.ts";

/** The part of a model version that decides its shape keys. */
export interface ShapedModel {
  readonly inputs: readonly TensorSpec[];
  /** Whether the first dimension of every input is the batch's. */
  readonly batched: boolean;
}

/** Indexes of an input's varying dimensions other than the batch's. */
export function varyingDimensions(spec: TensorSpec, batched: boolean): number[] {
  const varying: number[] = [];
  for (let axis = batched ? 1 : 0; axis < spec.shape.length; axis++) {
    if (spec.shape[axis]! < 0) varying.push(axis);
  }
  return varying;
}

/** Whether requests of this model can differ in shape key. */
export function hasVaryingShape(model: ShapedModel): boolean {
  return model.inputs.some((spec) => varyingDimensions(spec, model.batched).length > 0);
}

/**
 * The key of a request whose inputs have these concrete shapes, in the order of the model's inputs. The shapes must have
 * been checked against the specs (same rank, fixed dimensions equal).
 */
export function shapeKey(model: ShapedModel, shapes: readonly (readonly number[])[]): string {
  let key = "";
  for (const [index, spec] of model.inputs.entries()) {
    const varying = varyingDimensions(spec, model.batched);
    if (varying.length === 0) continue;
    const values = varying.map((axis) => shapes[index]![axis]!).join(",");
    key += `${key === "" ? "" : ";"}${spec.name}:${values}`;
  }
  return key;
}

/**
 * The concrete input shapes of a batch: the inverse of `shapeKey`, with `items` as the batch dimension where there is one.
 * Throws on a key that `shapeKey` would not have made for this model.
 */
export function shapesOfKey(model: ShapedModel, key: string, items: number): number[][] {
  let rest = key;
  const shapes = model.inputs.map((spec) => {
    const shape = [...spec.shape];
    if (model.batched && shape.length > 0) shape[0] = items;
    const varying = varyingDimensions(spec, model.batched);
    if (varying.length === 0) return shape;
    // Names may hold any character, so the key is read by the known names and not by splitting it.
    const prefix = `${spec.name}:`;
    const match = rest.startsWith(prefix) ? /^\d+(?:,\d+)*/.exec(rest.slice(prefix.length)) : null;
    const values = match?.[0].split(",").map(Number) ?? [];
    if (values.length !== varying.length) {
      throw new Error(`shape key "${key}" does not fit input "${spec.name}" with ${varying.length} varying dimensions`);
    }
    for (const [position, axis] of varying.entries()) shape[axis] = values[position]!;
    rest = rest.slice(prefix.length + match![0].length).replace(/^;/, "");
    return shape;
  });
  if (rest !== "") throw new Error(`shape key "${key}" names more than the model's inputs`);
  return shapes;
}
