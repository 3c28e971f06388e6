import { Graph } from "../../models/onnx/graph.ts";
import { writeModel } from "../../models/onnx/write-model.ts";

/** Its metadata are sound, so that it is tried; but the runtime knows no operator `NoSuchOperator`. */
export function unknownOperator(): Uint8Array {
  const graph = new Graph("unknown_operator");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", ["batch", 4]);
  graph.node("NoSuchOperator", ["x"], {}, "y");
  return writeModel(graph);
}
