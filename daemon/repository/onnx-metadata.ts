import { type FileHandle, open } from "node:fs/promises";
import type { Datatype } from "../engine/tensors.ts";
import { DATA_LOCATION_EXTERNAL, ONNX_ELEMENT_TYPES, ONNX_FIELDS, ONNX_TYPE_NUMBER } from "./onnx-format.ts";
import { type ProtobufField, ProtobufFile, ProtobufFileError, unpackVarints } from "./protobuf-file.ts";

/** What a model file says about itself, read without loading it. */
export interface OnnxMetadata {
  readonly irVersion: number;
  /** Empty strings where the file names none. */
  readonly producer: { readonly name: string; readonly version: string };
  /** Versions of the operator sets by domain; the standard one has the domain `""`. */
  readonly opsets: Readonly<Record<string, number>>;
  readonly graphName: string;
  /** What a caller must give: the graph's inputs that no initializer gives a value. */
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  /** Weights: elements of the main graph's initializers, without scalars and 64-bit integers (shapes, axes). */
  readonly parameters: number;
  /** Tensors whose contents lie in other files, wherever in the model they are. */
  readonly externalData: readonly ExternalDataReference[];
}

export type OnnxValueKind = "tensor" | "sparse_tensor" | "sequence" | "map" | "optional" | "opaque" | "untyped";

/** An input or output of the graph. */
export interface OnnxValue {
  readonly name: string;
  /** Only `tensor` can be served. */
  readonly kind: OnnxValueKind;
  /** As ONNX names it (`float`, `bfloat16`, `type 99` where unknown here); empty for what is no tensor. */
  readonly elementType: string;
  /** null where ONNX Runtime for Node has no tensors of this element type. */
  readonly datatype: Datatype | null;
  /** null where the rank is unknown. */
  readonly dims: readonly OnnxDim[] | null;
}

/** A fixed size, the name of a size that varies, or null for one that varies without a name. */
export type OnnxDim = number | string | null;

export interface ExternalDataReference {
  /** Name of the tensor; may be empty. */
  readonly tensor: string;
  /** Path relative to the folder of the model file, as written there: not checked to stay inside it. */
  readonly location: string;
  readonly offsetBytes: number;
  /** null where the file does not say: up to the end. */
  readonly lengthBytes: number | null;
}

export type OnnxFileErrorCode =
  /** The file can't be opened or read; the cause has the system's error. */
  | "unreadable"
  | "empty"
  /** Not an ONNX model at all. */
  | "not_onnx"
  /** It ends before what it announces. */
  | "truncated"
  /** Begins as an ONNX model and breaks off into something else. */
  | "malformed";

/** A model file that can't be read as ONNX. The message is a sentence without the file's path. */
export class OnnxFileError extends Error {
  readonly code: OnnxFileErrorCode;

  constructor(code: OnnxFileErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "OnnxFileError";
    this.code = code;
  }
}

/** Subgraphs within subgraphs; far more than any model has, far less than the stack bears. */
const NESTING_MAX = 64;
const STRING_BYTES_MAX = 64 * 1024;
/** ONNX Runtime takes locations like these for addresses in its own memory; in a file they can only do harm. */
const MEMORY_LOCATION_PREFIX = "*/_ORT_";
const LFS_POINTER = "version https://git-lfs";

/**
 * Reads a model file's interface. Weights are skipped, so this takes milliseconds and little memory whatever the file's
 * size; a tree ensemble's numbers are fields of their own and walked one by one, 0.7 s for a million nodes, in short turns.
 * Throws OnnxFileError.
 */
export async function readOnnxMetadata(path: string): Promise<OnnxMetadata> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (cause) {
    throw unreadable(cause);
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new OnnxFileError("unreadable", "The model file is not a regular file.");
    if (stat.size === 0) throw new OnnxFileError("empty", "The model file is empty.");
    return await new OnnxReader(new ProtobufFile(file, stat.size)).read();
  } catch (cause) {
    if (cause instanceof OnnxFileError) throw cause;
    throw unreadable(cause);
  } finally {
    await file.close();
  }
}

/** Distinct files that hold external data, as the model writes them. */
export function externalDataLocations(metadata: OnnxMetadata): readonly string[] {
  return [...new Set(metadata.externalData.map((reference) => reference.location))];
}

