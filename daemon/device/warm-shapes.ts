/** Which shapes a model is warmed with: those its settings name, or guesses where they name none. */
import { keyOfLength } from "../engine/sequence.ts";
import { hasVaryingShape, type ShapedModel, shapeKey } from "../engine/shape-key.ts";
import type { ModelVersion } from "../repository/model.ts";
import { LoadError } from "./load-error.ts";
import type { WarmShapes } from "./messages.ts";

/** Tried in this order for every varying dimension at once: sequence lengths first, then sizes of images. */
const GUESSES = [64, 224, 32, 16, 8, 4, 2, 1];

/**
 * Each entry of `settings.warmShapes` gives by input name the values of its varying non-batch dimensions, in order; or its
 * whole shape without the batch dimension. Where sequences are padded, the lengths they are padded to; none yet where these
 * are to be chosen by measuring. Throws a `LoadError` where one does not fit the model.
 */
export function warmShapesOf(version: ModelVersion): WarmShapes {
  if (!hasVaryingShape(version)) return { keys: [""], firstThatWorks: false };
  if (version.sequence !== null)
    return { keys: keysOfLengths(version, version.sequence.lengths ?? []), firstThatWorks: false };
  const configured = version.settings.warmShapes.map((values) => keyOf(version, values));
  if (configured.length > 0) return { keys: [...new Set(configured)], firstThatWorks: false };
  const keys = GUESSES.map((guess) => shapeKey(version, guessedShapes(version, guess)));
  return { keys: [...new Set(keys)], firstThatWorks: true };
}

export function keysOfLengths(model: ShapedModel, lengths: readonly number[]): string[] {
  return lengths.map((length) => keyOfLength(model, length));
}

function keyOf(version: ModelVersion, values: Readonly<Record<string, readonly number[]>>): string {
  const shapes = version.inputs.map((spec) => {
    const given = values[spec.name] ?? [];
    const inner = version.batched ? spec.shape.slice(1) : spec.shape;
    const varying = inner.filter((size) => size < 0).length;
    const filled = given.length === varying ? fill(inner, given) : given;
    const fits = filled.length === inner.length && inner.every((size, axis) => size < 0 || size === filled[axis]);
    if (!fits) {
      const message = `warm shape [${given.join(", ")}] does not fit input "${spec.name}" with shape [${spec.shape.join(", ")}]: give the values of its ${varying} varying dimensions`;
      throw new LoadError("warm-up", message);
    }
    return version.batched ? [1, ...filled] : filled;
  });
  return shapeKey(version, shapes);
}

function fill(shape: readonly number[], values: readonly number[]): number[] {
  let next = 0;
  return shape.map((size) => (size < 0 ? values[next++]! : size));
}

function guessedShapes(version: ModelVersion, guess: number): number[][] {
  return version.inputs.map(({ shape }) =>
    // The first dimension of a model without batching is most often still meant as the batch's.
    shape.map((size, axis) => (size >= 0 ? size : axis === 0 ? 1 : guess)),
  );
}
