/** Takes the host's paths out of messages of the runtime before they reach callers. */
import path from "node:path";

/** Names in a graph look like paths too (`/encoder/layer.0/MatMul`): only those that end like a file of the host are cut. */
const FILE_PATH =
  /(?<![\w.])\/(?:[\w.@+ -]+\/)+([\w.@+-]+\.(?:cc|cpp|cu|h|hpp|c|js|mjs|ts|node|onnx|data|bin|so(?:\.\d+)*))(?!\w)/g;
const STATUS_PREFIX = /^\[ONNXRuntimeError\] : \d+ : \w+ : /;
const NODE_FAILED = /Non-zero status code returned while running (\S+) node\. Name:'([^']*)' Status Message: /;

/** The message with paths cut to their last part, on one line. */
export function scrubPaths(message: string, modelPath: string | null = null): string {
  let text = message;
  if (modelPath !== null) {
    text = text
      .replaceAll(modelPath, path.basename(modelPath))
      .replaceAll(path.dirname(modelPath), "the model's folder");
  }
  return text
    .replace(FILE_PATH, "$1")
    .replace(STATUS_PREFIX, "")
    .replace(NODE_FAILED, (_, type: string, name: string) => `${type} node${name === "" ? "" : ` "${name}"`} failed: `)
    .replace(/\s+/g, " ")
    .trim();
}
