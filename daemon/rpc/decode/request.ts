/** From a received message to what the engine takes: everything about a request that the model's metadata can tell wrong. */
import { type BucketedShape, bucketedShape, type Padding } from "../../engine/sequence.ts";
import { ELEMENT_BYTES, type InputTensor, type OutsideBytes, type TensorSpec } from "../../engine/tensors.ts";
import type { SharedDimension } from "../../repository/model.ts";
import type { ReadInput, ReadParameters, ReadRequest, ReadRequestedOutput } from "../messages.ts";
import type { ModelPlan } from "./model-plan.ts";
import { isSet } from "./parameters.ts";
import { checkedBools, rawTensorData } from "./raw-contents.ts";
import {
  batchesDiffer,
  batchTooLarge,
  bothContents,
  classificationNotOffered,
  duplicateInput,
  missingInputs,
  sharedDimensionDiffers,
  unexpectedInput,
  unexpectedOutput,
  wrongByteCount,
  wrongDatatype,
  wrongRawCount,
  wrongShape,
  wrongStringCount,
} from "./refusals.ts";
import type { RequestMemory } from "./request-memory.ts";
import { elementCount, exactElementCount, matchShape, tooSmallAxis } from "./shapes.ts";
import { typedTensorData } from "./typed-contents.ts";

/** An input's bytes outside the message. Copying and reading throw `RpcError`. */
export interface SharedTensor extends OutsideBytes {
  /** A copy, for what can't wait to be looked at. */
  read(): Uint8Array;
}

/** Where inputs come from that are not in the message. */
export interface SharedInputs {
  /** The bytes that a tensor's parameters name, or null where they name none. Throws `RpcError`. */
  locate(parameters: ReadParameters, tensor: string): SharedTensor | null;
}

/** The part of an engine request that the message itself decides. */
export interface DecodedRequest {
  readonly items: number;
  readonly shape: string;
  readonly padding: Padding | null;
  readonly inputs: readonly InputTensor[];
  readonly outputs: readonly string[] | null;
}

const ONE_SHAPE: BucketedShape = { shape: "", padding: null };

/**
 * Validates a request against its model. Tensor bytes are views on the message, or stay in shared memory. With `allOutputs` the outputs
 * that it names choose none. Throws `RpcError`.
 */
export function decodeRequest(
  plan: ModelPlan,
  request: ReadRequest,
  shared: SharedInputs,
  memory: RequestMemory,
  allOutputs = false,
): DecodedRequest {
  const ordered = orderInputs(plan, request.inputs);
  const shapes = ordered.map((input, index) => checkInput(plan, index, input));
  const items = batchItems(plan, shapes);
  checkSharedDimensions(plan, shapes);
  const data = readContents(plan, request, shapes, shared, memory);
  const inputs = plan.version.inputs.map((spec, index) => ({
    name: spec.name,
    datatype: spec.datatype,
    shape: shapes[index]!,
    data: data[index]!,
  }));
  const { shape, padding } = plan.varying ? bucketedShape(plan.version, shapes) : ONE_SHAPE;
  return {
    items,
    shape,
    padding,
    inputs,
    outputs: allOutputs ? null : requestedOutputs(plan, request.outputs),
  };
}

/** The request's inputs in the order of the model's. */
function orderInputs(plan: ModelPlan, inputs: readonly ReadInput[]): ReadInput[] {
  const model = plan.version.name;
  const specs = plan.version.inputs;
  const ordered: (ReadInput | undefined)[] = new Array(specs.length);
  for (const input of inputs) {
    const index = plan.inputIndex.get(input.name);
    if (index === undefined) throw unexpectedInput(input.name, model, plan.inputIndex.keys());
    if (ordered[index] !== undefined) throw duplicateInput(input.name, model);
    ordered[index] = input;
  }
  if (inputs.length < specs.length) {
    const missing = specs.filter((_, index) => ordered[index] === undefined).map((spec) => spec.name);
    throw missingInputs(specs.length, inputs.length, missing, model);
  }
  return ordered as ReadInput[];
}

/** The input's shape as numbers. */
function checkInput({ version }: ModelPlan, index: number, input: ReadInput): number[] {
  const spec = version.inputs[index]!;
  const model = version.name;
  if (input.datatype !== spec.datatype) throw wrongDatatype(spec, input.datatype, model);
  const shape = matchShape(spec, input.shape);
  if (shape !== null) return shape;
  const axis = tooSmallAxis(spec, input.shape);
  const tooSmall = axis === null ? null : axis === 0 && version.batched ? "the batch" : `dimension ${axis}`;
  throw wrongShape(spec, input.shape, tooSmall, model);
}

