/** Tensors sent as repeated fields (InferTensorContents): read straight into wire order, since that is how tensors travel inside. */
import protobuf from "protobufjs";
import type { Datatype, StringElements, TensorData, TensorSpec } from "../../engine/tensors.ts";
import { ELEMENT_BYTES } from "../../engine/tensors.ts";
import {
  malformedMessage,
  mustBeRaw,
  valueOutOfRange,
  wrongByteCount,
  wrongContentsField,
  wrongStringCount,
} from "./refusals.ts";
import type { RequestMemory } from "./request-memory.ts";
import { checkTexts } from "./texts.ts";
import { countVarints, VarintReader } from "./varints.ts";

const VARINT = 0;
const FIXED_64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED_32 = 5;

interface ContentsField {
  readonly name: string;
  /** How one element is encoded. Numbers come packed, many of them length-delimited as one, or each by itself. */
  readonly wireType: typeof VARINT | typeof FIXED_64 | typeof LENGTH_DELIMITED | typeof FIXED_32;
}

const BOOL: ContentsField = { name: "bool_contents", wireType: VARINT };
const INT: ContentsField = { name: "int_contents", wireType: VARINT };
const INT64: ContentsField = { name: "int64_contents", wireType: VARINT };
const UINT: ContentsField = { name: "uint_contents", wireType: VARINT };
const UINT64: ContentsField = { name: "uint64_contents", wireType: VARINT };
const FP32: ContentsField = { name: "fp32_contents", wireType: FIXED_32 };
const FP64: ContentsField = { name: "fp64_contents", wireType: FIXED_64 };
const BYTES: ContentsField = { name: "bytes_contents", wireType: LENGTH_DELIMITED };

/** By field number, from 1. */
const FIELDS: readonly ContentsField[] = [BOOL, INT, INT64, UINT, UINT64, FP32, FP64, BYTES];

/** The field in which each datatype travels; null: only raw. */
const FIELD_OF: Readonly<Record<Datatype, ContentsField | null>> = {
  BOOL,
  UINT8: UINT,
  UINT16: UINT,
  UINT32: UINT,
  UINT64,
  INT8: INT,
  INT16: INT,
  INT32: INT,
  INT64,
  FP16: null,
  FP32,
  FP64,
  BYTES,
};

/**
 * The data of one input from its encoded typed contents; a view on them where they are in wire order
 * already. Throws `RpcError` where it doesn't fit.
 */
export function typedTensorData(
  spec: TensorSpec,
  count: number,
  contents: Uint8Array,
  memory: RequestMemory,
  model: string,
): TensorData {
  const field = FIELD_OF[spec.datatype];
  if (field === null) throw mustBeRaw(spec, model);
  const counts = countElements(contents);
  const others = FIELDS.filter((other) => other !== field && counts.has(other)).map(({ name }) => name);
  if (others.length > 0) throw wrongContentsField(spec, field.name, others.join(" and "), model);

  const got = counts.get(field) ?? 0;
  const size = ELEMENT_BYTES[spec.datatype];
  if (size === null) {
    if (got !== count) throw wrongStringCount(spec.name, count, got, model);
    memory.takeStrings(spec.name, count);
    const elements = strings(contents, count);
    checkTexts(spec.name, elements, model);
    return elements;
  }
  if (got !== count) throw wrongByteCount(spec.name, BigInt(count) * BigInt(size), got * size, model);
  if (field.wireType !== VARINT) return fixedNumbers(field, contents, count * size, memory);
  memory.takeBytes(count * size);
  return size === 8 ? words(field, contents, count) : integers(spec, field, contents, count, model);
}

const NO_BYTES = new Uint8Array(0);

type VisitRun = (field: ContentsField, start: number, end: number) => void;

