/** ONNX Runtime as session threads use it: loaded late, quiet, and with each datatype's name and array on its side. */
import { createRequire } from "node:module";
import type { InferenceSession } from "onnxruntime-node";
import type { Datatype } from "../engine/tensors.ts";
import type { Provider } from "./provider.ts";

export type Runtime = typeof import("onnxruntime-node");

let loaded: Runtime | undefined;

/** Loads the runtime into this thread; only for threads that run nothing else. */
export function loadRuntime(): Runtime {
  if (loaded === undefined) {
    // Where Node has Float16Array (24 and later) the runtime makes float16 tensors of it, which its own binding refuses.
    Reflect.deleteProperty(globalThis, "Float16Array");
    loaded = createRequire(import.meta.url)("onnxruntime-node") as Runtime;
    // What fails comes as an exception too; warnings about every optimised node would fill the log.
    loaded.env.logLevel = "fatal";
  }
  return loaded;
}

type ElementArray = new (
  buffer: ArrayBuffer,
  offset: number,
  length: number,
) =>
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

interface RuntimeType {
  readonly name: string;
  readonly array: ElementArray;
}

const RUNTIME_TYPES: Readonly<Record<Exclude<Datatype, "BYTES">, RuntimeType>> = {
  BOOL: { name: "bool", array: Uint8Array },
  UINT8: { name: "uint8", array: Uint8Array },
  UINT16: { name: "uint16", array: Uint16Array },
  UINT32: { name: "uint32", array: Uint32Array },
  UINT64: { name: "uint64", array: BigUint64Array },
  INT8: { name: "int8", array: Int8Array },
  INT16: { name: "int16", array: Int16Array },
  INT32: { name: "int32", array: Int32Array },
  INT64: { name: "int64", array: BigInt64Array },
  FP16: { name: "float16", array: Uint16Array },
  FP32: { name: "float32", array: Float32Array },
  FP64: { name: "float64", array: Float64Array },
};

export type RuntimeTensor = InferenceSession.OnnxValueMapType[string];

/** The runtime's name of a datatype. */
export function runtimeTypeName(datatype: Datatype): string {
  return datatype === "BYTES" ? "string" : RUNTIME_TYPES[datatype].name;
}

/** A tensor on memory that it shares with the caller, from `offset` (a multiple of the element size). */
export function tensorOver(
  datatype: Exclude<Datatype, "BYTES">,
  buffer: ArrayBuffer,
  offset: number,
  shape: readonly number[],
): RuntimeTensor {
  const { name, array } = RUNTIME_TYPES[datatype];
  const elements = shape.reduce((count, size) => count * size, 1);
  const { Tensor } = loadRuntime();
  return new Tensor(name as "float32", new array(buffer, offset, elements) as Float32Array, shape);
}

/** Strings cross into the runtime as UTF-8. */
export function stringTensor(elements: readonly Uint8Array[], shape: readonly number[]): RuntimeTensor {
  const { Tensor } = loadRuntime();
  const texts = elements.map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  return new Tensor("string", texts, shape);
}

/** The bytes of a tensor that holds no strings; a view. */
export function tensorBytes(tensor: RuntimeTensor): Uint8Array {
  const data = tensor.data as Float32Array;
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** The strings of a tensor as bytes. */
export function tensorStrings(tensor: RuntimeTensor): Uint8Array[] {
  return (tensor.data as string[]).map((text) => Buffer.from(text, "utf8"));
}

export interface SessionSettings {
  readonly provider: Provider;
  readonly threads: number;
}

export function sessionOptions({ provider, threads }: SessionSettings): InferenceSession.SessionOptions {
  return {
    executionProviders: [
      provider.name === "cuda" ? { name: "cuda", deviceId: provider.deviceId } : provider.name,
      ...(provider.name === "cpu" ? [] : ["cpu" as const]),
    ],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    graphOptimizationLevel: "all",
    logSeverityLevel: 4,
    // Threads that spin while idle take the cores that the daemon and the other sessions need.
    extra: { session: { intra_op: { allow_spinning: "0" } } },
  };
}
