/** What generated modules are made of: inference with a model's own tensor names and element types. */
import type { InferInputs, InferOptions, SlacklineClient } from "./client.ts";
import type { Datatype } from "./datatypes.ts";
import { SlacklineError } from "./errors.ts";
import type { InferResult } from "./result.ts";
import type { Tensor } from "./tensor.ts";

/** Output tensors by name, as a model declares them. */
export type OutputTypes = Readonly<Record<string, Datatype>>;

/** `InferOptions` whose `outputs` are this model's. */
export type TypedInferOptions<Name extends string> = Omit<InferOptions, "outputs"> & {
  /** Names of the outputs that are wanted; default all. */
  readonly outputs?: readonly Name[] | undefined;
};

/** An answer whose outputs are known. */
export type TypedInferResult<Types extends OutputTypes> = Omit<InferResult, "outputs" | "output"> & {
  readonly outputs: { readonly [Name in keyof Types]: Tensor<Types[Name]> };
};

/**
 * Runs a model whose outputs are known. Rejects with FAILED_PRECONDITION when the server's model has other outputs than the generated module
 * says: generate it again.
 */
export async function inferTyped<Types extends OutputTypes, Name extends keyof Types & string>(
  client: SlacklineClient,
  model: string,
  outputs: Types,
  inputs: InferInputs,
  options: TypedInferOptions<Name> = {},
): Promise<TypedInferResult<Pick<Types, Name>>> {
  const result = await client.infer(model, inputs, options);
  for (const name of options.outputs ?? Object.keys(outputs)) {
    const got = result.outputs[name]?.datatype;
    if (got === outputs[name]) continue;
    const message = `model '${model}' gave output '${name}' as ${got ?? "nothing"}, not ${outputs[name]}: generate the typed module again`;
    throw new SlacklineError("FAILED_PRECONDITION", message);
  }
  return result as unknown as TypedInferResult<Pick<Types, Name>>;
}
