/** Takes the host's paths out of messages of the runtime before they reach callers. */
import path from "node:path";

/** Names in a graph look like paths too (`/encoder/layer.0/MatMul`): only those that end like a file of the host are cut. */
const FILE_PATH =
  /(?<![\w.])\/(?:[\w.@+ -]+\/)+([\w.@+-]+\.(?:cc|cpp|cu|h|hpp|c|js|mjs|ts|node|onnx|data|bin|so(?:\.\d+)*))(?!\w)/g;
const RUNTIME_PREFIX = /^(?:Non-zero status code returned while |\[ONNXRuntimeError\] : \d+ : \w+ : )/;

/** The message with paths cut to their last part, on one line. */
export function scrubPaths(message: string, modelPath: string | null = null): string {
  let text = message;
  if (modelPath !== null) {
    text = text
      .replaceAll(modelPath, path.basename(modelPath))
      .replaceAll(path.dirname(modelPath), "the model's folder");
  }
  return text.replace(FILE_PATH, "$1").replace(RUNTIME_PREFIX, "").replace(/\s+/g, " ").trim();
}
