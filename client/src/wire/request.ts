/** Encodes ModelInferRequest. */
import type { Datatype } from "../datatypes.ts";
import { REQUEST_PARAMETERS, SHARED_MEMORY_PARAMETERS } from "../generated/parameters.ts";
import type { Tensor } from "../tensor.ts";
import { takeBuffer } from "./buffer-pool.ts";
import { LENGTH, putVarint, VARINT, varintBytes, Writer } from "./writer.ts";

/** A parameter's value: whole numbers and bigints travel as int64 (uint64 beyond its range), other numbers as double. */
export type ParameterValue = boolean | number | bigint | string;

export type WireParameter =
  | { readonly name: string; readonly value: ParameterValue }
  | { readonly name: string; readonly uint64: number };

/** What a request says, apart from its id and from what changes when it is sent again. */
export interface WireRequest {
  readonly model: string;
  readonly version: string;
  readonly inputs: readonly (readonly [name: string, tensor: Tensor])[];
  /** Names of the outputs that are wanted; empty for all. */
  readonly outputs: readonly string[];
  readonly parameters: readonly WireParameter[];
}

/** Bytes in a region that the daemon has registered. */
export interface SharedPlace {
  readonly region: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Where the tensors of an attempt lie that are not in its message; null for one that is. */
export interface SharedPlaces {
  /** In the order of the request's inputs. */
  readonly inputs: readonly (SharedPlace | null)[];
  /** By the names of outputs that are expected. Where the request names none, all are answered, and those that fit are put there. */
  readonly outputs: ReadonlyMap<string, SharedPlace>;
}

const INT64_MAX = 2n ** 63n - 1n;
/** Tag of `raw_input_contents`. */
const RAW_CONTENTS_TAG = (7 << 3) | LENGTH;

// Encoding is synchronous, so one scratch buffer serves all requests.
const head = new Writer();

function writeParameterValue(parameter: WireParameter): void {
  if ("uint64" in parameter) {
    head.tag(5, VARINT);
    head.varint(parameter.uint64);
    return;
  }
  const { value } = parameter;
  switch (typeof value) {
    case "boolean":
      head.tag(1, VARINT);
      head.varint(value ? 1 : 0);
      return;
    case "string":
      head.stringAlways(3, value);
      return;
    case "bigint":
      head.tag(value > INT64_MAX ? 5 : 2, VARINT);
      head.varint64(value);
      return;
    case "number":
      if (!Number.isSafeInteger(value)) {
        head.tag(4, 1);
        head.double(value);
      } else if (value >= 0) {
        head.tag(2, VARINT);
        head.varint(value);
      } else {
        head.tag(2, VARINT);
        head.varint64(BigInt(value));
      }
      return;
  }
}

/** One entry of the map `parameters`, which is field 4 of requests and inputs and field 2 of outputs. */
function writeParameter(parameter: WireParameter, field: 2 | 4 = 4): void {
  head.tag(field, LENGTH);
  const entry = head.begin();
  head.string(1, parameter.name);
  head.tag(2, LENGTH);
  const value = head.begin();
  writeParameterValue(parameter);
  head.end(value);
  head.end(entry);
}

function writePlace({ region, offset, bytes }: SharedPlace, field: 2 | 4): void {
  writeParameter({ name: SHARED_MEMORY_PARAMETERS.region, value: region }, field);
  writeParameter({ name: SHARED_MEMORY_PARAMETERS.byteSize, value: bytes }, field);
  if (offset > 0) writeParameter({ name: SHARED_MEMORY_PARAMETERS.offset, value: offset }, field);
}

function writeInput(name: string, datatype: Datatype, shape: readonly number[], place: SharedPlace | null): void {
  head.tag(5, LENGTH);
  const input = head.begin();
  head.string(1, name);
  head.string(2, datatype);
  if (shape.length > 0) {
    head.tag(3, LENGTH);
    const dims = head.begin();
    for (const dim of shape) head.varint(dim);
    head.end(dims);
  }
  if (place !== null) writePlace(place, 4);
  head.end(input);
}

function writeOutput(name: string, place: SharedPlace | null): void {
  head.tag(6, LENGTH);
  const output = head.begin();
  head.string(1, name);
  if (place !== null) writePlace(place, 2);
  head.end(output);
}

/** Bytes that a tensor takes as raw contents. */
export function rawBytes(tensor: Tensor): number {
  if (tensor.datatype !== "BYTES") return tensor.data.byteLength;
  let size = 0;
  for (const element of tensor.data) size += 4 + element.byteLength;
  return size;
}

function putRaw(into: Buffer, at: number, tensor: Tensor): number {
  if (tensor.datatype !== "BYTES") {
    const { data } = tensor;
    into.set(data instanceof Uint8Array ? data : new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    return at + data.byteLength;
  }
  let offset = at;
  for (const element of tensor.data) {
    offset = into.writeUInt32LE(element.byteLength, offset);
    into.set(element, offset);
    offset += element.byteLength;
  }
  return offset;
}

/**
 * The message's bytes, in a buffer that may be given back once it is written. `extra` are parameters of this attempt, such as what is left
 * of the deadline; `shared` says which tensors are not in the message.
 */
export function encodeInferRequest(
  request: WireRequest,
  id: string,
  extra: readonly WireParameter[],
  shared: SharedPlaces | null = null,
): Buffer {
  head.reset();
  head.string(1, request.model);
  head.string(2, request.version);
  head.string(3, id);
  for (const parameter of request.parameters) writeParameter(parameter);
  for (const parameter of extra) writeParameter(parameter);
  const allOutputs = shared !== null && shared.outputs.size > 0 && request.outputs.length === 0;
  if (allOutputs) writeParameter({ name: REQUEST_PARAMETERS.allOutputs, value: true });
  const placeOf = (index: number): SharedPlace | null => shared?.inputs[index] ?? null;
  let index = 0;
  for (const [name, { datatype, shape }] of request.inputs) writeInput(name, datatype, shape, placeOf(index++));
  if (allOutputs) for (const [name, place] of shared.outputs) writeOutput(name, place);
  else for (const name of request.outputs) writeOutput(name, shared?.outputs.get(name) ?? null);

  const inMessage = shared === null ? request.inputs : request.inputs.filter((_, at) => placeOf(at) === null);
  let size = head.length;
  for (const [, tensor] of inMessage) {
    const raw = rawBytes(tensor);
    size += 1 + varintBytes(raw) + raw;
  }
  const message = takeBuffer(size);
  head.copyTo(message);
  let offset = head.length;
  for (const [, tensor] of inMessage) {
    message[offset++] = RAW_CONTENTS_TAG;
    offset = putVarint(message, offset, rawBytes(tensor));
    offset = putRaw(message, offset, tensor);
  }
  return message;
}
