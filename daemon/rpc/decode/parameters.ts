/** Request parameters: those that mean something here, checked. */
import { REQUEST_PARAMETERS } from "../../../proto/parameters.ts";
import type { ReadParameter, ReadParameters, WireLong } from "../messages.ts";
import { badParameter, sequencesNotOffered, unknownParameter } from "./refusals.ts";

export interface RequestParameters {
  /** The caller's own time from receipt to answer, microseconds; the smaller where two parameters state one. */
  readonly withinUs: number | null;
  /** null where the caller does not say. */
  readonly bestEffort: boolean | null;
  /** Whether the answer is to tell where its time went. */
  readonly timings: boolean;
  /** Whether the outputs that the request names are no choice of outputs, but places for some of them. */
  readonly allOutputs: boolean;
  /** Requests of one key go to one version of the model; null where any will do. */
  readonly trafficKey: string | null;
  /** Not a request: cancels the one with the same id on the same stream. */
  readonly cancel: boolean;
}

const NONE: RequestParameters = {
  withinUs: null,
  bestEffort: null,
  timings: false,
  allOutputs: false,
  trafficKey: null,
  cancel: false,
};

const UNSET: ReadParameter = {};

/** Longer is no deadline to plan by, and keeps sums of microseconds exact. */
const WITHIN_US_MAX = 2 ** 50;

const KEY_LENGTH_MAX = 256;

const OWN_PREFIX = "slackline_";
const OWN_PARAMETERS: readonly string[] = Object.values(REQUEST_PARAMETERS).filter((name) =>
  name.startsWith(OWN_PREFIX),
);

/**
 * Reads the parameters of a request. Unknown ones are ignored, as clients send their own, but not those with our prefix. Throws `RpcError` for values
 * that can't be meant and for what is not offered.
 */
export function readRequestParameters(parameters: ReadParameters): RequestParameters {
  const names = Object.keys(parameters);
  if (names.length === 0) return NONE;
  let withinUs: number | null = null;
  let bestEffort: boolean | null = null;
  let timings = false;
  let allOutputs = false;
  let trafficKey: string | null = null;
  let cancel = false;
  for (const name of names) {
    const parameter = parameters[name] ?? UNSET;
    switch (name) {
      case REQUEST_PARAMETERS.deadlineMs:
        withinUs = least(withinUs, millisecondsToUs(name, parameter));
        break;
      case REQUEST_PARAMETERS.timeoutUs:
        withinUs = least(withinUs, timeoutUs(name, parameter));
        break;
      case REQUEST_PARAMETERS.priority:
        // Accepted since existing clients send it; order here follows deadlines and weights.
        integer(name, parameter);
        break;
      case REQUEST_PARAMETERS.bestEffort:
        bestEffort = flag(name, parameter);
        break;
      case REQUEST_PARAMETERS.timings:
        timings = flag(name, parameter);
        break;
      case REQUEST_PARAMETERS.allOutputs:
        allOutputs = flag(name, parameter);
        break;
      case REQUEST_PARAMETERS.trafficKey:
        trafficKey = key(name, parameter);
        break;
      case REQUEST_PARAMETERS.cancel:
        cancel = flag(name, parameter);
        break;
      case "sequence_id":
      case "sequence_start":
      case "sequence_end":
        if (isSet(parameter)) throw sequencesNotOffered();
        break;
      default:
        // What is asked of this server alone must not go unheard.
        if (name.startsWith(OWN_PREFIX)) throw unknownParameter(name, OWN_PARAMETERS);
    }
  }
  return { withinUs, bestEffort, timings, allOutputs, trafficKey, cancel };
}

function least(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.min(a, b);
}

/** A parameter's value; undefined where no member is set. */
export function parameterValue(parameter: ReadParameter): boolean | number | string | WireLong | undefined {
  return parameter.parameter_choice === undefined ? undefined : parameter[parameter.parameter_choice];
}

function shownValue(parameter: ReadParameter): string {
  const value = parameterValue(parameter);
  return typeof value === "string" ? `'${value}'` : String(value ?? "nothing");
}

function millisecondsToUs(name: string, parameter: ReadParameter): number {
  const value = parameterValue(parameter);
  const text = typeof value === "string" && value.trim() !== "";
  const ms = typeof value === "boolean" || (typeof value === "string" && !text) ? Number.NaN : Number(value);
  if (!(ms > 0)) throw badParameter(name, "a number of milliseconds greater than 0", shownValue(parameter));
  return Math.min(Math.round(ms * 1000), WITHIN_US_MAX);
}

/** Microseconds; 0 means none, as clients that always send it mean it. */
function timeoutUs(name: string, parameter: ReadParameter): number | null {
  const us = integer(name, parameter, "an integer number of microseconds (int64 or uint64), not negative");
  return us === 0 ? null : Math.min(us, WITHIN_US_MAX);
}

/** A non-negative integer of either 64-bit member. */
export function integer(name: string, parameter: ReadParameter, expected = "an integer, not negative"): number {
  const choice = parameter.parameter_choice;
  const value = choice === "int64_param" || choice === "uint64_param" ? Number(parameter[choice]) : Number.NaN;
  if (!(value >= 0)) throw badParameter(name, expected, shownValue(parameter));
  return value;
}

function key(name: string, parameter: ReadParameter): string {
  const value = parameterValue(parameter);
  if (typeof value === "string" && value !== "" && value.length <= KEY_LENGTH_MAX) return value;
  throw badParameter(name, `a string of 1 to ${KEY_LENGTH_MAX} characters`, shownValue(parameter));
}

function flag(name: string, parameter: ReadParameter): boolean {
  const value = parameterValue(parameter);
  if (typeof value === "boolean") return value;
  if (value === "true" || value === "false") return value === "true";
  throw badParameter(name, "true or false", shownValue(parameter));
}

/** Whether a parameter says more than its type's nothing: clients send ids of 0 and flags of false. */
export function isSet(parameter: ReadParameter | null | undefined): boolean {
  if (parameter == null) return false;
  const value = parameterValue(parameter);
  return typeof value === "string" ? value !== "" : Number(value ?? 0) !== 0;
}
