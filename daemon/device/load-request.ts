import type { ModelVersion } from "../repository/model.ts";
import type { KnownProfiles, LoadRequest, WarmShapes } from "./messages.ts";
import { warmShapesOf } from "./warm-shapes.ts";

/** What a session thread is asked to load: the model as the repository has it, and how to execute it. */
export function loadRequest(
  version: ModelVersion,
  how: Pick<LoadRequest, "sequence" | "provider" | "threads" | "warmShapes" | "known" | "profileBudgetMs">,
): LoadRequest {
  const { key, path, inputs, outputs, batched, maxBatchSize, settings } = version;
  return { model: key, path, inputs, outputs, batched, maxBatchSize, buckets: settings.buckets, ...how };
}

/** The shapes that were warmed before a crash, or those the model's settings name. Throws a `LoadError` where these don't fit it. */
export function shapesToWarm(version: ModelVersion, before: KnownProfiles | null): WarmShapes {
  return before === null ? warmShapesOf(version) : { keys: Object.keys(before.profiles), firstThatWorks: false };
}
