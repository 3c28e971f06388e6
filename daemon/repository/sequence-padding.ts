/** What a model's configuration and its ONNX file say about padding sequences to common lengths. */
import { elementOf, type SequencePadding } from "../engine/sequence.ts";
import { varyingDimensions } from "../engine/shape-key.ts";
import type { TensorSpec } from "../engine/tensors.ts";
import type { BatchedInterface, DeclaredInterface } from "./batch-dimension.ts";
import { dimensionName } from "./dimension-names.ts";
import type { WrittenModelConfig } from "./written-config.ts";

/** The largest length to warm where the configuration names none. */
const LENGTH_MAX_DEFAULT = 256;
/** Names under which exporters write the input that tells tokens from padding. */
const MASK_NAME = /^(?:attention_?|input_?|token_?|sequence_?)?mask$/i;

type Report = (at: readonly (string | number)[], message: string) => void;

export interface DerivedSequence {
  readonly sequence: SequencePadding | null;
  /** What the model's owner may want to turn on; null where there is nothing to propose. */
  readonly proposal: string | null;
}

const NONE: DerivedSequence = { sequence: null, proposal: null };

/**
 * Padding changes the answers of a model that does not know padding from tokens. It is therefore never assumed: where an
 * input looks like a mask it is proposed, and what the configuration asks for is tried out when the model is loaded.
 */
export function deriveSequence(
  interfaces: BatchedInterface,
  declared: DeclaredInterface,
  written: WrittenModelConfig,
  problem: Report,
): DerivedSequence {
  const asked = written.sequence;
  const hasWarmShapes = (written.warm_shapes ?? []).length > 0;
  const obstacle = obstacleTo(interfaces, declared);
  const recognised = obstacle === null ? recognisedMask(interfaces) : null;
  if (asked === undefined) {
    if (recognised === null || hasWarmShapes) return NONE;
    const proposal = `only its requests of equal length share a batch; \`sequence: { mask: ${recognised} }\` in config.yaml lets different lengths share one`;
    return { sequence: null, proposal };
  }
  if (obstacle !== null) {
    problem(["sequence"], obstacle);
    return NONE;
  }
  if (hasWarmShapes) {
    problem(["warm_shapes"], "can't stand beside sequence, whose lengths are what is warmed");
  }
  const { pad = {}, lengths = null, length_max: lengthMax } = asked;
  const mask = maskOf(interfaces, asked.mask ?? "auto", recognised, problem);
  checkPad(interfaces, pad, problem);
  if (lengths !== null && lengthMax !== undefined) {
    problem(["sequence", "length_max"], "has a meaning only where lengths are chosen by measuring, not beside lengths");
  }
  const longest = lengths?.at(-1) ?? lengthMax ?? LENGTH_MAX_DEFAULT;
  return { sequence: { lengths, lengthMax: longest, mask, pad, outputAxes: {} }, proposal: null };
}

function sequenceInputs({ inputs, batched }: BatchedInterface): TensorSpec[] {
  return inputs.filter((input) => varyingDimensions(input, batched).length > 0);
}

/** Why sequences of this model can't be padded whatever its configuration says; null where they can. */
function obstacleTo(interfaces: BatchedInterface, declared: DeclaredInterface): string | null {
  const varying = sequenceInputs(interfaces);
  if (!interfaces.batched) return "needs a batch dimension, and the model has none";
  if (varying.length === 0) return "needs a dimension that varies besides the batch's, and no input has one";
  const symbols = new Set<string>();
  for (const { name, datatype, shape } of varying) {
    if (datatype === "BYTES") return `input '${name}' holds strings, which can't be padded`;
    const axes = varyingDimensions({ name, datatype, shape }, true);
    if (axes.length > 1) return `input '${name}' has several dimensions that vary: [${shape.slice(1)}]`;
    const symbol = dimensionName(declared.inputs.find((input) => input.name === name)?.dims?.[axes[0]!]);
    if (symbol !== null) symbols.add(symbol);
  }
  if (symbols.size < 2) return null;
  const names = [...symbols].map((symbol) => `'${symbol}'`).join(" and ");
  return `the inputs vary in different dimensions of the ONNX file: ${names}`;
}

function recognisedMask(interfaces: BatchedInterface): string | null {
  const inputs = sequenceInputs(interfaces);
  const found = inputs.filter(({ name, datatype }) => MASK_NAME.test(name) && !datatype.startsWith("FP"));
  return found.length === 1 && inputs.length > 1 ? found[0]!.name : null;
}

function maskOf(
  interfaces: BatchedInterface,
  given: string,
  recognised: string | null,
  problem: Report,
): string | null {
  const names = sequenceInputs(interfaces).map(({ name }) => name);
  if (names.includes(given)) return given;
  if (given === "none") return null;
  if (given === "auto" && recognised !== null) return recognised;
  const found = given === "auto" ? "no input looks like a mask" : `is '${given}', which is no input that is so long`;
  const message = `${found}; name one of ${names.join(", ")}, or none where padding changes no answer without one`;
  problem(["sequence", "mask"], message);
  return null;
}

function checkPad(interfaces: BatchedInterface, pad: Readonly<Record<string, number>>, problem: Report): void {
  const inputs = sequenceInputs(interfaces);
  for (const [name, value] of Object.entries(pad)) {
    const input = inputs.find((one) => one.name === name);
    if (input === undefined) {
      const names = inputs.map((one) => one.name);
      problem(["sequence", "pad", name], `is no input that is as long as the sequence; those are ${names}`);
    } else if (elementOf(input.datatype, value) === null) {
      problem(["sequence", "pad", name], `is ${value}, which input '${name}' (${input.datatype}) can't hold`);
    }
  }
}
