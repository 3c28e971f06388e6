/** Answers as messages: always raw contents, since clients decode nothing else for numeric types. */
import { ANSWER_PARAMETERS, TIMING_PARAMETERS } from "../../proto/parameters.ts";
import type { RequestTimings } from "../engine/ports.ts";
import { joinStrings, type Tensor } from "../engine/tensors.ts";
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

const CACHED: Readonly<Record<string, WireParameter>> = { [ANSWER_PARAMETERS.cacheHit]: { bool_param: true } };

/** That the answer was cached or is a fallback's, and lateness, are told unasked. */
function answerParameters(asked: AskedAnswer, timings: RequestTimings): Readonly<Record<string, WireParameter>> {
  const { withTimings, fallbackCause } = asked;
  const cached = timings.lane === null;
  if (!withTimings && fallbackCause === null && timings.lateUs <= 0) return cached ? CACHED : NO_PARAMETERS;
  const told: Record<string, WireParameter> = {};
  if (cached) Object.assign(told, CACHED);
  if (fallbackCause !== null) told[ANSWER_PARAMETERS.fallback] = { string_param: fallbackCause };
  if (withTimings || timings.lateUs > 0) told[TIMING_PARAMETERS.lateUs] = integer(timings.lateUs);
  if (withTimings) tellTimings(told, timings);
  return told;
}

/** Where the time went; durations are microseconds. */
function tellTimings(told: Record<string, WireParameter>, timings: RequestTimings): void {
  const { waited, lane } = timings;
  told[TIMING_PARAMETERS.queueUs] = integer(timings.queueUs);
  told[TIMING_PARAMETERS.gatherUs] = integer(timings.gatherUs);
  told[TIMING_PARAMETERS.executeUs] = integer(timings.executeUs);
  told[TIMING_PARAMETERS.collectUs] = integer(timings.collectUs);
  if (lane !== null) {
    told[TIMING_PARAMETERS.batchItems] = integer(timings.batchItems);
    told[TIMING_PARAMETERS.bucket] = integer(timings.bucket);
    told[TIMING_PARAMETERS.lane] = { string_param: lane };
  }
  if (waited !== null) {
    told[TIMING_PARAMETERS.waitBlockedUs] = integer(waited.blockedUs);
    told[TIMING_PARAMETERS.waitOwnBatchesUs] = integer(waited.ownBatchesUs);
    told[TIMING_PARAMETERS.waitMispredictedUs] = integer(waited.mispredictedUs);
    told[TIMING_PARAMETERS.waitHeldUs] = integer(waited.heldUs);
    if (waited.blockedBy !== undefined) told[TIMING_PARAMETERS.waitBlockedBy] = { string_param: waited.blockedBy };
  }
}

function integer(value: number): WireParameter {
  return { int64_param: Math.round(value) };
}
