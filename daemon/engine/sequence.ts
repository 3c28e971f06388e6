/**
 * Sequence lengths: a dimension that varies from request to request and can be padded. Requests are padded to the next of a
 * few lengths that were warmed, so that different lengths share a batch, and their outputs are cut back to their own.
 */
import { toHalf } from "./half.ts";
import { type ShapedModel, shapeKey, shapesOfKey, varyingDimensions } from "./shape-key.ts";
import { type Datatype, ELEMENT_BYTES } from "./tensors.ts";

/** How a model's requests may be padded along the one dimension, besides the batch's, in which its inputs vary. */
export interface SequencePadding {
  /** What requests are padded to, ascending; null: chosen by measuring when the model is loaded. */
  readonly lengths: readonly number[] | null;
  /** The largest length to consider where they are chosen by measuring. */
  readonly lengthMax: number;
  /** The input that is 1 for a request's own elements and 0 for padding; null: the model needs none. */
  readonly mask: string | null;
  /** What the padding of each input holds, by name; 0 for those that are not named. */
  readonly pad: Readonly<Record<string, number>>;
  /** By output: its dimensions that are as long as the sequence. Empty until a load has found them by trying. */
  readonly outputAxes: OutputAxes;
}

export type OutputAxes = Readonly<Record<string, readonly number[]>>;

export interface PaddableModel extends ShapedModel {
  readonly sequence: SequencePadding | null;
}

/** That a request stands in its batch longer than it is. */
export interface Padding {
  /** Its own length. */
  readonly length: number;
  readonly paddedLength: number;
  readonly outputAxes: OutputAxes;
}

/** The shape key under which a request waits and executes, and how it is padded to that; null: it has this shape itself. */
export interface BucketedShape {
  readonly shape: string;
  readonly padding: Padding | null;
}

/** Index of the dimension that is as long as the sequence; null where the input has none. */
export function sequenceAxis(model: ShapedModel, input: number): number | null {
  return varyingDimensions(model.inputs[input]!, model.batched)[0] ?? null;
}

/** The key of requests whose every varying dimension is `length`. */
export function keyOfLength(model: ShapedModel, length: number): string {
  return shapeKey(
    model,
    model.inputs.map(({ shape }) => shape.map((size) => (size < 0 ? length : size))),
  );
}

/** The lengths of which these are keys, ascending; keys of requests that have no single length are passed over. */
export function lengthsOfKeys(model: ShapedModel, keys: readonly string[]): number[] {
  const lengths = keys.map((key) => commonLength(model, shapesOfKey(model, key, 1)));
  return lengths.filter((length) => length !== null).sort((a, b) => a - b);
}

/**
 * Where a request of these input shapes belongs. One that is longer than the longest length, or whose inputs differ in
 * theirs, keeps its own shape.
 */
export function bucketedShape(model: PaddableModel, shapes: readonly (readonly number[])[]): BucketedShape {
  const length = model.sequence === null ? null : commonLength(model, shapes);
  const paddedLength = length === null ? undefined : model.sequence!.lengths?.find((one) => one >= length);
  if (length === null || paddedLength === undefined) return { shape: shapeKey(model, shapes), padding: null };
  const { outputAxes } = model.sequence!;
  const padding = length === paddedLength ? null : { length, paddedLength, outputAxes };
  return { shape: keyOfLength(model, paddedLength), padding };
}

function commonLength(model: ShapedModel, shapes: readonly (readonly number[])[]): number | null {
  let common: number | null = null;
  for (let input = 0; input < shapes.length; input++) {
    const axis = sequenceAxis(model, input);
    if (axis === null) continue;
    const length = shapes[input]![axis]!;
    if (length === 0 || (common !== null && length !== common)) return null;
    common = length;
  }
  return common;
}

/** One element of this value in wire order; null where the datatype has no such value. */
export function elementOf(datatype: Datatype, value: number): Uint8Array | null {
  const size = ELEMENT_BYTES[datatype];
  if (size === null) return null;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  switch (datatype) {
    case "FP32":
      view.setFloat32(0, value, true);
      return Number.isFinite(Math.fround(value)) ? bytes : null;
    case "FP64":
      view.setFloat64(0, value, true);
      return bytes;
    case "FP16": {
      const bits = toHalf(value);
      view.setUint16(0, bits ?? 0, true);
      return bits === null ? null : bytes;
    }
    case "BOOL":
      view.setUint8(0, value);
      return value === 0 || value === 1 ? bytes : null;
    default:
      return integerElement(bytes, !datatype.startsWith("U"), value);
  }
}

function integerElement(bytes: Uint8Array, signed: boolean, value: number): Uint8Array | null {
  if (!Number.isSafeInteger(value)) return null;
  const bits = bytes.length * 8;
  const whole = BigInt(value);
  if ((signed ? BigInt.asIntN(bits, whole) : BigInt.asUintN(bits, whole)) !== whole) return null;
  for (let byte = 0; byte < bytes.length; byte++) bytes[byte] = Number(BigInt.asUintN(8, whole >> BigInt(8 * byte)));
  return bytes;
}
