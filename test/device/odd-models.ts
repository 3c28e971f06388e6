/** Models whose outputs do not keep to what their inputs promise. */
import { Graph } from "../../models/onnx/graph.ts";
import { floats, integers } from "../../models/onnx/tensor.ts";
import { writeModel } from "../../models/onnx/write-model.ts";

/**
 * `x` FP32 [batch, width], `times` INT64 [batch, 1] → `y` = each row of x repeated max(times) times side by side. Declared
 * [batch, "wide"]; with `lies`, declared as wide as x, which holds only where times is 1.
 */
export function repeatsByData({ lies = false, width = 4 }: { lies?: boolean; width?: number } = {}): Uint8Array {
  const graph = new Graph("repeats_by_data");
  graph.input("x", "FP32", ["batch", lies ? "width" : width]);
  graph.input("times", "INT64", ["batch", 1]);
  graph.output("y", "FP32", ["batch", lies ? "width" : "wide"]);
  const most = graph.node("Reshape", [
    graph.node("ReduceMax", ["times"], { keepdims: 0 }),
    graph.constant("one_dim", integers([1])),
  ]);
  const repeats = graph.node("Concat", [graph.constant("once", integers([1])), most], { axis: 0 });
  graph.node("Tile", ["x", repeats], {}, "y");
  return writeModel(graph);
}

/** `x` → `y` = x less its columns' means, both FP32 [batch, 4]: what rows do to each other does not show where they are alike. */
export function lessMeansOfColumns(): Uint8Array {
  const graph = new Graph("less_means_of_columns");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", ["batch", 4]);
  const means = graph.node("ReduceMean", ["x"], { axes: [0], keepdims: 1 });
  graph.node("Sub", ["x", means], {}, "y");
  return writeModel(graph);
}

/**
 * `index` INT64 [batch, 1] → `value` = index + 7, in a way that fails on every device where an index is above 0 (one that reads past a table's
 * end would not: on CUDA that gives zeros). Every run with ones as input fails.
 *
 * @param failing name of the node that fails, which the runtime's message holds
 */
export function onlyIndexZero(failing: string = "failing"): Uint8Array {
  const graph = new Graph("only_index_zero");
  graph.input("index", "INT64", ["batch", 1]);
  graph.output("value", "INT64", ["batch", 1]);
  const largest = graph.node("Reshape", [
    graph.node("ReduceMax", ["index"], { keepdims: 0 }),
    graph.constant("one_dim", integers([1])),
  ]);
  const size = graph.node("Add", [largest, graph.constant("one", integers([1]))]);
  const seven = graph.constant("seven", integers([7]));
  graph.nodes.push({ op: "Reshape", name: failing, inputs: [seven, size], outputs: ["sized"], attributes: {} });
  graph.node("Add", ["index", "sized"], {}, "value");
  return writeModel(graph);
}

/** `x` FP32 [batch, length] → `y` = x plus constants: whatever it declares, it takes no other length than this (above 1). */
export function onlyOfLength(length: number): Uint8Array {
  const graph = new Graph("only_of_length");
  graph.input("x", "FP32", ["batch", "length"]);
  graph.output("y", "FP32", ["batch", "length"]);
  const row = graph.constant("row", floats([length], Array<number>(length).fill(1)));
  graph.node("Add", ["x", row], {}, "y");
  return writeModel(graph);
}
