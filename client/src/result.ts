/** What `infer` resolves with. */
import type { Datatype } from "./datatypes.ts";
import { SlacklineError } from "./errors.ts";
import { ANSWER_PARAMETERS, TIMING_PARAMETERS } from "./generated/parameters.ts";
import type { Tensor } from "./tensor.ts";
import type { ParameterValue } from "./wire/request.ts";
import type { WireResponse } from "./wire/response.ts";

/** Where a request's time went at the daemon; durations in microseconds. */
export interface InferTimings {
  /** From arrival to the start of its execution. */
  readonly queueUs: number;
  /** Copying inputs into the device's memory. */
  readonly gatherUs: number;
  /** The model's execution. */
  readonly executeUs: number;
  /** Reading outputs back. */
  readonly collectUs: number;
  /** Items of the batch it was executed in; 0 where the answer was cached. */
  readonly batchItems: number;
  /** Items the batch was padded to; 0 where the answer was cached. */
  readonly bucket: number;
  /** What executed it; empty where the answer was cached. */
  readonly lane: string;
  /** What `queueUs` was made of, where the daemon explains it. */
  readonly waited: {
    /** Other models' batches were executed; `blockedBy` names the model that cost most. */
    readonly blockedUs: number;
    readonly blockedBy: string | undefined;
    /** This model's earlier batches were executed. */
    readonly ownBatchesUs: number;
    /** Of all that, how much longer executions took than predicted. */
    readonly mispredictedUs: number;
    /** The device was free, and the scheduler held the request back. */
    readonly heldUs: number;
  } | null;
}

/** An answer. */
export class InferResult {
  /** The model that answered: another one than was asked for, where that fell back on it. */
  readonly model: string;
  /** The version that answered. */
  readonly version: string;
  /** Output tensors by name. Their data may be views on the received message: copy what you keep for long. */
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** How long after its deadline the answer was ready, in milliseconds; 0 where on time or without one. */
  readonly lateMs: number;
  /** Where the model that was asked for fell back on this one: why (`late`, `queue_items`, …). */
  readonly fallback: string | undefined;
  /** Whether the daemon had the answer from an earlier, equal request and executed nothing. */
  readonly cached: boolean;
  /** Where asked for with `timings: true` and the server is slackline. */
  readonly timings: InferTimings | undefined;
  /** Everything that the server sent beside the outputs. */
  readonly parameters: Readonly<Record<string, ParameterValue>>;

  constructor(response: WireResponse) {
    this.model = response.model;
    this.version = response.version;
    this.outputs = response.outputs;
    this.parameters = response.parameters;
    this.lateMs = Number(response.parameters[TIMING_PARAMETERS.lateUs] ?? 0) / 1000;
    this.fallback = response.parameters[ANSWER_PARAMETERS.fallback]?.toString();
    this.cached = response.parameters[ANSWER_PARAMETERS.cacheHit] === true;
    this.timings = timingsOf(response.parameters);
  }

  /** The output of this name, checked to be of this datatype; throws INVALID_ARGUMENT where there is no such output. */
  output<D extends Datatype>(name: string, datatype: D): Tensor<D> {
    const found = this.outputs[name];
    if (found?.datatype === datatype) return found as Tensor<D>;
    const has = Object.entries(this.outputs).map(([output, { datatype: type }]) => `'${output}' (${type})`);
    const message = `model '${this.model}' gave no output '${name}' (${datatype}); it gave ${has.join(", ") || "none"}`;
    throw new SlacklineError("INVALID_ARGUMENT", message);
  }
}

function timingsOf(parameters: Readonly<Record<string, ParameterValue>>): InferTimings | undefined {
  const P = TIMING_PARAMETERS;
  if (parameters[P.queueUs] === undefined) return undefined;
  const number = (name: string): number => Number(parameters[name] ?? 0);
  const text = (name: string): string | undefined => parameters[name]?.toString();
  return {
    queueUs: number(P.queueUs),
    gatherUs: number(P.gatherUs),
    executeUs: number(P.executeUs),
    collectUs: number(P.collectUs),
    batchItems: number(P.batchItems),
    bucket: number(P.bucket),
    lane: text(P.lane) ?? "",
    waited:
      parameters[P.waitBlockedUs] === undefined
        ? null
        : {
            blockedUs: number(P.waitBlockedUs),
            blockedBy: text(P.waitBlockedBy),
            ownBatchesUs: number(P.waitOwnBatchesUs),
            mispredictedUs: number(P.waitMispredictedUs),
            heldUs: number(P.waitHeldUs),
          },
  };
}
