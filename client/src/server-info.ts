/** What servers say about themselves and their models, with numbers as numbers. */
import { type Datatype, isDatatype } from "./datatypes.ts";
import { SlacklineError } from "./errors.ts";
import type { InferStatistics__Output } from "./generated/inference/InferStatistics.ts";
import type {
  ModelMetadataResponse__Output,
  _inference_ModelMetadataResponse_TensorMetadata__Output as WireTensorMetadata,
} from "./generated/inference/ModelMetadataResponse.ts";
import type { ModelStatistics__Output } from "./generated/inference/ModelStatistics.ts";
import type { StatisticDuration__Output } from "./generated/inference/StatisticDuration.ts";

export interface ServerMetadata {
  readonly name: string;
  readonly version: string;
  /** Names of what the server offers beyond the protocol's core. */
  readonly extensions: readonly string[];
}

/** A model's declared input or output. */
export interface TensorMetadata {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 where a dimension varies; the batch dimension comes first where the model is batched. */
  readonly shape: readonly number[];
}

export interface ModelMetadata {
  readonly name: string;
  /** Versions that are served, as integers written as strings. */
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

export interface ModelIndexEntry {
  readonly name: string;
  readonly version: string;
  /** UNKNOWN, LOADING, READY, UNLOADING or UNAVAILABLE. */
  readonly state: string;
  /** Why, where there is something to say. */
  readonly reason: string;
}

/** How often something happened and how long that took in all. */
export interface DurationStatistic {
  readonly count: number;
  /** Nanoseconds. */
  readonly ns: number;
}

/** Cumulative since the model was loaded. */
export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  /** Milliseconds since the epoch; 0 for never. */
  readonly lastInferenceMs: number;
  /** Items inferred. */
  readonly inferenceCount: number;
  /** Batches executed. */
  readonly executionCount: number;
  readonly success: DurationStatistic;
  readonly fail: DurationStatistic;
  readonly queue: DurationStatistic;
  readonly computeInput: DurationStatistic;
  readonly computeInfer: DurationStatistic;
  readonly computeOutput: DurationStatistic;
  readonly cacheHit: DurationStatistic;
  readonly cacheMiss: DurationStatistic;
  /** By batch size. */
  readonly batches: readonly {
    readonly batchSize: number;
    readonly computeInput: DurationStatistic;
    readonly computeInfer: DurationStatistic;
    readonly computeOutput: DurationStatistic;
  }[];
}

function tensorMetadata({ name, datatype, shape }: WireTensorMetadata): TensorMetadata {
  if (!isDatatype(datatype)) {
    throw new SlacklineError(
      "INTERNAL",
      `the server declares tensor '${name}' with the unknown datatype '${datatype}'`,
    );
  }
  return { name, datatype, shape: shape.map(Number) };
}

export function modelMetadata(wire: ModelMetadataResponse__Output): ModelMetadata {
  const { name, versions, platform, inputs, outputs } = wire;
  return { name, versions, platform, inputs: inputs.map(tensorMetadata), outputs: outputs.map(tensorMetadata) };
}

function duration(wire: StatisticDuration__Output | null | undefined): DurationStatistic {
  return { count: Number(wire?.count ?? 0), ns: Number(wire?.ns ?? 0) };
}

export function modelStatistics(wire: ModelStatistics__Output): ModelStatistics {
  const total: Partial<InferStatistics__Output> = wire.inference_stats ?? {};
  return {
    name: wire.name,
    version: wire.version,
    lastInferenceMs: Number(wire.last_inference),
    inferenceCount: Number(wire.inference_count),
    executionCount: Number(wire.execution_count),
    success: duration(total.success),
    fail: duration(total.fail),
    queue: duration(total.queue),
    computeInput: duration(total.compute_input),
    computeInfer: duration(total.compute_infer),
    computeOutput: duration(total.compute_output),
    cacheHit: duration(total.cache_hit),
    cacheMiss: duration(total.cache_miss),
    batches: wire.batch_stats.map((batch) => ({
      batchSize: Number(batch.batch_size),
      computeInput: duration(batch.compute_input),
      computeInfer: duration(batch.compute_infer),
      computeOutput: duration(batch.compute_output),
    })),
  };
}
