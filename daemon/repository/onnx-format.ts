/**
 * The parts of the ONNX protobuf format that the metadata reader and the sample models' writer need: field numbers and
 * element types. Source: the `onnx.proto` of the ONNX specification, IR version 10.
 */
import type { Datatype } from "../engine/tensors.ts";

/** Field numbers, by message. */
export const ONNX_FIELDS = {
  model: {
    irVersion: 1,
    producerName: 2,
    producerVersion: 3,
    graph: 7,
    opsetImport: 8,
    trainingInfo: 20,
    functions: 25,
  },
  opset: { domain: 1, version: 2 },
  trainingInfo: { initialization: 1, algorithm: 2 },
  function: { node: 7, attributeProto: 11 },
  graph: { node: 1, name: 2, initializer: 5, input: 11, output: 12, sparseInitializer: 15 },
  node: { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7 },
  attribute: {
    name: 1,
    f: 2,
    i: 3,
    s: 4,
    t: 5,
    g: 6,
    floats: 7,
    ints: 8,
    strings: 9,
    tensors: 10,
    graphs: 11,
    type: 20,
    sparseTensor: 22,
    sparseTensors: 23,
  },
  tensor: { dims: 1, dataType: 2, stringData: 6, name: 8, rawData: 9, externalData: 13, dataLocation: 14 },
  entry: { key: 1, value: 2 },
  sparseTensor: { values: 1, indices: 2, dims: 3 },
  valueInfo: { name: 1, type: 2 },
  type: { tensor: 1, sequence: 4, map: 5, opaque: 7, sparseTensor: 8, optional: 9 },
  tensorType: { elemType: 1, shape: 2 },
  shape: { dim: 1 },
  dimension: { value: 1, param: 2 },
} as const;

/** `TensorProto.DataLocation.EXTERNAL`. */
export const DATA_LOCATION_EXTERNAL = 1;

/** `AttributeProto.AttributeType`, the kinds that the writer uses. */
export const ATTRIBUTE_TYPE = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
} as const;

/** An element type of ONNX: its name in the specification and the wire datatype that carries it. */
export interface OnnxElementType {
  /** Lower case, as ONNX names it: `float`, `bfloat16` … */
  readonly name: string;
  /** null where ONNX Runtime for Node has no tensors of it. */
  readonly datatype: Datatype | null;
}

/** By `TensorProto.DataType` number. */
export const ONNX_ELEMENT_TYPES: ReadonlyMap<number, OnnxElementType> = new Map<number, OnnxElementType>([
  [1, { name: "float", datatype: "FP32" }],
  [2, { name: "uint8", datatype: "UINT8" }],
  [3, { name: "int8", datatype: "INT8" }],
  [4, { name: "uint16", datatype: "UINT16" }],
  [5, { name: "int16", datatype: "INT16" }],
  [6, { name: "int32", datatype: "INT32" }],
  [7, { name: "int64", datatype: "INT64" }],
  [8, { name: "string", datatype: "BYTES" }],
  [9, { name: "bool", datatype: "BOOL" }],
  [10, { name: "float16", datatype: "FP16" }],
  [11, { name: "double", datatype: "FP64" }],
  [12, { name: "uint32", datatype: "UINT32" }],
  [13, { name: "uint64", datatype: "UINT64" }],
  [14, { name: "complex64", datatype: null }],
  [15, { name: "complex128", datatype: null }],
  [16, { name: "bfloat16", datatype: null }],
  [17, { name: "float8e4m3fn", datatype: null }],
  [18, { name: "float8e4m3fnuz", datatype: null }],
  [19, { name: "float8e5m2", datatype: null }],
  [20, { name: "float8e5m2fnuz", datatype: null }],
  [21, { name: "uint4", datatype: null }],
  [22, { name: "int4", datatype: null }],
  [23, { name: "float4e2m1", datatype: null }],
  [24, { name: "float8e8m0", datatype: null }],
  [25, { name: "uint2", datatype: null }],
  [26, { name: "int2", datatype: null }],
]);

/** `TensorProto.DataType` number of a datatype. */
export const ONNX_TYPE_NUMBER: Readonly<Record<Datatype, number>> = Object.fromEntries(
  [...ONNX_ELEMENT_TYPES].flatMap(([number, type]) => (type.datatype === null ? [] : [[type.datatype, number]])),
) as Record<Datatype, number>;
