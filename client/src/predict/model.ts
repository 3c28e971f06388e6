/** What has to be known of the model that predicts. */
import { setTimeout as sleep } from "node:timers/promises";
import type { SlacklineClient } from "../client.ts";
import { invalidArgument, SlacklineError } from "../errors.ts";
import { VERSION_PARAMETER } from "../generated/parameters.ts";
import { modelConfigIfAny } from "../model-config.ts";
import type { TensorMetadata } from "../server-info.ts";
import { passes, pauseMsOf } from "./passing.ts";

export interface PredictModel {
  readonly name: string;
  /** The version that is described; undefined where the server doesn't say. */
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
  /** How long to wait for the server, and for a model that is being loaded, in milliseconds. */
  readonly timeoutMs: number;
}

/** Asks the server; throws SlacklineError where it can't be reached or has no such model or outputs. */
export async function describeModel(client: SlacklineClient, query: ModelQuery): Promise<PredictModel> {
  const endMs = performance.now() + query.timeoutMs;
  for (let pauses = 0; ; pauses++) {
    try {
      return await describe(client, { ...query, timeoutMs: Math.max(1, Math.ceil(endMs - performance.now())) });
    } catch (error) {
      if (!(error instanceof SlacklineError) || !passes(error)) throw error;
      const pauseMs = pauseMsOf(error, pauses);
      if (performance.now() + pauseMs >= endMs) throw error;
      await sleep(pauseMs);
    }
  }
}

async function describe(client: SlacklineClient, query: ModelQuery): Promise<PredictModel> {
  const { name, timeoutMs } = query;
  // Where there is none, rows have the shapes that metadata states.
  const config = await modelConfigIfAny(client, name, { version: query.version, timeoutMs });
  const version = query.version ?? config?.parameters[VERSION_PARAMETER]?.string_value;
  const metadata = await client.modelMetadata(name, { version, timeoutMs });
  const maxBatchSize = config !== null && config.max_batch_size > 0 ? config.max_batch_size : null;
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

/** A model's inputs and their item shapes, for messages. */
export function inputsText(model: PredictModel): string {
  return model.inputs.map(({ name, datatype, shape }) => `'${name}' (${datatype} [${shape}])`).join(", ");
}
