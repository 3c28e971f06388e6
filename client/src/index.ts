export { credentials } from "@grpc/grpc-js";
export {
  type InferInputs,
  type InferOptions,
  type ModelQueryOptions,
  SlacklineClient,
  type WaitOptions,
} from "./client.ts";
export type { Datatype, NumericDatatype, TensorDataByDatatype } from "./datatypes.ts";
export { SlacklineError, type SlacklineErrorCode } from "./errors.ts";
export type { ModelConfig__Output as ModelConfig } from "./generated/inference/ModelConfig.ts";
export type { SlacklineClientOptions, Transport } from "./options.ts";
export type { QueryOptions } from "./queries.ts";
export { InferResult, type InferTimings } from "./result.ts";
export type {
  DurationStatistic,
  ModelIndexEntry,
  ModelMetadata,
  ModelStatistics,
  ServerMetadata,
  TensorMetadata,
} from "./server-info.ts";
export type { SharedMemoryStatus } from "./shared/shared-memory.ts";
export { type Tensor, tensor, toStrings } from "./tensor.ts";
export { inferTyped, type OutputTypes, type TypedInferOptions, type TypedInferResult } from "./typed.ts";
export type { ParameterValue } from "./wire/request.ts";
