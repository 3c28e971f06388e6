/** A model's configuration, which is an extension of the protocol: other servers may not have it. */
import type { ModelQueryOptions, SlacklineClient } from "./client.ts";
import { SlacklineError } from "./errors.ts";
import type { ModelConfig__Output } from "./generated/inference/ModelConfig.ts";

/** null where the server does not offer it. */
export async function modelConfigIfAny(
  client: SlacklineClient,
  model: string,
  options: ModelQueryOptions,
): Promise<ModelConfig__Output | null> {
  try {
    return await client.modelConfig(model, options);
  } catch (error) {
    if (error instanceof SlacklineError && error.code === "UNIMPLEMENTED") return null;
    throw error;
  }
}
