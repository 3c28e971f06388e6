/** Dimensions that several inputs declare to have one size, by naming them alike in the ONNX file. */
import { type ShapedModel, varyingDimensions } from "../engine/shape-key.ts";
import type { DeclaredTensor } from "./batch-dimension.ts";
import { dimensionName } from "./dimension-names.ts";
import type { SharedDimension } from "./model.ts";

/**
 * The names that stand in several inputs. The runtime relies on their sizes being equal, and fails where they aren't. The
 * batch's is left out, and so are names that one input has twice: exporters are careless with those.
 *
 * @param declared the inputs with the ONNX file's names, in the order of the model's
 */
export function sharedDimensions(model: ShapedModel, declared: readonly DeclaredTensor[]): readonly SharedDimension[] {
  const places = new Map<string, { input: number; axis: number }[]>();
  for (const [input, spec] of model.inputs.entries()) {
    const dims = declared[input]!.dims ?? [];
    for (const axis of varyingDimensions(spec, model.batched)) {
      const name = dimensionName(dims[axis]);
      if (name === null || dims.indexOf(name) !== dims.lastIndexOf(name)) continue;
      places.set(name, [...(places.get(name) ?? []), { input, axis }]);
    }
  }
  return [...places].flatMap(([name, where]) => (where.length > 1 ? [{ name, places: where }] : []));
}
