/** The sentences with which invalid requests are refused; clients and tests know them word for word. */
import type { TensorSpec } from "../../engine/tensors.ts";
import { invalid, RpcError } from "../errors.ts";
import { shown, shownShape } from "../text.ts";

export function malformedMessage(): RpcError {
  return invalid("the message is not a valid ModelInferRequest");
}

export function tooMuchDescription(max: number): RpcError {
  return invalid(
    `what describes the request's tensors (their names, shapes and parameters, and how many there are) takes more than ${max} bytes: tensor data belongs into raw_input_contents or contents`,
  );
}

export function unknownModel(name: string, version: string): RpcError {
  const of = version === "" ? "" : ` version ${shown(version)}`;
  return new RpcError("NOT_FOUND", "not_found", `Request for unknown model: '${shown(name)}'${of} is not found`);
}

export function batchTooLarge(model: string, max: number): RpcError {
  return invalid(`inference request batch-size must be <= ${max} for '${model}'`);
}

export function batchesDiffer(
  input: string,
  items: number,
  first: string,
  firstItems: number,
  model: string,
): RpcError {
  return invalid(
    `input '${input}' has batch size ${items}, but input '${first}' has ${firstItems} for model '${model}': all inputs of a request have one batch size`,
  );
}

export function unexpectedInput(input: string, model: string, known: Iterable<string>): RpcError {
  return invalid(`unexpected inference input '${shown(input)}' for model '${model}'${knownNames("inputs", known)}`);
}

export function duplicateInput(input: string, model: string): RpcError {
  return invalid(`inference input '${input}' is given more than once for model '${model}'`);
}

export function unexpectedOutput(output: string, model: string, known: Iterable<string>): RpcError {
  return invalid(`unexpected inference output '${shown(output)}' for model '${model}'${knownNames("outputs", known)}`);
}

const NAMES_SHOWN_MAX = 20;

function knownNames(what: "inputs" | "outputs", known: Iterable<string>): string {
  const names = [...known];
  if (names.length === 0) return `; it has no ${what}`;
  const more = names.length > NAMES_SHOWN_MAX ? ` and ${names.length - NAMES_SHOWN_MAX} more` : "";
  return `; its ${what} are ${names.slice(0, NAMES_SHOWN_MAX).map(shown).join(", ")}${more}`;
}

export function sharedDimensionDiffers(
  dimension: string,
  got: readonly { readonly name: string; readonly shape: readonly number[] }[],
  model: string,
): RpcError {
  const shapes = got.map(({ name, shape }) => `'${name}' is ${shownShape(shape)}`).join(", ");
  return invalid(`inputs of model '${model}' must agree in dimension '${shown(dimension)}', but ${shapes}`);
}

export function missingInputs(expected: number, got: number, missing: readonly string[], model: string): RpcError {
  return invalid(
    `expected ${expected} inputs but got ${got} inputs for model '${model}'. Missing: ${missing.join(", ")}`,
  );
}

export function wrongDatatype(spec: TensorSpec, got: string, model: string): RpcError {
  return invalid(
    `inference input '${spec.name}' data-type is '${shown(got)}', but model '${model}' expects '${spec.datatype}'`,
  );
}

/** @param tooSmall the dimension that varies, but not below 1: "the batch"; null where that is not what is wrong */
export function wrongShape(
  spec: TensorSpec,
  got: readonly { toString(): string }[],
  tooSmall: string | null,
  model: string,
): RpcError {
  const why = tooSmall === null ? "" : `: ${tooSmall} must be at least 1`;
  return invalid(
    `unexpected shape for input '${spec.name}' for model '${model}'. Expected ${shownShape(spec.shape)}, got ${shownShape(got)}${why}`,
  );
}

export function wrongByteCount(input: string, expected: bigint | number, got: number, model: string): RpcError {
  return invalid(
    `input byte size mismatch for input '${input}' for model '${model}'. Expected ${expected}, got ${got}`,
  );
}

export function bothContents(input: string, model: string): RpcError {
  return invalid(
    `contents field must not be specified when using raw_input_contents for '${input}' for model '${model}'`,
  );
}

export function wrongRawCount(expected: number, got: number, model: string): RpcError {
  return invalid(
    `expected ${expected} entries in raw_input_contents but got ${got} for model '${model}': one for each input that is not in shared memory, in order`,
  );
}

export function mustBeRaw(spec: TensorSpec, model: string): RpcError {
  return invalid(
    `input '${spec.name}' for model '${model}' has data-type '${spec.datatype}', which must be sent in raw_input_contents`,
  );
}

export function wrongContentsField(spec: TensorSpec, expected: string, got: string, model: string): RpcError {
  return invalid(
    `input '${spec.name}' for model '${model}' has data-type '${spec.datatype}' and is sent in ${expected}, but got ${got}`,
  );
}

export function valueOutOfRange(spec: TensorSpec, value: number, model: string): RpcError {
  return invalid(
    `value ${value} of input '${spec.name}' for model '${model}' does not fit data-type '${spec.datatype}'`,
  );
}

export function badBool(input: string, value: number, model: string): RpcError {
  return invalid(`byte ${value} of input '${input}' for model '${model}' is no BOOL: elements are 0 or 1`);
}

export function wrongStringCount(input: string, expected: bigint | number, got: number, model: string): RpcError {
  return invalid(`expected ${expected} string elements for input '${input}' for model '${model}', got ${got}`);
}

export function brokenString(input: string, index: number, says: number | null, left: number, model: string): RpcError {
  const what = says === null ? "needs a length of 4 bytes" : `has a length of ${says} bytes`;
  return invalid(
    `string element ${index} of input '${input}' for model '${model}' ${what}, but ${left} bytes are left`,
  );
}

export function noText(input: string, index: number, what: string, model: string): RpcError {
  return invalid(
    `string element ${index} of input '${input}' for model '${model}' ${what}, which strings of ONNX can't hold: send bytes as UINT8, or encode them`,
  );
}

export function badParameter(name: string, expected: string, got: string): RpcError {
  return invalid(`request parameter '${name}' must be ${expected}, got ${shown(got)}`);
}

/** @param known those that there are */
export function unknownParameter(name: string, known: readonly string[]): RpcError {
  return invalid(`there is no request parameter '${shown(name)}'; slackline's own are ${known.join(", ")}`);
}

export function sequencesNotOffered(): RpcError {
  return new RpcError(
    "INVALID_ARGUMENT",
    "not_offered",
    "sequence_id: sequences are not offered, every request stands alone; keep state in the caller, or pass it as inputs and outputs",
  );
}

export function classificationNotOffered(output: string): RpcError {
  return new RpcError(
    "INVALID_ARGUMENT",
    "not_offered",
    `classification of output '${shown(output)}' is not offered; ask for the output itself and pick the largest values in the caller`,
  );
}
