/** Decodes ModelInferResponse and ModelStreamInferResponse. */
import {
  ARRAY_CLASSES,
  type Datatype,
  elementCount,
  isDatatype,
  type NumericDatatype,
  type TensorDataByDatatype,
} from "../datatypes.ts";
import { SHARED_MEMORY_PARAMETERS } from "../generated/parameters.ts";
import type { Tensor } from "../tensor.ts";
import { decodeContents } from "./contents.ts";
import { MalformedMessage, Reader } from "./reader.ts";
import type { ParameterValue, SharedPlace } from "./request.ts";
import { LENGTH, VARINT } from "./writer.ts";

export interface WireResponse {
  readonly model: string;
  readonly version: string;
  readonly id: string;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly outputs: Readonly<Record<string, Tensor>>;
}

export interface WireStreamResponse {
  /** Empty: no error. */
  readonly error: string;
  /** Absent where a server sends an error alone. */
  readonly response: WireResponse | null;
}

const NO_PARAMETERS: Readonly<Record<string, ParameterValue>> = Object.freeze({});

function readParameterValue(reader: Reader): ParameterValue {
  let value: ParameterValue = false;
  while (reader.more) {
    const tag = reader.varint();
    switch (tag >>> 3) {
      case 1:
        value = reader.varint() !== 0;
        break;
      case 2:
        value = reader.int64();
        break;
      case 3:
        value = reader.string();
        break;
      case 4:
        value = reader.double();
        break;
      case 5:
        value = reader.uint64();
        break;
      default:
        reader.skip(tag);
    }
  }
  return value;
}

function readParameter(reader: Reader, into: Record<string, ParameterValue>): void {
  let name = "";
  let value: ParameterValue = false;
  while (reader.more) {
    const tag = reader.varint();
    if (tag >>> 3 === 1) name = reader.string();
    else if (tag >>> 3 === 2) value = readParameterValue(reader.nested());
    else reader.skip(tag);
  }
  into[name] = value;
}

interface OutputHead {
  name: string;
  datatype: Datatype;
  shape: number[];
  contents: Reader | null;
  /** Where its bytes are instead of in the message. */
  shared: SharedPlace | null;
}

/** The bytes of an output in a region, for the answer with this id; null where the region is not this client's. Throws where they can't be had. */
export type ReadShared = (id: string, place: SharedPlace) => Buffer | null;

function readOutputHead(reader: Reader): OutputHead {
  const output: OutputHead = { name: "", datatype: "BYTES", shape: [], contents: null, shared: null };
  let datatype = "";
  let parameters: Record<string, ParameterValue> | null = null;
  while (reader.more) {
    const tag = reader.varint();
    switch (tag >>> 3) {
      case 1:
        output.name = reader.string();
        break;
      case 2:
        datatype = reader.string();
        break;
      case 3:
        if ((tag & 7) === VARINT) output.shape.push(reader.varint());
        else for (const dims = reader.nested(); dims.more; ) output.shape.push(dims.varint());
        break;
      case 4:
        parameters ??= {};
        readParameter(reader.nested(), parameters);
        break;
      case 5:
        output.contents = reader.nested();
        break;
      default:
        reader.skip(tag);
    }
  }
  if (!isDatatype(datatype))
    throw new MalformedMessage(`output '${output.name}' has the unknown datatype '${datatype}'`);
  output.datatype = datatype;
  const region = parameters?.[SHARED_MEMORY_PARAMETERS.region];
  if (region !== undefined) {
    const number = (name: string): number => Number(parameters?.[name] ?? 0);
    const offset = number(SHARED_MEMORY_PARAMETERS.offset);
    output.shared = { region: String(region), offset, bytes: number(SHARED_MEMORY_PARAMETERS.byteSize) };
  }
  return output;
}

