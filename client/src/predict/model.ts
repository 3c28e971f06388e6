/** What has to be known of the model that predicts. */
import type { SlacklineClient } from "../client.ts";
import { invalidArgument, SlacklineError } from "../errors.ts";
import type { TensorMetadata } from "../server-info.ts";

export interface PredictModel {
  readonly name: string;
  readonly version: string | undefined;
  /** Shapes are an item's: without the batch dimension where there is one. */
  readonly inputs: readonly TensorMetadata[];
  /** Those that are wanted. */
  readonly outputs: readonly TensorMetadata[];
  /** Items that a request may have; null: no batch dimension, a request is one item. */
  readonly maxBatchSize: number | null;
}

export interface ModelQuery {
  readonly name: string;
  readonly version: string | undefined;
  /** Names; null for all. */
  readonly outputs: readonly string[] | null;
  readonly timeoutMs: number;
}

/** Asks the server; throws SlacklineError where it can't be reached or has no such model or outputs. */
export async function describeModel(client: SlacklineClient, query: ModelQuery): Promise<PredictModel> {
  const { name, version, timeoutMs } = query;
  const metadata = await client.modelMetadata(name, { version, timeoutMs });
  const maxBatchSize = await maxBatchSizeOf(client, query);
  const item = (tensor: TensorMetadata): TensorMetadata =>
    maxBatchSize === null ? tensor : { ...tensor, shape: tensor.shape.slice(1) };
  const outputs = query.outputs?.map((wanted) => {
    const found = metadata.outputs.find((output) => output.name === wanted);
    if (found === undefined) {
      const names = metadata.outputs.map((output) => `'${output.name}'`).join(", ");
      throw invalidArgument(`model '${name}' has no output '${wanted}' (--outputs); it has ${names}`);
    }
    return found;
  });
  return {
    name,
    version,
    inputs: metadata.inputs.map(item),
    outputs: (outputs ?? metadata.outputs).map(item),
    maxBatchSize,
  };
}

async function maxBatchSizeOf(client: SlacklineClient, query: ModelQuery): Promise<number | null> {
  const { name, version, timeoutMs } = query;
  try {
    const { max_batch_size } = await client.modelConfig(name, { version, timeoutMs });
    return max_batch_size > 0 ? max_batch_size : null;
  } catch (error) {
    // An extension, which other servers may not have: then rows have the shapes that metadata states.
    if (error instanceof SlacklineError && error.code === "UNIMPLEMENTED") return null;
    throw error;
  }
}

/** A model's inputs and their item shapes, for messages. */
export function inputsText(model: PredictModel): string {
  return model.inputs.map(({ name, datatype, shape }) => `'${name}' (${datatype} [${shape}])`).join(", ");
}
