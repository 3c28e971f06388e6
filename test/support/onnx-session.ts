import type { InferenceSession, Tensor } from "onnxruntime-node";

// The runtime's binding refuses the Float16Array that newer Node versions have; without it, it takes Uint16Array.
Reflect.deleteProperty(globalThis, "Float16Array");
const runtime = await import("onnxruntime-node");

export const OnnxTensor: typeof Tensor = runtime.Tensor;

/** A session of the runtime on one thread, without the daemon: what answers are compared with. */
export async function loneSession(model: string | Uint8Array): Promise<InferenceSession> {
  const options: InferenceSession.SessionOptions = {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 4,
    executionProviders: ["cpu"],
  };
  return typeof model === "string"
    ? await runtime.InferenceSession.create(model, options)
    : await runtime.InferenceSession.create(model, options);
}

/** A float32 tensor. */
export function floatTensor(dims: readonly number[], values: ArrayLike<number>): Tensor {
  return new OnnxTensor("float32", values instanceof Float32Array ? values : Float32Array.from(values), dims);
}
