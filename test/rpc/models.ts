/** A catalog of models for tests. */
import type { Datatype, TensorSpec } from "../../daemon/engine/tensors.ts";
import type { ModelVersion } from "../../daemon/repository/model.ts";
import type {
  CatalogEntry,
  ModelCatalog,
  ModelLookup,
  RepositoryAction,
  RepositoryParameter,
} from "../../daemon/rpc/ports.ts";

export const DATATYPES: readonly Datatype[] = [
  "BOOL",
  "UINT8",
  "UINT16",
  "UINT32",
  "UINT64",
  "INT8",
  "INT16",
  "INT32",
  "INT64",
  "FP16",
  "FP32",
  "FP64",
  "BYTES",
];

interface ModelOptions {
  readonly version?: number;
  readonly batched?: boolean;
  readonly maxBatchSize?: number;
  readonly bestEffort?: boolean;
  readonly fallback?: ModelVersion["settings"]["fallback"];
  readonly cache?: boolean;
  readonly sharedDimensions?: ModelVersion["sharedDimensions"];
}

/** Each input `X` has an output `out_X` of the same type and shape. */
export function model(name: string, inputs: readonly TensorSpec[], options: ModelOptions = {}): ModelVersion {
  const {
    version = 1,
    batched = true,
    maxBatchSize = batched ? 8 : 1,
    bestEffort = false,
    fallback = null,
    cache = false,
    sharedDimensions = [],
  } = options;
  return {
    key: `${name}/${version}`,
    name,
    version,
    path: `/srv/models/${name}/${version}/model.onnx`,
    hash: "0",
    inputs,
    outputs: inputs.map((spec) => ({ ...spec, name: `out_${spec.name}` })),
    batched,
    batchedAsserted: false,
    unbatchedReason: null,
    maxBatchSize,
    sharedDimensions,
    sequence: null,
    settings: {
      sloMs: null,
      device: "auto",
      buckets: [1, 4, 8],
      replicas: "auto",
      threads: null,
      queueItemsMax: 1000,
      queueBytesMax: 2 ** 30,
      weight: 1,
      minShare: 0,
      shedImplicit: false,
      bestEffortDefault: bestEffort,
      fallback,
      traffic: null,
      cache,
      warmShapes: [],
      warmValues: {},
    },
  };
}

function spec(name: string, datatype: Datatype, shape: readonly number[]): TensorSpec {
  return { name, datatype, shape };
}

export const SLO_US = 100_000;

export class FakeCatalog implements ModelCatalog {
  readonly models: ModelVersion[] = [
    model("vector", [spec("x", "FP32", [-1, 4])]),
    model("vector", [spec("x", "FP32", [-1, 4])], { version: 2 }),
    model("pair", [spec("a", "FP32", [-1, 2]), spec("b", "INT64", [-1, 1])]),
    model("image", [spec("image", "FP32", [-1, 3, 224, 224])]),
    model("tokens", [spec("ids", "INT64", [-1, -1]), spec("mask", "INT64", [-1, -1])], {
      sharedDimensions: [{ name: "length", places: [0, 1].map((input) => ({ input, axis: 1 })) }],
    }),
    model("flat", [spec("x", "FP32", [2, -1])], { batched: false }),
    model("words", [spec("text", "BYTES", [-1, 2])]),
    model("heavy", [spec("x", "FP32", [-1, 4])], { fallback: { model: "vector", version: "1" } }),
    model("wide", [spec("x", "FP32", [-1, 4])], { fallback: { model: "pair", version: "" } }),
    model("wordy", [spec("text", "BYTES", [-1, 2])], { fallback: { model: "words", version: "" } }),
    model("alone", [spec("x", "FP32", [-1, 4])], { fallback: { model: "broken", version: "" } }),
    model("kept", [spec("x", "FP32", [-1, 4])], { cache: true }),
    model("idle", [spec("x", "FP32", [-1, 4])], { bestEffort: true }),
    ...DATATYPES.map((datatype) => model(`t_${datatype}`, [spec("x", datatype, [-1, 2])])),
  ];
  readonly actions: string[] = [];
  action: RepositoryAction = { ok: true };
  isReady = true;
  restartingSloUs: number = SLO_US;
  /** Thrown by `find`, to see what becomes of the unforeseen. */
  failure: Error | null = null;

  /** The traffic keys that requests came with. */
  readonly trafficKeys: (string | null)[] = [];

  route(name: string, version: string, trafficKey: string | null): ModelLookup {
    this.trafficKeys.push(trafficKey);
    return this.find(name, version);
  }

  find(name: string, version: string): ModelLookup {
    if (this.failure !== null) throw this.failure;
    if (name === "broken") return { type: "not-ready", reason: "its file can't be read", passing: false, model: null };
    if (name === "restarting") {
      const version = model(name, [spec("x", "FP32", [-1, 4])], { fallback: { model: "vector", version: "" } });
      return {
        type: "not-ready",
        reason: "its device is restarting",
        passing: true,
        model: { version, sloUs: this.restartingSloUs },
      };
    }
    if (name === "loading") {
      const version = model("loading", [spec("x", "FP32", [-1, 4])]);
      return { type: "not-ready", reason: "warming up", passing: true, model: { version, sloUs: SLO_US } };
    }
    const found = this.models.findLast(
      (entry) => entry.name === name && (version === "" || String(entry.version) === version),
    );
    return found === undefined ? { type: "unknown" } : { type: "ready", model: { version: found, sloUs: SLO_US } };
  }

  list(): readonly CatalogEntry[] {
    const served = this.models.map((entry) => ({
      name: entry.name,
      version: String(entry.version),
      state: "READY" as const,
      reason: "",
    }));
    return [...served, { name: "broken", version: "1", state: "UNAVAILABLE", reason: "its file can't be read" }];
  }

  versions(name: string): readonly number[] {
    return this.models.filter((entry) => entry.name === name).map((entry) => entry.version);
  }

  ready(): boolean {
    return this.isReady;
  }

  async load(name: string, parameters: ReadonlyMap<string, RepositoryParameter>): Promise<RepositoryAction> {
    this.actions.push(`load ${name} ${JSON.stringify([...parameters])}`);
    return this.action;
  }

  async unload(name: string, parameters: ReadonlyMap<string, RepositoryParameter>): Promise<RepositoryAction> {
    this.actions.push(`unload ${name} ${JSON.stringify([...parameters])}`);
    return this.action;
  }
}
