/** The catalog of `test/rpc/models.ts` as real models: each input `X` has an output `out_X` of the same type and shape. */
import type { Datatype } from "../../daemon/engine/tensors.ts";
import { Graph } from "../../models/onnx/graph.ts";
import { writeModel } from "../../models/onnx/write-model.ts";
import { writeModelFiles } from "./live-daemon.ts";

type Input = readonly [name: string, datatype: Datatype, dims: readonly (number | string)[]];

function echo(inputs: readonly Input[]): Uint8Array {
  const graph = new Graph("echo");
  for (const [name, datatype, dims] of inputs) {
    graph.input(name, datatype, dims);
    graph.output(`out_${name}`, datatype, dims);
    graph.node("Identity", [name], {}, `out_${name}`);
  }
  return writeModel(graph);
}

const BATCHED: Readonly<Record<string, readonly Input[]>> = {
  vector: [["x", "FP32", ["batch", 4]]],
  pair: [
    ["a", "FP32", ["batch", 2]],
    ["b", "INT64", ["batch", 1]],
  ],
  image: [["image", "FP32", ["batch", 3, 224, 224]]],
  tokens: [
    ["ids", "INT64", ["batch", "length"]],
    ["mask", "INT64", ["batch", "length"]],
  ],
  words: [["text", "BYTES", ["batch", 2]]],
  t_FP32: [["x", "FP32", ["batch", 2]]],
  t_FP16: [["x", "FP16", ["batch", 2]]],
  t_INT8: [["x", "INT8", ["batch", 2]]],
  t_BOOL: [["x", "BOOL", ["batch", 2]]],
};

/** Writes them into a repository. */
export function writeEchoModels(repository: string): void {
  const config = "max_batch_size: 8\nbuckets: [1, 8]\nslo_ms: 60000\n";
  for (const [name, inputs] of Object.entries(BATCHED)) {
    writeModelFiles(repository, name, { "1/model.onnx": echo(inputs), "config.yaml": config });
  }
  writeModelFiles(repository, "vector", {
    "2/model.onnx": echo(BATCHED.vector!),
    "config.yaml": `${config}versions: all\n`,
  });
  const flat = echo([["x", "FP32", [2, "n"]]]);
  writeModelFiles(repository, "flat", { "1/model.onnx": flat, "config.yaml": "slo_ms: 60000\n" });
}