/** Visits the elements of known fields in their order: as many at once as were packed together, without their tags and lengths. */
function eachRun(contents: Uint8Array, visit: VisitRun): void {
  const reader = protobuf.Reader.create(contents);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const field = FIELDS[(tag >>> 3) - 1];
    const wireType = tag & 7;
    if (field !== undefined && wireType !== field.wireType && wireType !== LENGTH_DELIMITED) throw malformedMessage();
    const length = wireType === LENGTH_DELIMITED ? reader.uint32() : null;
    const start = reader.pos;
    if (length === null) reader.skipType(wireType);
    else reader.skip(length);
    if (field !== undefined) visit(field, start, reader.pos);
  }
}

/** How many elements there are of each field that has any. Contents that pass here can be read without looking at their form again. */
function countElements(contents: Uint8Array): ReadonlyMap<ContentsField, number> {
  const counts = new Map<ContentsField, number>();
  try {
    eachRun(contents, (field, start, end) => {
      const elements = elementsOf(field, contents, start, end);
      if (elements > 0) counts.set(field, (counts.get(field) ?? 0) + elements);
    });
  } catch {
    throw malformedMessage();
  }
  return counts;
}

function elementsOf({ wireType }: ContentsField, contents: Uint8Array, start: number, end: number): number {
  if (wireType === LENGTH_DELIMITED) return 1;
  const elements =
    wireType === VARINT ? countVarints(contents, start, end) : (end - start) / (wireType === FIXED_32 ? 4 : 8);
  if (elements === null || !Number.isInteger(elements)) throw malformedMessage();
  return elements;
}

function strings(contents: Uint8Array, count: number): StringElements {
  const elements: Uint8Array[] = new Array(count);
  let index = 0;
  eachRun(contents, (field, start, end) => {
    if (field === BYTES) elements[index++] = contents.subarray(start, end);
  });
  return elements;
}

/** On the wire these are as they are in a tensor: there is nothing to do where all come in one run. */
function fixedNumbers(
  field: ContentsField,
  contents: Uint8Array,
  byteLength: number,
  memory: RequestMemory,
): Uint8Array {
  let joined: Uint8Array | null = null;
  let offset = 0;
  eachRun(contents, (found, start, end) => {
    if (found !== field) return;
    if (end - start === byteLength) {
      joined = contents.subarray(start, end);
      return;
    }
    if (joined === null) {
      memory.takeBytes(byteLength);
      joined = new Uint8Array(byteLength);
    }
    for (let at = start; at < end; at++) joined[offset++] = contents[at]!;
  });
  return joined ?? NO_BYTES;
}

/** Visits a field's varints one by one: the reader holds the one that was read. */
function eachVarint(field: ContentsField, contents: Uint8Array, visit: (varint: VarintReader) => void): void {
  const varints = new VarintReader(contents);
  eachRun(contents, (found, start, end) => {
    if (found !== field) return;
    varints.at = start;
    while (varints.at < end) {
      varints.next();
      visit(varints);
    }
  });
}

/** Typed arrays have the host's byte order, which is the wire's on every platform that Node's runtimes support here. */
function words(field: ContentsField, contents: Uint8Array, count: number): Uint8Array {
  const array = new Int32Array(count * 2);
  let index = 0;
  eachVarint(field, contents, ({ low, high }) => {
    array[index++] = low;
    array[index++] = high;
  });
  return new Uint8Array(array.buffer);
}

type IntegerDatatype = "BOOL" | "UINT8" | "UINT16" | "UINT32" | "INT8" | "INT16" | "INT32";

const ARRAYS = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
} as const;

function integers(
  spec: TensorSpec,
  field: ContentsField,
  contents: Uint8Array,
  count: number,
  model: string,
): Uint8Array {
  const array = new ARRAYS[spec.datatype as IntegerDatatype](count);
  let index = 0;
  eachVarint(field, contents, ({ low, high }) => {
    const value = field === BOOL ? Number((low | high) !== 0) : low;
    array[index] = value;
    const given = field === UINT ? value >>> 0 : value;
    // Fields are wider than most of the integers that they carry, and typed arrays wrap what doesn't fit.
    if (array[index] !== given) throw valueOutOfRange(spec, given, model);
    index++;
  });
  return new Uint8Array(array.buffer);
}
