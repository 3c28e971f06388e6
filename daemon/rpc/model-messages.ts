/** Metadata, configuration and statistics of models as protocol messages. */

import type { DataType } from "../../proto/generated/inference/DataType.ts";
import type { ModelConfig } from "../../proto/generated/inference/ModelConfig.ts";
import type { ModelMetadataResponse } from "../../proto/generated/inference/ModelMetadataResponse.ts";
import type { ModelStatistics } from "../../proto/generated/inference/ModelStatistics.ts";
import type { StatisticDuration } from "../../proto/generated/inference/StatisticDuration.ts";
import { VERSION_PARAMETER } from "../../proto/parameters.ts";
import type { Datatype, TensorSpec } from "../engine/tensors.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { CountedTime, ModelStatisticsSnapshot } from "./ports.ts";

/** The names under which existing clients know ONNX models. */
const PLATFORM = "onnxruntime_onnx";
const BACKEND = "onnxruntime";

export function metadataMessage(version: ModelVersion, versions: readonly number[]): ModelMetadataResponse {
  const tensor = (spec: TensorSpec) => ({ name: spec.name, datatype: spec.datatype, shape: [...spec.shape] });
  return {
    name: version.name,
    versions: versions.map(String),
    platform: PLATFORM,
    inputs: version.inputs.map(tensor),
    outputs: version.outputs.map(tensor),
  };
}

function configDatatype(datatype: Datatype): DataType {
  return datatype === "BYTES" ? "TYPE_STRING" : `TYPE_${datatype}`;
}

/** Sub-messages without a meaning here stay unset: clients take a set one for a feature in use. */
export function configMessage(version: ModelVersion): ModelConfig {
  const { batched, maxBatchSize, settings } = version;
  // Here, unlike in metadata and requests, dimensions leave the batch's out.
  const tensor = (spec: TensorSpec) => ({
    name: spec.name,
    data_type: configDatatype(spec.datatype),
    dims: batched ? spec.shape.slice(1) : [...spec.shape],
  });
  const kind = settings.device === "gpu" ? "KIND_GPU" : settings.device === "cpu" ? "KIND_CPU" : "KIND_AUTO";
  const count = settings.device === "cpu" && typeof settings.replicas === "number" ? Math.max(1, settings.replicas) : 1;
  return {
    name: version.name,
    platform: PLATFORM,
    backend: BACKEND,
    max_batch_size: batched ? maxBatchSize : 0,
    input: version.inputs.map(tensor),
    output: version.outputs.map(tensor),
    instance_group: [{ name: version.name, count, kind }],
    ...(batched ? { dynamic_batching: { preferred_batch_size: [...(settings.buckets ?? [])] } } : {}),
    parameters: { [VERSION_PARAMETER]: { string_value: String(version.version) } },
    model_transaction_policy: { decoupled: false },
    ...(settings.cache ? { response_cache: { enable: true } } : {}),
  };
}

const NEVER: CountedTime = { count: 0, us: 0 };

const NO_STATISTICS: ModelStatisticsSnapshot = {
  lastInferenceMs: 0,
  items: 0,
  executions: 0,
  success: NEVER,
  fail: NEVER,
  queue: NEVER,
  computeInput: NEVER,
  computeInfer: NEVER,
  computeOutput: NEVER,
  cacheHit: NEVER,
  cacheMiss: NEVER,
  batches: [],
};

function duration(time: CountedTime): StatisticDuration {
  return { count: time.count, ns: Math.round(time.us * 1000) };
}

export function statisticsMessage(
  name: string,
  version: string,
  statistics: ModelStatisticsSnapshot | null,
): ModelStatistics {
  const known = statistics ?? NO_STATISTICS;
  return {
    name,
    version,
    last_inference: known.lastInferenceMs,
    inference_count: known.items,
    execution_count: known.executions,
    inference_stats: {
      success: duration(known.success),
      fail: duration(known.fail),
      queue: duration(known.queue),
      compute_input: duration(known.computeInput),
      compute_infer: duration(known.computeInfer),
      compute_output: duration(known.computeOutput),
      cache_hit: duration(known.cacheHit),
      cache_miss: duration(known.cacheMiss),
    },
    batch_stats: known.batches.map((batch) => ({
      batch_size: batch.size,
      compute_input: duration(batch.computeInput),
      compute_infer: duration(batch.computeInfer),
      compute_output: duration(batch.computeOutput),
    })),
  };
}
