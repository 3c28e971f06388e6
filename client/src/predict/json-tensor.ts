/** Tensors as nested arrays of JSON. */
import { ARRAY_CLASSES, type Datatype, elementCount } from "../datatypes.ts";
import { invalidArgument } from "../errors.ts";
import type { TensorMetadata } from "../server-info.ts";
import type { Tensor } from "../tensor.ts";
import { ELEMENT_FORMATS, type Element } from "./elements.ts";

const SHOWN_CHARACTERS_MAX = 40;

/** A value of JSON for messages: short, and never what arrays and objects hold, which may be nested as deep as a line allows. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(shortened(value));
  if (typeof value !== "object" || value === null) return String(value);
  return Array.isArray(value) ? "an array" : "an object";
}

/** Text of any length for messages. */
export function shortened(text: string): string {
  return text.length > SHOWN_CHARACTERS_MAX ? `${text.slice(0, SHOWN_CHARACTERS_MAX)}…` : text;
}

/** The dimensions that the first entries of nested arrays have; the declared ones below an empty array. */
function shapeOf(value: unknown, { name, shape }: TensorMetadata): number[] {
  const dims: number[] = [];
  let at = value;
  for (const [depth, declared] of shape.entries()) {
    if (depth > 0 && dims[depth - 1] === 0) {
      dims.push(Math.max(0, declared));
      continue;
    }
    if (!Array.isArray(at)) {
      throw invalidArgument(
        `input '${name}'${"[0]".repeat(depth)} is ${shown(at)}; expected ${shape.length} arrays in one another, of shape [${shape}]${shape.includes(-1) ? " (-1: any)" : ""}`,
      );
    }
    if (declared >= 0 && at.length !== declared) {
      const place = "[0]".repeat(depth);
      throw invalidArgument(
        `input '${name}'${place} has ${at.length} entries; expected ${declared}, of shape [${shape}]`,
      );
    }
    dims.push(at.length);
    at = at[0];
  }
  return dims;
}

/** The data of one item from nested arrays, checked against what the model declares of it; throws INVALID_ARGUMENT. */
export function tensorFromJson(value: unknown, declared: TensorMetadata): Tensor {
  const { name, datatype } = declared;
  const shape = shapeOf(value, declared);
  const format = ELEMENT_FORMATS[datatype];
  const count = elementCount(shape);
  const data = emptyData(datatype, count);
  let next = 0;
  const fill = (from: unknown, depth: number, place: string): void => {
    if (depth === shape.length) {
      const element = format.read(from);
      if (element === undefined) {
        throw invalidArgument(`input '${name}'${place} is ${shown(from)}; ${datatype} takes ${format.expected}`);
      }
      data[next++] = element;
      return;
    }
    if (!Array.isArray(from) || from.length !== shape[depth]) {
      const got = Array.isArray(from) ? `${from.length} entries` : shown(from);
      throw invalidArgument(
        `input '${name}'${place} has ${got}; expected ${shape[depth]} entries, as its first sibling has (shape [${shape}])`,
      );
    }
    for (let i = 0; i < from.length; i++) {
      // Where the innermost arrays are of numbers that fit, as nearly all are, no place needs to be spelled out.
      const element = depth === shape.length - 1 ? format.read(from[i]) : undefined;
      if (element === undefined) fill(from[i], depth + 1, `${place}[${i}]`);
      else data[next++] = element;
    }
  };
  fill(value, 0, "");
  return { datatype, shape, data } as unknown as Tensor;
}

function emptyData(datatype: Datatype, count: number): Element[] {
  if (datatype === "BYTES") return [];
  const ArrayClass = ARRAY_CLASSES[datatype];
  return new ArrayClass(new ArrayBuffer(count * ArrayClass.BYTES_PER_ELEMENT), 0, count) as unknown as Element[];
}

/** Nested arrays with a tensor's elements. */
export function tensorToJson({ datatype, shape, data }: Tensor): unknown {
  const format = ELEMENT_FORMATS[datatype];
  let next = 0;
  const nest = (depth: number): unknown =>
    depth === shape.length ? format.write(data[next++]!) : Array.from({ length: shape[depth]! }, () => nest(depth + 1));
  return nest(0);
}
