/** Inputs for a model, made from nothing but its metadata. */
import type { Datatype, NumericDatatype, Tensor, TensorDataByDatatype } from "slackline-client";
import { Random } from "../scenario/random.ts";

export interface InputSpec {
  readonly name: string;
  readonly datatype: string;
  /** −1 where a dimension varies; the batch dimension comes first where the model is batched. */
  readonly shape: readonly number[];
}

export type Inputs = Readonly<Record<string, Tensor>>;

/** Inputs of one model by number of items, several variants each, which take turns. */
export type PreparedModel = ReadonlyMap<number, readonly Inputs[]>;

/** Shapes of one item by input name, in place of what is chosen for dimensions that vary. */
export type ItemShapes = Readonly<Record<string, readonly number[]>>;

const ARRAYS: { readonly [D in NumericDatatype]: (length: number) => TensorDataByDatatype[D] } = {
  BOOL: (length) => new Uint8Array(length),
  UINT8: (length) => new Uint8Array(length),
  UINT16: (length) => new Uint16Array(length),
  UINT32: (length) => new Uint32Array(length),
  UINT64: (length) => new BigUint64Array(length),
  INT8: (length) => new Int8Array(length),
  INT16: (length) => new Int16Array(length),
  INT32: (length) => new Int32Array(length),
  INT64: (length) => new BigInt64Array(length),
  FP16: (length) => new Uint16Array(length),
  BF16: (length) => new Uint16Array(length),
  FP32: (length) => new Float32Array(length),
  FP64: (length) => new Float64Array(length),
};

/** What a dimension becomes that varies and that nobody gave a size for: one size for all, so that inputs fit together. */
const VARYING_DIMENSION = 32;
/** Whole numbers stay below this, so that they are valid as indexes into any vocabulary. */
const INDEX_LIMIT = 10;

/**
 * Tensors for a request of `items` items, the same for the same seed.
 *
 * @throws {Error} where a shape that was given does not fit the model's metadata
 */
export function makeInputs(
  specs: readonly InputSpec[],
  batched: boolean,
  items: number,
  shapes: ItemShapes,
  seed: number,
): Inputs {
  const unknown = Object.keys(shapes).filter((name) => !specs.some((spec) => spec.name === name));
  if (unknown.length > 0) {
    const names = specs.map(({ name }) => name).join(", ");
    throw new Error(`shapes: no input is named ${unknown.join(", ")}; there are: ${names}`);
  }
  const random = new Random(seed, "payload");
  const inputs: Record<string, Tensor> = {};
  for (const spec of specs) inputs[spec.name] = makeTensor(spec, shapeOf(spec, batched, items, shapes), random);
  return inputs;
}

function shapeOf(spec: InputSpec, batched: boolean, items: number, shapes: ItemShapes): number[] {
  const declared = batched ? spec.shape.slice(1) : spec.shape;
  const given = shapes[spec.name];
  if (given !== undefined && !fits(given, declared)) {
    throw new Error(`shapes.${spec.name}: [${given}] does not fit the input, whose items have the shape [${declared}]`);
  }
  const item = given ?? declared.map((dim) => (dim < 0 ? VARYING_DIMENSION : dim));
  return batched ? [items, ...item] : [...item];
}

function isDatatype(name: string): name is Datatype {
  return name === "BYTES" || Object.hasOwn(ARRAYS, name);
}

function fits(given: readonly number[], declared: readonly number[]): boolean {
  return given.length === declared.length && declared.every((dim, d) => dim < 0 || dim === given[d]);
}

function makeTensor({ name, datatype, shape: declared }: InputSpec, shape: number[], random: Random): Tensor {
  if (!isDatatype(datatype)) {
    throw new Error(
      `input '${name}' has the datatype ${datatype} (shape [${declared}]), which the client does not know`,
    );
  }
  const count = shape.reduce((product, dim) => product * dim, 1);
  if (datatype === "BYTES") {
    const encoder = new TextEncoder();
    const data = Array.from({ length: count }, () => encoder.encode(`text ${random.integer(0, 9999)}`));
    return { datatype, shape, data };
  }
  const element = elementMaker(name, datatype, random);
  const data = ARRAYS[datatype](count);
  for (let i = 0; i < count; i++) data[i] = element();
  return { datatype, shape, data } as Tensor;
}

/** Values that any model can take: reals in [0, 1), small indexes, masks that hide nothing. */
function elementMaker(name: string, datatype: Datatype, random: Random): () => number | bigint {
  const wide = datatype === "INT64" || datatype === "UINT64";
  const whole = (n: number): number | bigint => (wide ? BigInt(n) : n);
  switch (datatype) {
    case "FP32":
    case "FP64":
      return () => random.uniform();
    case "FP16":
      // Bit patterns from 0.5 up to 1: one exponent, any mantissa.
      return () => 0x3800 + random.integer(0, 1023);
    case "BF16":
      return () => 0x3f00 + random.integer(0, 127);
    case "BOOL":
      return () => 1;
    default:
      if (/mask/i.test(name)) return () => whole(1);
      if (/type|segment/i.test(name)) return () => whole(0);
      return () => whole(random.integer(0, INDEX_LIMIT - 1));
  }
}