/** The shape as the wire tells it: −1 where a dimension varies; null where the rank is unknown. */
export function wireShape(value: OnnxValue): readonly number[] | null {
  return value.dims?.map((dim) => (typeof dim === "number" ? dim : -1)) ?? null;
}

function unreadable(cause: unknown): OnnxFileError {
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
  return new OnnxFileError("unreadable", `The model file can't be read (${code}).`, { cause });
}

class OnnxReader {
  readonly #file: ProtobufFile;
  readonly #opsets: Record<string, number> = {};
  readonly #externalData: ExternalDataReference[] = [];
  readonly #initializers = new Set<string>();
  readonly #inputs: OnnxValue[] = [];
  readonly #outputs: OnnxValue[] = [];
  #parameters = 0;
  #irVersion = 0;
  #graphName = "";
  #graphSeen = false;

  constructor(file: ProtobufFile) {
    this.#file = file;
  }

  async read(): Promise<OnnxMetadata> {
    const producer = { name: "", version: "" };
    const fields = ONNX_FIELDS.model;
    try {
      await this.#file.walk(0, this.#file.size, async (field) => {
        if (field.number === fields.irVersion && !field.delimited) this.#irVersion = field.value;
        if (!field.delimited) return;
        if (field.number === fields.producerName) producer.name = await this.#string(field);
        else if (field.number === fields.producerVersion) producer.version = await this.#string(field);
        else if (field.number === fields.opsetImport) await this.#opset(field);
        else if (field.number === fields.trainingInfo) await this.#trainingInfo(field);
        else if (field.number === fields.functions) await this.#function(field);
        else if (field.number === fields.graph) {
          this.#graphSeen = true;
          await this.#graph(field, 0);
        }
      });
    } catch (cause) {
      throw await this.#explain(cause);
    }
    if (!this.#graphSeen || this.#irVersion === 0) throw await this.#notOnnx();
    return {
      irVersion: this.#irVersion,
      producer,
      opsets: this.#opsets,
      graphName: this.#graphName,
      inputs: this.#inputs.filter((input) => !this.#initializers.has(input.name)),
      outputs: this.#outputs,
      parameters: this.#parameters,
      externalData: this.#externalData,
    };
  }

  async #explain(cause: unknown): Promise<unknown> {
    if (!(cause instanceof ProtobufFileError)) return cause;
    // A model begins with its IR version; where not even that was found, the bytes are something else.
    if (this.#irVersion === 0) return this.#notOnnx(cause);
    return cause.kind === "truncated"
      ? new OnnxFileError("truncated", `The model file is truncated: ${cause.message}.`, { cause })
      : new OnnxFileError("malformed", `The model file is damaged: ${cause.message}.`, { cause });
  }

  async #notOnnx(cause?: unknown): Promise<OnnxFileError> {
    const head = await this.#file.bytes(0, Math.min(this.#file.size, LFS_POINTER.length));
    const what =
      Buffer.from(head).toString("latin1") === LFS_POINTER
        ? "The model file is a Git LFS pointer; fetch the file itself (git lfs pull)."
        : "The model file is not an ONNX model.";
    return new OnnxFileError("not_onnx", what, { cause });
  }

  async #string(field: ProtobufField): Promise<string> {
    if (field.end - field.start > STRING_BYTES_MAX) {
      throw new ProtobufFileError("malformed", `the name at byte ${field.start} has ${field.end - field.start} bytes`);
    }
    return Buffer.from(await this.#file.bytes(field.start, field.end)).toString("utf8");
  }

  async #opset(message: ProtobufField): Promise<void> {
    let domain = "";
    let version = 0;
    await this.#file.walk(message.start, message.end, async (field) => {
      if (field.number === ONNX_FIELDS.opset.domain) domain = await this.#string(field);
      else if (field.number === ONNX_FIELDS.opset.version) version = field.value;
    });
    this.#opsets[domain === "ai.onnx" ? "" : domain] = version;
  }

  async #trainingInfo(message: ProtobufField): Promise<void> {
    const { initialization, algorithm } = ONNX_FIELDS.trainingInfo;
    await this.#file.walk(message.start, message.end, (field) =>
      field.number === initialization || field.number === algorithm ? this.#graph(field, 1) : undefined,
    );
  }

  async #function(message: ProtobufField): Promise<void> {
    await this.#file.walk(message.start, message.end, (field) => {
      if (field.number === ONNX_FIELDS.function.node) return this.#node(field, 1);
      if (field.number === ONNX_FIELDS.function.attributeProto) return this.#attribute(field, 1);
      return undefined;
    });
  }

  /** Level 0 is the main graph: only its inputs, outputs and initializers are the model's. */
  async #graph(message: ProtobufField, level: number): Promise<void> {
    if (level > NESTING_MAX)
      throw new ProtobufFileError("malformed", `graphs are nested more than ${NESTING_MAX} deep`);
    const fields = ONNX_FIELDS.graph;
    await this.#file.walk(message.start, message.end, async (field) => {
      if (!field.delimited) return;
      if (field.number === fields.node) await this.#node(field, level);
      else if (field.number === fields.initializer) this.#own(await this.#tensor(field), level);
      else if (field.number === fields.sparseInitializer) this.#own(await this.#sparseTensor(field), level);
      else if (level > 0) return;
      else if (field.number === fields.name) this.#graphName = await this.#string(field);
      else if (field.number === fields.input) this.#inputs.push(await this.#value(field));
      else if (field.number === fields.output) this.#outputs.push(await this.#value(field));
    });
  }

  #own(tensor: { name: string; elements: number }, level: number): void {
    if (level > 0) return;
    this.#initializers.add(tensor.name);
    this.#parameters += tensor.elements;
  }

  async #node(message: ProtobufField, level: number): Promise<void> {
    await this.#file.walk(message.start, message.end, (field) =>
      field.number === ONNX_FIELDS.node.attribute && field.delimited ? this.#attribute(field, level) : undefined,
    );
  }

  async #attribute(message: ProtobufField, level: number): Promise<void> {
    const fields = ONNX_FIELDS.attribute;
    // No promise for each of the numbers and strings, of which a tree ensemble has millions.
    await this.#file.walk(message.start, message.end, (field) => {
      if (!field.delimited) return undefined;
      if (field.number === fields.t || field.number === fields.tensors) return this.#tensor(field);
      if (field.number === fields.g || field.number === fields.graphs) return this.#graph(field, level + 1);
      if (field.number === fields.sparseTensor || field.number === fields.sparseTensors) {
        return this.#sparseTensor(field);
      }
      return undefined;
    });
  }

  async #sparseTensor(message: ProtobufField): Promise<{ name: string; elements: number }> {
    let values = { name: "", elements: 0 };
    await this.#file.walk(message.start, message.end, async (field) => {
      if (field.number === ONNX_FIELDS.sparseTensor.values) values = await this.#tensor(field);
      else if (field.number === ONNX_FIELDS.sparseTensor.indices) await this.#tensor(field);
    });
    return values;
  }

  async #tensor(message: ProtobufField): Promise<{ name: string; elements: number }> {
    const fields = ONNX_FIELDS.tensor;
    const entries = new Map<string, string>();
    let name = "";
    const dims: number[] = [];
    let dataType = 0;
    let external = false;
    const keep = async (field: ProtobufField): Promise<void> => {
      if (field.number === fields.dims) dims.push(...(await this.#packed(field)));
      else if (field.number === fields.name) name = await this.#string(field);
      else entries.set(...(await this.#entry(field)));
    };
    // No promise for each string of a vocabulary either.
    await this.#file.walk(message.start, message.end, (field) => {
      const { number, delimited } = field;
      if (number === fields.dims && !delimited) dims.push(field.value);
      else if (number === fields.dataType) dataType = field.value;
      else if (number === fields.dataLocation) external = field.value === DATA_LOCATION_EXTERNAL;
      else if (number === fields.dims || number === fields.name || number === fields.externalData) return keep(field);
      return undefined;
    });
    if (external || entries.has("location")) this.#externalData.push(this.#reference(name, entries));
    const isWeight = dims.length > 0 && dataType !== ONNX_TYPE_NUMBER.INT64;
    return { name, elements: isWeight ? dims.reduce((product, dim) => product * dim, 1) : 0 };
  }

  async #packed(field: ProtobufField): Promise<number[]> {
    if (field.end - field.start > STRING_BYTES_MAX) {
      throw new ProtobufFileError("malformed", `the tensor at byte ${field.start} has too many dimensions`);
    }
    return unpackVarints(await this.#file.bytes(field.start, field.end));
  }

  async #entry(message: ProtobufField): Promise<[string, string]> {
    let key = "";
    let value = "";
    await this.#file.walk(message.start, message.end, async (field) => {
      if (field.number === ONNX_FIELDS.entry.key) key = await this.#string(field);
      else if (field.number === ONNX_FIELDS.entry.value) value = await this.#string(field);
    });
    return [key, value];
  }

  #reference(tensor: string, entries: ReadonlyMap<string, string>): ExternalDataReference {
    const location = entries.get("location") ?? "";
    const offsetBytes = Number(entries.get("offset") ?? 0);
    const length = entries.get("length");
    const lengthBytes = length === undefined ? null : Number(length);
    if (location.startsWith(MEMORY_LOCATION_PREFIX)) {
      throw new ProtobufFileError("malformed", `tensor '${tensor}' claims to lie in the runtime's memory`);
    }
    const sizes = [offsetBytes, lengthBytes ?? 0];
    if (location === "" || !sizes.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      throw new ProtobufFileError(
        "malformed",
        `the external data of tensor '${tensor}' has no valid location, offset or length`,
      );
    }
    return { tensor, location, offsetBytes, lengthBytes };
  }

  async #value(message: ProtobufField): Promise<OnnxValue> {
    let name = "";
    let value: Omit<OnnxValue, "name"> = { kind: "untyped", elementType: "", datatype: null, dims: null };
    await this.#file.walk(message.start, message.end, async (field) => {
      if (field.number === ONNX_FIELDS.valueInfo.name) name = await this.#string(field);
      else if (field.number === ONNX_FIELDS.valueInfo.type) value = await this.#type(field, value);
    });
    return { name, ...value };
  }

  async #type(message: ProtobufField, untyped: Omit<OnnxValue, "name">): Promise<Omit<OnnxValue, "name">> {
    const fields = ONNX_FIELDS.type;
    let value = untyped;
    await this.#file.walk(message.start, message.end, async (field) => {
      if (field.number === fields.tensor) value = { kind: "tensor", ...(await this.#tensorType(field)) };
      else if (field.number === fields.sparseTensor) value = { ...untyped, kind: "sparse_tensor" };
      else if (field.number === fields.sequence) value = { ...untyped, kind: "sequence" };
      else if (field.number === fields.map) value = { ...untyped, kind: "map" };
      else if (field.number === fields.opaque) value = { ...untyped, kind: "opaque" };
      else if (field.number === fields.optional) value = { ...untyped, kind: "optional" };
    });
    return value;
  }

  async #tensorType(message: ProtobufField): Promise<Pick<OnnxValue, "elementType" | "datatype" | "dims">> {
    let type = 0;
    let dims: OnnxDim[] | null = null;
    await this.#file.walk(message.start, message.end, async (field) => {
      if (field.number === ONNX_FIELDS.tensorType.elemType) type = field.value;
      else if (field.number === ONNX_FIELDS.tensorType.shape) dims = await this.#shape(field);
    });
    const known = ONNX_ELEMENT_TYPES.get(type);
    return { elementType: known?.name ?? `type ${type}`, datatype: known?.datatype ?? null, dims };
  }

  async #shape(message: ProtobufField): Promise<OnnxDim[]> {
    const dims: OnnxDim[] = [];
    await this.#file.walk(message.start, message.end, async (dimension) => {
      if (dimension.number !== ONNX_FIELDS.shape.dim) return;
      let dim: OnnxDim = null;
      await this.#file.walk(dimension.start, dimension.end, async (field) => {
        // A negative size is how some exporters write one that varies.
        if (field.number === ONNX_FIELDS.dimension.value) dim = field.value < 0 ? null : field.value;
        else if (field.number === ONNX_FIELDS.dimension.param) dim = (await this.#string(field)) || null;
      });
      dims.push(dim);
    });
    return dims;
  }
}
