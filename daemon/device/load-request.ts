import type { ModelVersion } from "../repository/model.ts";
import type { KnownProfiles, LoadRequest, WarmShapes } from "./messages.ts";
import { warmShapesOf } from "./warm-shapes.ts";

/**
 * What a session thread is asked to load: the model as the repository has it, and how to execute it.
 *
 * @param isAgain after a crash: what is tried out when a model is first loaded was tried out then
 */
export function loadRequest(
  version: ModelVersion,
  isAgain: boolean,
  how: Pick<LoadRequest, "provider" | "threads" | "warmShapes" | "known" | "profileBudgetMs">,
): LoadRequest {
  const { key, path, inputs, outputs, batched, batchedAsserted, maxBatchSize, settings } = version;
  const sequence = isAgain ? null : version.sequence;
  const { warmValues: given } = settings;
  const tryBatching = batched && !batchedAsserted && !isAgain;
  return {
    model: key,
    path,
    inputs,
    outputs,
    batched,
    tryBatching,
    maxBatchSize,
    sequence,
    buckets: settings.buckets,
    warmValues: inputs.map(({ name }) => (Object.hasOwn(given, name) ? given[name]! : null)),
    ...how,
  };
}

/** The shapes that were warmed before a crash, or those the model's settings name. Throws a `LoadError` where these don't fit it. */
export function shapesToWarm(version: ModelVersion, before: KnownProfiles | null): WarmShapes {
  return before === null ? warmShapesOf(version) : { keys: Object.keys(before.profiles), firstThatWorks: false };
}
