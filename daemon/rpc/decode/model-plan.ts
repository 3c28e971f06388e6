/** What decoding needs of a model version, derived once. */
import { createHash } from "node:crypto";
import { hasVaryingShape } from "../../engine/shape-key.ts";
import type { ModelVersion } from "../../repository/model.ts";

export interface ModelPlan {
  readonly version: ModelVersion;
  /** As answers state it. */
  readonly versionText: string;
  readonly inputIndex: ReadonlyMap<string, number>;
  readonly outputNames: ReadonlySet<string>;
  /** Whether requests differ in more than their batch size. */
  readonly varying: boolean;
  /** As what its answers may be cached, see `InferenceRequest.cacheAs`; null where they may not. */
  readonly cacheAs: string | null;
  /** Folders whose paths are kept from callers. */
  readonly hostFolders: readonly string[];
}

const plans = new WeakMap<ModelVersion, ModelPlan>();

export function modelPlan(version: ModelVersion): ModelPlan {
  const known = plans.get(version);
  if (known !== undefined) return known;
  const suffix = `/${version.key}/`;
  const end = version.path.lastIndexOf(suffix);
  const plan: ModelPlan = {
    version,
    versionText: String(version.version),
    inputIndex: new Map(version.inputs.map((spec, index) => [spec.name, index])),
    outputNames: new Set(version.outputs.map((spec) => spec.name)),
    varying: hasVaryingShape(version),
    cacheAs: version.settings.cache ? contentId(version) : null,
    hostFolders: end > 0 ? [version.path.slice(0, end)] : [],
  };
  plans.set(version, plan);
  return plan;
}

/** Digest of all that decides what a version answers to given inputs. */
function contentId({ key, hash, inputs, outputs, batched, sequence }: ModelVersion): string {
  return createHash("sha256")
    .update(JSON.stringify([key, hash, inputs, outputs, batched, sequence]))
    .digest("hex");
}
