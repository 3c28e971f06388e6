/** Whether what is sent to one model can be sent to another. */
import type { TensorSpec } from "../engine/tensors.ts";
import type { ModelVersion } from "../repository/model.ts";

/** What `other` has other than `version`, as a clause with it as subject; null where requests and answers of one fit the other. */
export function difference(version: ModelVersion, other: ModelVersion): string | null {
  if (!alike(version.inputs, other.inputs)) return `takes ${texts(other.inputs)}, not ${texts(version.inputs)}`;
  if (!alike(version.outputs, other.outputs)) return `gives ${texts(other.outputs)}, not ${texts(version.outputs)}`;
  return null;
}

function alike(specs: readonly TensorSpec[], others: readonly TensorSpec[]): boolean {
  return specs.length === others.length && specs.every((spec) => others.some((other) => agree(spec, other)));
}

/** A dimension that varies agrees with any. */
function agree(a: TensorSpec, b: TensorSpec): boolean {
  return (
    a.name === b.name &&
    a.datatype === b.datatype &&
    a.shape.length === b.shape.length &&
    a.shape.every((size, axis) => size === -1 || b.shape[axis] === -1 || size === b.shape[axis])
  );
}

function texts(specs: readonly TensorSpec[]): string {
  return specs.map(({ name, datatype, shape }) => `'${name}' (${datatype} [${shape.join(", ")}])`).join(", ");
}
