/** What decoding needs of a model version, derived once. */
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
    hostFolders: end > 0 ? [version.path.slice(0, end)] : [],
  };
  plans.set(version, plan);
  return plan;
}
