import protobuf from "protobufjs/minimal.js";
import {
  ATTRIBUTE_TYPE,
  DATA_LOCATION_EXTERNAL,
  ONNX_FIELDS,
  ONNX_TYPE_NUMBER,
} from "../../daemon/repository/onnx-format.ts";
import type { Attribute, GraphDefinition, NodeDefinition, ValueDefinition } from "./graph.ts";
import type { Constant } from "./tensor.ts";

/** The last IR version and operator set that runtimes two years old take as well. */
const IR_VERSION = 9;
export const OPSET_VERSION = 17;

const VARINT = 0;
const DELIMITED = 2;
const FIXED32 = 5;

type Writer = protobuf.Writer;

/** Writes a model file: the same graph gives the same bytes. */
export function writeModel(graph: GraphDefinition): Uint8Array {
  const fields = ONNX_FIELDS.model;
  const writer = protobuf.Writer.create();
  integer(writer, fields.irVersion, IR_VERSION);
  text(writer, fields.producerName, "slackline");
  message(writer, fields.graph, () => writeGraph(writer, graph));
  message(writer, fields.opsetImport, () => {
    text(writer, ONNX_FIELDS.opset.domain, "");
    integer(writer, ONNX_FIELDS.opset.version, OPSET_VERSION);
  });
  return writer.finish();
}

function integer(writer: Writer, field: number, value: number): void {
  writer.uint32((field << 3) | VARINT).int64(value);
}

function text(writer: Writer, field: number, value: string): void {
  writer.uint32((field << 3) | DELIMITED).string(value);
}

function bytes(writer: Writer, field: number, value: Uint8Array): void {
  writer.uint32((field << 3) | DELIMITED).bytes(value);
}

function message(writer: Writer, field: number, write: () => void): void {
  writer.uint32((field << 3) | DELIMITED).fork();
  write();
  writer.ldelim();
}

function writeGraph(writer: Writer, graph: GraphDefinition): void {
  const fields = ONNX_FIELDS.graph;
  for (const node of graph.nodes) message(writer, fields.node, () => writeNode(writer, node));
  text(writer, fields.name, graph.name);
  for (const [name, constant] of graph.constants) {
    message(writer, fields.initializer, () => writeTensor(writer, name, constant));
  }
  for (const value of graph.inputs) message(writer, fields.input, () => writeValue(writer, value));
  for (const value of graph.outputs) message(writer, fields.output, () => writeValue(writer, value));
}

function writeNode(writer: Writer, node: NodeDefinition): void {
  const fields = ONNX_FIELDS.node;
  for (const input of node.inputs) text(writer, fields.input, input);
  for (const output of node.outputs) text(writer, fields.output, output);
  if (node.name !== undefined) text(writer, fields.name, node.name);
  text(writer, fields.opType, node.op);
  for (const [name, attribute] of Object.entries(node.attributes)) {
    message(writer, fields.attribute, () => {
      text(writer, ONNX_FIELDS.attribute.name, name);
      writeAttribute(writer, attribute);
    });
  }
}

function writeAttribute(writer: Writer, attribute: Attribute): void {
  const fields = ONNX_FIELDS.attribute;
  const type = (kind: keyof typeof ATTRIBUTE_TYPE): void => integer(writer, fields.type, ATTRIBUTE_TYPE[kind]);
  if (typeof attribute === "number") {
    integer(writer, fields.i, attribute);
    type("int");
  } else if (typeof attribute === "string") {
    text(writer, fields.s, attribute);
    type("string");
  } else if (isList(attribute)) {
    for (const value of attribute) integer(writer, fields.ints, value);
    type("ints");
  } else if ("float" in attribute) {
    writer.uint32((fields.f << 3) | FIXED32).float(attribute.float);
    type("float");
  } else if ("nodes" in attribute) {
    message(writer, fields.g, () => writeGraph(writer, attribute));
    type("graph");
  } else {
    message(writer, fields.t, () => writeTensor(writer, "", attribute));
    type("tensor");
  }
}

function isList(attribute: Attribute): attribute is readonly number[] {
  return Array.isArray(attribute);
}

function writeTensor(writer: Writer, name: string, constant: Constant): void {
  const fields = ONNX_FIELDS.tensor;
  for (const dim of constant.dims) integer(writer, fields.dims, dim);
  integer(writer, fields.dataType, ONNX_TYPE_NUMBER[constant.datatype]);
  for (const element of constant.strings ?? []) text(writer, fields.stringData, element);
  text(writer, fields.name, name);
  if (constant.data !== null && constant.strings === undefined) bytes(writer, fields.rawData, constant.data);
  if (constant.external === undefined) return;
  const { location, offsetBytes, lengthBytes } = constant.external;
  const entries = { location, offset: String(offsetBytes), length: String(lengthBytes) };
  for (const [key, value] of Object.entries(entries)) {
    message(writer, fields.externalData, () => {
      text(writer, ONNX_FIELDS.entry.key, key);
      text(writer, ONNX_FIELDS.entry.value, value);
    });
  }
  integer(writer, fields.dataLocation, DATA_LOCATION_EXTERNAL);
}

function writeValue(writer: Writer, value: ValueDefinition): void {
  text(writer, ONNX_FIELDS.valueInfo.name, value.name);
  message(writer, ONNX_FIELDS.valueInfo.type, () =>
    message(writer, ONNX_FIELDS.type.tensor, () => {
      integer(writer, ONNX_FIELDS.tensorType.elemType, ONNX_TYPE_NUMBER[value.datatype]);
      const { dims } = value;
      if (dims !== null) message(writer, ONNX_FIELDS.tensorType.shape, () => writeDims(writer, dims));
    }),
  );
}

function writeDims(writer: Writer, dims: readonly (number | string)[]): void {
  for (const dim of dims) {
    message(writer, ONNX_FIELDS.shape.dim, () => {
      if (typeof dim === "number") integer(writer, ONNX_FIELDS.dimension.value, dim);
      else text(writer, ONNX_FIELDS.dimension.param, dim);
    });
  }
}
