/** Answers as messages: always raw contents, since clients decode nothing else for numeric types. */
import { FALLBACK_PARAMETER, TIMING_PARAMETERS } from "../../proto/parameters.ts";
import type { RequestTimings } from "../engine/ports.ts";
import type { StringElements, Tensor } from "../engine/tensors.ts";
import type { ModelPlan } from "./decode/model-plan.ts";
import type { WireOutput, WireParameter, WireResponse } from "./messages.ts";

/** Takes outputs out of the message. */
export interface SharedOutputs {
  /** The parameters with which the output is answered where it went to shared memory, else null. Throws `RpcError`. */
  write(output: string, bytes: Uint8Array): Readonly<Record<string, WireParameter>> | null;
}

/** What a request says about its answer. */
export interface AskedAnswer {
  readonly plan: ModelPlan;
  readonly id: string;
  /** Whether the caller asked where its time went. */
  readonly withTimings: boolean;
  /** Where this model answers in place of the one that was asked for: why; else null. */
  readonly fallbackCause: string | null;
  /** null where all outputs go into the message. */
  readonly shared: SharedOutputs | null;
}

/** The answer's message, with views on the outputs' bytes: to be encoded before those die. */
export function answerMessage(asked: AskedAnswer, tensors: readonly Tensor[], timings: RequestTimings): WireResponse {
  const outputs: WireOutput[] = [];
  const raws: Uint8Array[] = [];
  for (const tensor of tensors) {
    const { name, datatype, shape } = tensor;
    const bytes = tensor.data instanceof Uint8Array ? tensor.data : joinStrings(tensor.data);
    const parameters = asked.shared?.write(name, bytes) ?? NO_PARAMETERS;
    outputs.push({ name, datatype, shape, parameters });
    // Clients find an output's bytes by its place among all outputs, so those in shared memory have an entry too.
    raws.push(parameters === NO_PARAMETERS ? bytes : NO_BYTES);
  }
  const { plan } = asked;
  return {
    model_name: plan.version.name,
    model_version: plan.versionText,
    id: asked.id,
    parameters: answerParameters(asked, timings),
    outputs,
    raw_output_contents: raws,
  };
}

const NO_BYTES = new Uint8Array(0);
const NO_PARAMETERS: Readonly<Record<string, WireParameter>> = {};

/** Elements of a BYTES tensor as they travel: each its length (4 bytes, little-endian) and its bytes. */
export function joinStrings(elements: StringElements): Buffer {
  let total = 0;
  for (const element of elements) total += 4 + element.byteLength;
  const bytes = Buffer.allocUnsafe(total);
  let offset = 0;
  for (const element of elements) {
    offset = bytes.writeUInt32LE(element.byteLength, offset);
    bytes.set(element, offset);
    offset += element.byteLength;
  }
  return bytes;
}

function answerParameters(
  { withTimings, fallbackCause }: AskedAnswer,
  timings: RequestTimings,
): Readonly<Record<string, WireParameter>> {
  const parameters = timingParameters(timings, withTimings);
  return fallbackCause === null ? parameters : { ...parameters, [FALLBACK_PARAMETER]: { string_param: fallbackCause } };
}

/** Response parameters that tell where the time went; lateness is told unasked. Durations are microseconds. */
function timingParameters(timings: RequestTimings, all: boolean): Readonly<Record<string, WireParameter>> {
  if (!all) return timings.lateUs > 0 ? { [TIMING_PARAMETERS.lateUs]: integer(timings.lateUs) } : NO_PARAMETERS;
  const waited = timings.waited;
  return {
    [TIMING_PARAMETERS.queueUs]: integer(timings.queueUs),
    [TIMING_PARAMETERS.gatherUs]: integer(timings.gatherUs),
    [TIMING_PARAMETERS.executeUs]: integer(timings.executeUs),
    [TIMING_PARAMETERS.collectUs]: integer(timings.collectUs),
    [TIMING_PARAMETERS.batchItems]: integer(timings.batchItems),
    [TIMING_PARAMETERS.bucket]: integer(timings.bucket),
    [TIMING_PARAMETERS.lane]: { string_param: timings.lane },
    [TIMING_PARAMETERS.lateUs]: integer(timings.lateUs),
    ...(waited === null
      ? {}
      : {
          [TIMING_PARAMETERS.waitBlockedUs]: integer(waited.blockedUs),
          [TIMING_PARAMETERS.waitOwnBatchesUs]: integer(waited.ownBatchesUs),
          [TIMING_PARAMETERS.waitMispredictedUs]: integer(waited.mispredictedUs),
          [TIMING_PARAMETERS.waitHeldUs]: integer(waited.heldUs),
        }),
    ...(waited?.blockedBy === undefined
      ? {}
      : { [TIMING_PARAMETERS.waitBlockedBy]: { string_param: waited.blockedBy } }),
  };
}

function integer(value: number): WireParameter {
  return { int64_param: Math.round(value) };
}