/** What the ONNX file calls by one name has one size. */
function checkSharedDimensions({ version }: ModelPlan, shapes: readonly (readonly number[])[]): void {
  for (const shared of version.sharedDimensions) {
    const size = ({ input, axis }: SharedDimension["places"][number]): number => shapes[input]![axis]!;
    const first = shared.places[0]!;
    const other = shared.places.find((place) => size(place) !== size(first));
    if (other === undefined) continue;
    const got = [first, other].map(({ input }) => ({ name: version.inputs[input]!.name, shape: shapes[input]! }));
    throw sharedDimensionDiffers(shared.name, got, version.name);
  }
}

/** Size of the request's batch dimension, which all inputs share; 1 for a model without one. */
function batchItems(plan: ModelPlan, shapes: readonly (readonly number[])[]): number {
  const { batched, inputs, maxBatchSize, name } = plan.version;
  if (!batched || shapes.length === 0) return 1;
  const items = shapes[0]![0]!;
  for (let index = 1; index < shapes.length; index++) {
    const other = shapes[index]![0]!;
    if (other !== items) throw batchesDiffer(inputs[index]!.name, other, inputs[0]!.name, items, name);
  }
  if (items > maxBatchSize) throw batchTooLarge(name, maxBatchSize);
  return items;
}

/**
 * The data of each input, in the order of the model's inputs. Raw contents are matched to the inputs in the order of the
 * request, of which those in shared memory have none.
 */
function readContents(
  plan: ModelPlan,
  request: ReadRequest,
  shapes: readonly (readonly number[])[],
  shared: SharedInputs,
  memory: RequestMemory,
): InputTensor["data"][] {
  const model = plan.version.name;
  const raws = request.raw_input_contents;
  const data: InputTensor["data"][] = new Array(request.inputs.length);
  let rawsUsed = 0;
  for (const input of request.inputs) {
    const index = plan.inputIndex.get(input.name)!;
    const spec = plan.version.inputs[index]!;
    const count = elementCount(shapes[index]!);
    const located = shared.locate(input.parameters, spec.name);
    if ((raws.length > 0 || located !== null) && input.contents.length > 0) throw bothContents(spec.name, model);
    if (located !== null) {
      if (count === null) throw hugeTensor(spec, input, located.byteLength, model);
      data[index] = sharedTensorData(plan, spec, count, located, memory);
    } else if (raws.length > 0) {
      const raw = raws[rawsUsed++];
      if (raw === undefined) throw wrongRawCount(rawsExpected(request, shared), raws.length, model);
      if (count === null) throw hugeTensor(spec, input, raw.byteLength, model);
      data[index] = rawTensorData(spec, count, raw, memory, model);
    } else {
      if (count === null) throw hugeTensor(spec, input, 0, model);
      data[index] = typedTensorData(spec, count, input.contents, memory, model);
    }
  }
  if (rawsUsed < raws.length) throw wrongRawCount(rawsUsed, raws.length, model);
  return data;
}

/**
 * Bytes whose number says all stay where they are until a batch is gathered. Read at once are strings, which have to be parsed, and inputs
 * of a model whose answers are cached: their owner may change them, and the answer must be that of the bytes it is kept under.
 */
function sharedTensorData(
  { version, cacheAs }: ModelPlan,
  spec: TensorSpec,
  count: number,
  located: SharedTensor,
  memory: RequestMemory,
): InputTensor["data"] {
  const model = version.name;
  const size = ELEMENT_BYTES[spec.datatype];
  if (size === null) return rawTensorData(spec, count, located.read(), memory, model);
  if (located.byteLength !== count * size) {
    throw wrongByteCount(spec.name, BigInt(count) * BigInt(size), located.byteLength, model);
  }
  if (cacheAs !== null) return rawTensorData(spec, count, located.read(), memory, model);
  return spec.datatype === "BOOL" ? checkedBools(spec.name, located, model) : located;
}

function rawsExpected(request: ReadRequest, shared: SharedInputs): number {
  return request.inputs.filter((input) => shared.locate(input.parameters, input.name) === null).length;
}

/** More elements than can be counted: no contents can be as large, so the size is wrong whatever it is. */
function hugeTensor(spec: TensorSpec, input: ReadInput, got: number, model: string): Error {
  const elements = exactElementCount(input.shape);
  const size = ELEMENT_BYTES[spec.datatype];
  if (size === null) return wrongStringCount(spec.name, elements, 0, model);
  return wrongByteCount(spec.name, elements * BigInt(size), got, model);
}

/** Names of the outputs asked for, each once; null for all. */
function requestedOutputs(plan: ModelPlan, requested: readonly ReadRequestedOutput[]): readonly string[] | null {
  if (requested.length === 0) return null;
  const names = new Set<string>();
  for (const output of requested) {
    if (!plan.outputNames.has(output.name)) throw unexpectedOutput(output.name, plan.version.name, plan.outputNames);
    if (isSet(output.parameters.classification)) throw classificationNotOffered(output.name);
    names.add(output.name);
  }
  return [...names];
}
