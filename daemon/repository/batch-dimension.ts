/** Whether a model's first dimension is its batch's, and what its tensors then look like. */
import type { Datatype, TensorSpec } from "../engine/tensors.ts";
import { dimensionName } from "./dimension-names.ts";

/** One input or output as the ONNX file declares it. */
export interface DeclaredTensor {
  readonly name: string;
  readonly datatype: Datatype;
  /** A number where fixed, a symbol's name or null where it varies; null as a whole where not even the rank is known. */
  readonly dims: readonly (number | string | null)[] | null;
}

export interface DeclaredInterface {
  readonly inputs: readonly DeclaredTensor[];
  readonly outputs: readonly DeclaredTensor[];
}

export interface BatchedInterface {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly batched: boolean;
  /** The one batch size that a fixed first dimension allows; null where it varies or there is no batch. */
  readonly fixedBatch: number | null;
  /** Why it is not batched; null where it is. */
  readonly unbatchedReason: string | null;
  /** That it is not batched although its inputs look like it; null where there is nothing to say. */
  readonly warning: string | null;
}

/** Why the first dimension of these tensors can't be a batch dimension that varies; null when it can. */
function notBatched(
  tensors: readonly DeclaredTensor[],
  kind: "input" | "output",
  symbol: string | null,
): string | null {
  for (const { name, dims } of tensors) {
    if (dims === null) return `${kind} '${name}' has no declared shape`;
    const first = dims[0];
    if (first === undefined) return `${kind} '${name}' has no dimensions`;
    if (typeof first === "number") return `the first dimension of ${kind} '${name}' is always ${first}`;
    const named = dimensionName(first);
    if (symbol !== null && named !== null && named !== symbol) {
      return `the first dimension of ${kind} '${name}' is '${named}', not '${symbol}'`;
    }
  }
  return null;
}

/** The inputs' name of the first dimension; null where it has none. */
function batchSymbol(inputs: readonly DeclaredTensor[]): string | null {
  return inputs.map((input) => dimensionName(input.dims?.[0])).find((name) => name !== null) ?? null;
}

/** An output of unknown rank is told as one varying dimension; what it really has shows in the answers. */
function specOf(tensor: DeclaredTensor, batched: boolean): TensorSpec {
  const shape = (tensor.dims ?? [-1]).map((dim) => (typeof dim === "number" ? dim : -1));
  if (batched && shape.length > 0) shape[0] = -1;
  return { name: tensor.name, datatype: tensor.datatype, shape };
}

/** The fixed first dimension that all tensors with one share; null where they differ or have none. */
function commonFirst(tensors: readonly DeclaredTensor[]): number | null {
  const fixed = new Set(tensors.map((tensor) => tensor.dims?.[0]).filter((first) => typeof first === "number"));
  return fixed.size === 1 ? [...fixed][0]! : null;
}

/**
 * Decides whether a model is batched: when every input and output has a first dimension that varies, and those that are
 * named have one name. Whether it is then truly the batch's is tried out when the model is loaded.
 *
 * @param asserted the configuration's word for it, which goes before the ONNX file's; undefined where it says nothing.
 *   A fixed first dimension that is asserted to be the batch's allows just that batch size.
 * @returns the sentence of what contradicts the assertion, where something does
 */
export function decideBatching(
  declared: DeclaredInterface,
  asserted: boolean | undefined,
): BatchedInterface | { readonly problem: string } {
  const specs = (batched: boolean) => ({
    inputs: declared.inputs.map((input) => specOf(input, batched)),
    outputs: declared.outputs.map((output) => specOf(output, batched)),
  });
  const isBatched = (fixedBatch: number | null = null): BatchedInterface => {
    return { ...specs(true), batched: true, fixedBatch, unbatchedReason: null, warning: null };
  };
  const isNot = (unbatchedReason: string, warning: string | null = null): BatchedInterface => {
    return { ...specs(false), batched: false, fixedBatch: null, unbatchedReason, warning };
  };
  if (asserted === false) return isNot("its configuration says that it has no batch dimension");
  const { inputs, outputs } = declared;
  if (inputs.length === 0) {
    return asserted === true ? { problem: "batched: true, but the model has no inputs" } : isNot("it has no inputs");
  }
  if (asserted === true) {
    const all = [...inputs, ...outputs];
    const scalar = all.find((tensor) => tensor.dims?.length === 0);
    if (scalar !== undefined) return { problem: `batched: true, but '${scalar.name}' has no dimensions` };
    const fixedInputs = inputs.filter((input) => typeof input.dims?.[0] === "number");
    if (fixedInputs.length === 0) return isBatched();
    const fixedBatch = commonFirst(inputs);
    if (fixedBatch === null || fixedInputs.length < inputs.length) {
      return { problem: "batched: true, but the inputs differ in their first dimension" };
    }
    return isBatched(fixedBatch);
  }
  const fixed = notBatched(inputs, "input", null);
  if (fixed !== null) return isNot(fixed);
  const symbol = batchSymbol(inputs);
  const reason = notBatched(inputs, "input", symbol) ?? notBatched(outputs, "output", symbol);
  if (reason === null) return isBatched();
  return isNot(
    reason,
    `runs one request at a time: ${reason} (config.yaml: \`batched: true\` asserts a batch dimension)`,
  );
}