/** Elements as a typed array on the message's own memory where its alignment allows, else on a copy. */
function numericData(datatype: NumericDatatype, raw: Buffer): TensorDataByDatatype[NumericDatatype] {
  const ArrayClass = ARRAY_CLASSES[datatype];
  const size = ArrayClass.BYTES_PER_ELEMENT;
  if (raw.byteOffset % size === 0) return new ArrayClass(raw.buffer, raw.byteOffset, raw.byteLength / size);
  // Small ones are cut from Node's pool, which aligns them: a buffer of its own for each costs more than all else in decoding.
  const copy = Buffer.allocUnsafe(raw.byteLength);
  raw.copy(copy);
  return new ArrayClass(copy.buffer, copy.byteOffset, raw.byteLength / size);
}

function stringData(name: string, raw: Buffer): Uint8Array[] {
  const elements: Uint8Array[] = [];
  for (let offset = 0; offset < raw.length; ) {
    const end = offset + 4 <= raw.length ? offset + 4 + raw.readUInt32LE(offset) : Number.POSITIVE_INFINITY;
    if (end > raw.length) throw new MalformedMessage(`output '${name}': a string points beyond the tensor's end`);
    elements.push(raw.subarray(offset + 4, end));
    offset = end;
  }
  return elements;
}

function assemble(head: OutputHead, raw: Buffer | undefined): Tensor {
  const { name, datatype, shape } = head;
  const expected = elementCount(shape);
  let data: TensorDataByDatatype[Datatype];
  if (raw === undefined) {
    data = decodeContents(datatype, head.contents);
  } else if (datatype === "BYTES") {
    data = stringData(name, raw);
  } else {
    const bytes = expected * ARRAY_CLASSES[datatype].BYTES_PER_ELEMENT;
    if (raw.byteLength !== bytes) {
      throw new MalformedMessage(`output '${name}' of shape [${shape}] needs ${bytes} bytes, got ${raw.byteLength}`);
    }
    data = numericData(datatype, raw);
  }
  if (data.length !== expected) {
    throw new MalformedMessage(`output '${name}' of shape [${shape}] needs ${expected} elements, got ${data.length}`);
  }
  return { datatype, shape, data } as unknown as Tensor;
}

function readInferResponse(reader: Reader, readShared: ReadShared | null): WireResponse {
  let model = "";
  let version = "";
  let id = "";
  let parameters: Record<string, ParameterValue> | null = null;
  const heads: OutputHead[] = [];
  const raws: Buffer[] = [];
  while (reader.more) {
    const tag = reader.varint();
    switch (tag >>> 3) {
      case 1:
        model = reader.string();
        break;
      case 2:
        version = reader.string();
        break;
      case 3:
        id = reader.string();
        break;
      case 4:
        parameters ??= {};
        readParameter(reader.nested(), parameters);
        break;
      case 5:
        heads.push(readOutputHead(reader.nested()));
        break;
      case 6:
        raws.push(reader.bytes());
        break;
      default:
        reader.skip(tag);
    }
  }
  const outputs: Record<string, Tensor> = {};
  let nextRaw = 0;
  // An output in shared memory has an empty raw entry or, from some servers, none.
  const sharedHaveEntries = raws.length === heads.length;
  for (const head of heads) {
    if (head.shared !== null) {
      if (sharedHaveEntries) nextRaw++;
      const bytes = readShared?.(id, head.shared) ?? null;
      if (bytes !== null) outputs[head.name] = assemble(head, bytes);
      continue;
    }
    outputs[head.name] = assemble(head, raws.length > 0 ? raws[nextRaw++] : undefined);
  }
  return { model, version, id, parameters: parameters ?? NO_PARAMETERS, outputs };
}

/** Throws MalformedMessage. Numeric outputs may be views on `message`; those in shared memory are left out without `readShared`. */
export function decodeInferResponse(message: Buffer, readShared: ReadShared | null = null): WireResponse {
  return readInferResponse(new Reader(message), readShared);
}

/** The same for a message of a stream. */
export function decodeStreamResponse(message: Buffer, readShared: ReadShared | null = null): WireStreamResponse {
  const reader = new Reader(message);
  let error = "";
  let response: WireResponse | null = null;
  while (reader.more) {
    const tag = reader.varint();
    if (tag === ((1 << 3) | LENGTH)) error = reader.string();
    else if (tag === ((2 << 3) | LENGTH)) response = readInferResponse(reader.nested(), readShared);
    else reader.skip(tag);
  }
  return { error, response };
}
