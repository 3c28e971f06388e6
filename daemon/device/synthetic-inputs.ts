/** Made-up inputs for trial runs: values that nearly any model takes, or those that its settings name. */
import { elementOf } from "../engine/sequence.ts";
import { type Datatype, ELEMENT_BYTES, type TensorData } from "../engine/tensors.ts";
import type { LoadRequest } from "./messages.ts";
import { fillElements } from "./pad.ts";

const SEED = 0x9e3779b9;
/** Also a valid number, for models that parse. */
const TEXT = "0";

/** How numbers are made up. */
export type Fill = (datatype: Exclude<Datatype, "BYTES">, bytes: Uint8Array, seed?: number) => void;

/**
 * `count` elements of an input.
 *
 * @param value what they all are; null: made up
 */
export function syntheticData(
  datatype: Datatype,
  count: number,
  value: number | string | null,
  fill: Fill = fillSynthetic,
  seed?: number,
): TensorData {
  if (datatype === "BYTES") return new Array<Uint8Array>(count).fill(Buffer.from(String(value ?? TEXT)));
  const bytes = new Uint8Array(count * ELEMENT_BYTES[datatype]!);
  if (value === null) fill(datatype, bytes, seed);
  else fillElements(bytes, 0, bytes.length, elementOf(datatype, Number(value))!);
  return bytes;
}

/**
 * The model with all values made up, and as its settings name them where they do: to be tried in this order to see whether rows or padding
 * matter, which values that are all alike hide.
 */
export function madeUpFirst<T extends Pick<LoadRequest, "warmValues">>(model: T): readonly T[] {
  if (model.warmValues.every((value) => value === null)) return [model];
  return [{ ...model, warmValues: model.warmValues.map(() => null) }, model];
}

/**
 * Fills a tensor's bytes. Fractions within 0..1 for floating point, from a fixed sequence so that runs compare; ones for
 * integers and booleans, which are valid as token ids, as masks and as sizes.
 */
export const fillSynthetic: Fill = (datatype, bytes, seed = SEED) => {
  const elementBytes = ELEMENT_BYTES[datatype]!;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let state = seed;
  for (let offset = 0; offset < bytes.byteLength; offset += elementBytes) {
    switch (datatype) {
      case "FP32":
        state = nextState(state);
        view.setFloat32(offset, state / 2 ** 32, true);
        break;
      case "FP64":
        state = nextState(state);
        view.setFloat64(offset, state / 2 ** 32, true);
        break;
      case "FP16":
        state = nextState(state);
        // Exponent 14 is 0.5..1: any mantissa will do.
        view.setUint16(offset, (14 << 10) | (state >>> 22), true);
        break;
      default:
        view.setUint8(offset, 1);
    }
  }
};

/**
 * Like `fillSynthetic`, with a sequence of its own for each seed and zeros and ones for integers: what differs from place to
 * place, and is valid wherever ones are.
 */
export const fillVaried: Fill = (datatype, bytes, seed = SEED) => {
  fillSynthetic(datatype, bytes, seed);
  if (datatype.startsWith("FP")) return;
  const elementBytes = ELEMENT_BYTES[datatype]!;
  let state = nextState(seed);
  for (let offset = 0; offset < bytes.byteLength; offset += elementBytes) {
    state = nextState(state);
    if (state < 2 ** 31) bytes[offset] = 0;
  }
};

/** Numerical Recipes' linear congruential generator; its high bits are what is used. */
function nextState(state: number): number {
  return (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
}
