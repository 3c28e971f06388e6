import protobuf from "protobufjs/minimal.js";
import { ONNX_FIELDS } from "../../daemon/repository/onnx-format.ts";

export interface TinyTensor {
  readonly name: string;
  /** ONNX's number of the element type; 1 (float) by default. */
  readonly type?: number;
  /** A text is a symbol's name, null a dimension without size or name; undefined as a whole: no shape. */
  readonly dims?: readonly (number | string | null)[] | undefined;
  /** Not a tensor, but a list of something. */
  readonly isSequence?: boolean;
}

export interface TinyModel {
  readonly inputs?: readonly TinyTensor[];
  readonly outputs?: readonly TinyTensor[];
  /** External files of weights by location, with the bytes that the model says they have. */
  readonly external?: Readonly<Record<string, number>>;
}

type Write = (writer: protobuf.Writer) => void;

function message(writer: protobuf.Writer, field: number, write: Write): void {
  writer.uint32((field << 3) | 2).fork();
  write(writer);
  writer.ldelim();
}

function text(writer: protobuf.Writer, field: number, value: string): void {
  writer.uint32((field << 3) | 2).string(value);
}

function integer(writer: protobuf.Writer, field: number, value: number): void {
  writer.uint32(field << 3).int64(value);
}

function valueInfo({ name, type = 1, dims, isSequence = false }: TinyTensor): Write {
  return (writer) => {
    text(writer, ONNX_FIELDS.valueInfo.name, name);
    if (isSequence) {
      message(writer, ONNX_FIELDS.valueInfo.type, (w) => message(w, ONNX_FIELDS.type.sequence, () => {}));
      return;
    }
    message(writer, ONNX_FIELDS.valueInfo.type, (w) =>
      message(w, ONNX_FIELDS.type.tensor, (tensor) => {
        integer(tensor, ONNX_FIELDS.tensorType.elemType, type);
        if (dims === undefined) return;
        message(tensor, ONNX_FIELDS.tensorType.shape, (shape) => {
          for (const dim of dims) {
            message(shape, ONNX_FIELDS.shape.dim, (d) => {
              if (typeof dim === "number") integer(d, ONNX_FIELDS.dimension.value, dim);
              else if (dim !== null) text(d, ONNX_FIELDS.dimension.param, dim);
            });
          }
        });
      }),
    );
  };
}

function externalTensor(location: string, bytes: number): Write {
  return (writer) => {
    const fields = ONNX_FIELDS.tensor;
    integer(writer, fields.dims, bytes / 4);
    integer(writer, fields.dataType, 1);
    text(writer, fields.name, `weights of ${location}`);
    for (const [key, value] of [
      ["location", location],
      ["length", String(bytes)],
    ] as const) {
      message(writer, fields.externalData, (entry) => {
        text(entry, ONNX_FIELDS.entry.key, key);
        text(entry, ONNX_FIELDS.entry.value, value);
      });
    }
    integer(writer, fields.dataLocation, 1);
  };
}

/** An ONNX file that passes its first input through; `[batch, 4]` floats unless told otherwise. */
export function onnxBytes(model: TinyModel = {}): Uint8Array {
  const inputs = model.inputs ?? [{ name: "x", dims: ["batch", 4] }];
  const outputs = model.outputs ?? [{ name: "y", dims: ["batch", 4] }];
  const writer = protobuf.Writer.create();
  integer(writer, ONNX_FIELDS.model.irVersion, 8);
  message(writer, ONNX_FIELDS.model.opsetImport, (opset) => integer(opset, ONNX_FIELDS.opset.version, 17));
  message(writer, ONNX_FIELDS.model.graph, (graph) => {
    const fields = ONNX_FIELDS.graph;
    for (const output of outputs) {
      message(graph, fields.node, (node) => {
        text(node, ONNX_FIELDS.node.input, inputs[0]?.name ?? "");
        text(node, ONNX_FIELDS.node.output, output.name);
        text(node, ONNX_FIELDS.node.opType, "Identity");
      });
    }
    text(graph, fields.name, "tiny");
    for (const [location, bytes] of Object.entries(model.external ?? {})) {
      message(graph, fields.initializer, externalTensor(location, bytes));
    }
    for (const input of inputs) message(graph, fields.input, valueInfo(input));
    for (const output of outputs) message(graph, fields.output, valueInfo(output));
  });
  return writer.finish();
}
