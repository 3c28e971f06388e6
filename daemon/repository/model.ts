/** What a loadable model version is, once its files and its configuration have been read. */
import type { SequencePadding } from "../engine/sequence.ts";
import type { TensorSpec } from "../engine/tensors.ts";

/** The states of a model version as the repository index names them. */
export type ModelState = "UNKNOWN" | "LOADING" | "READY" | "UNLOADING" | "UNAVAILABLE";

export type DevicePlacement = "gpu" | "cpu" | "auto";

/** A model version: its interface, derived from ONNX metadata and checked against its configuration. */
export interface ModelVersion {
  /** `name/version`: the key under which the engine and the scheduler know it. */
  readonly key: string;
  readonly name: string;
  /** Positive integer. */
  readonly version: number;
  /** Absolute path of `model.onnx`; external data lies beside it or below, checked to stay inside the model's folder. */
  readonly path: string;
  /** SHA-256 of the model file and its external data, hex. */
  readonly hash: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** Whether the first dimension of every input and output is the batch's. */
  readonly batched: boolean;
  /** Whether its configuration says so, and not its file alone. */
  readonly batchedAsserted: boolean;
  /** Why not, where it is not; else null. */
  readonly unbatchedReason: string | null;
  /** 1 where not batched. */
  readonly maxBatchSize: number;
  /** Dimensions besides the batch's that must have one size in several inputs. */
  readonly sharedDimensions: readonly SharedDimension[];
  /** How requests of different lengths may share a batch; null: only those of one shape do. */
  readonly sequence: SequencePadding | null;
  readonly settings: ModelSettings;
}

export interface SharedDimension {
  /** As the ONNX file calls it. */
  readonly name: string;
  /** Two or more; `input` and `axis` are indexes. */
  readonly places: readonly { readonly input: number; readonly axis: number }[];
}

/** A version's part of the requests that name none; shares of a model's versions count against each other. */
export interface TrafficShare {
  readonly version: number;
  /** 0: only requests that name it. */
  readonly share: number;
}

/** Another model as settings name it; version `""`: none is named. */
export interface ModelReference {
  readonly model: string;
  readonly version: string;
}

/** The reference as it is written: `MODEL` or `MODEL/VERSION`. */
export function referenceText({ model, version }: ModelReference): string {
  return version === "" ? model : `${model}/${version}`;
}

/** A model's settings with every default filled in, units in the names. */
export interface ModelSettings {
  /** null: max(100 ms, 4 · l(1)), decided when the model is profiled. */
  readonly sloMs: number | null;
  readonly device: DevicePlacement;
  /** Ascending, the last equals maxBatchSize; null: chosen by measuring. */
  readonly buckets: readonly number[] | null;
  /** CPU replicas; `auto` measures a few splits of the cores. */
  readonly replicas: number | "auto";
  /** Intra-op threads of each session; null: the share of the cores that the placement has. */
  readonly threads: number | null;
  readonly queueItemsMax: number;
  readonly queueBytesMax: number;
  readonly weight: number;
  readonly minShare: number;
  readonly shedImplicit: boolean;
  readonly bestEffortDefault: boolean;
  /** Who answers where this model can't by a request's deadline; null: nobody. Version `""`: whichever answers when none is named. */
  readonly fallback: ModelReference | null;
  /** Ascending by version; null: the highest version that is served gets all requests that name none. */
  readonly traffic: readonly TrafficShare[] | null;
  /** Whether answers are kept, and given again to equal requests. */
  readonly cache: boolean;
  /** Item shapes (all dimensions but the batch's) to warm and profile, each for every input by name; empty: none was asked for. */
  readonly warmShapes: readonly Readonly<Record<string, readonly number[]>>[];
  /** What trial runs fill an input with, by its name: a text for strings, else a number that its datatype can hold. */
  readonly warmValues: Readonly<Record<string, number | string>>;
}
