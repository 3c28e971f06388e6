/** Models of a few bytes for tests: each shows one way in which models differ. */
import type { Datatype } from "../../daemon/engine/tensors.ts";
import { Graph } from "./graph.ts";
import { bytesOf, type Constant, floats, integers, scalar } from "./tensor.ts";
import { writeModel } from "./write-model.ts";

/** `x` → `y` = `x`, both [batch, `width`] of the datatype; `width` varies where it is null. */
export function identity(datatype: Datatype, width: number | null = 4): Uint8Array {
  const graph = new Graph(`identity_${datatype.toLowerCase()}`);
  const dims = ["batch", width ?? "width"];
  graph.input("x", datatype, dims);
  graph.output("y", datatype, dims);
  graph.node("Identity", ["x"], {}, "y");
  return writeModel(graph);
}

/** `text` → `same`, both BYTES [batch, 1]. */
export function stringIdentity(): Uint8Array {
  const graph = new Graph("string_identity");
  graph.input("text", "BYTES", ["batch", 1]);
  graph.output("same", "BYTES", ["batch", 1]);
  graph.node("Identity", ["text"], {}, "same");
  return writeModel(graph);
}

/** The cheapest model there is: `x` → `y` = `x`, both FP32 [batch, `width`]. */
export function noop(width: number = 16): Uint8Array {
  return identity("FP32", width);
}

/** `x` → `y` = `x` + 1, both FP32 [batch, `width`]. */
export function addOne(width: number = 4): Uint8Array {
  const graph = new Graph("add_one");
  graph.input("x", "FP32", ["batch", width]);
  graph.output("y", "FP32", ["batch", width]);
  graph.node("Add", ["x", graph.constant("one", scalar(1))], {}, "y");
  return writeModel(graph);
}

/**
 * `a` FP32 [batch, 3] and `b` FP32 [batch, 3] → `sum` = a + b, FP32 [batch, 3], and `product` = the sum over the row of
 * a · b, FP32 [batch, 1].
 */
export function twoInputsTwoOutputs(): Uint8Array {
  const graph = new Graph("two_inputs_two_outputs");
  graph.input("a", "FP32", ["batch", 3]);
  graph.input("b", "FP32", ["batch", 3]);
  graph.output("sum", "FP32", ["batch", 3]);
  graph.output("product", "FP32", ["batch", 1]);
  graph.node("Add", ["a", "b"], {}, "sum");
  const axes = graph.constant("axes", integers([1]));
  graph.node("ReduceSum", [graph.node("Mul", ["a", "b"]), axes], { keepdims: 1 }, "product");
  return writeModel(graph);
}

/** `x` → `y` = 2 · `x`, both FP32 of the fixed shape [2, 3]: no dimension is a batch's. */
export function noBatchDim(): Uint8Array {
  const graph = new Graph("no_batch_dim");
  graph.input("x", "FP32", [2, 3]);
  graph.output("y", "FP32", [2, 3]);
  graph.node("Mul", ["x", graph.constant("two", scalar(2))], {}, "y");
  return writeModel(graph);
}

/** `x` FP32 [batch, length] → `y` = 2 · `x` of the same shape, and `total` = the sum of each row, FP32 [batch]. */
export function dynamicDims(): Uint8Array {
  const graph = new Graph("dynamic_dims");
  graph.input("x", "FP32", ["batch", "length"]);
  graph.output("y", "FP32", ["batch", "length"]);
  graph.output("total", "FP32", ["batch"]);
  graph.node("Mul", ["x", graph.constant("two", scalar(2))], {}, "y");
  // CUDA sums up rows of no elements only where the dimension is kept.
  const axes = graph.constant("axes", integers([1]));
  graph.node("Squeeze", [graph.node("ReduceSum", ["x", axes], { keepdims: 1 }), axes], {}, "total");
  return writeModel(graph);
}

/** Tokens that `maskedMean` knows: 0 to this, exclusive. */
export const MASKED_MEAN_VOCABULARY = 32;

/**
 * `input_ids` and `attention_mask`, INT64 [batch, sequence] → `pooled`, the mean embedding of the tokens that are not masked,
 * FP32 [batch, 4], and `states`, each token's embedding plus that mean, FP32 [batch, sequence, 4]. With `ignoresMask` the
 * mean is over all tokens, so that padding changes it.
 */
export function maskedMean({ ignoresMask = false }: { readonly ignoresMask?: boolean } = {}): Uint8Array {
  const width = 4;
  const graph = new Graph("masked_mean");
  const dims = ["batch", "sequence"];
  graph.input("input_ids", "INT64", dims);
  graph.input("attention_mask", "INT64", dims);
  graph.output("pooled", "FP32", ["batch", width]);
  graph.output("states", "FP32", [...dims, width]);
  const values = Float32Array.from({ length: MASKED_MEAN_VOCABULARY * width }, (_, i) => ((7 * i + 3) % 29) / 29);
  const table = graph.constant("embedding", floats([MASKED_MEAN_VOCABULARY, width], values));
  const embedded = graph.node("Gather", [table, "input_ids"]);
  const one = graph.constant("one", scalar(1));
  const mask = graph.node("Cast", ["attention_mask"], { to: 1 });
  // Whatever the mask holds, the larger of it and one.
  const counted = ignoresMask ? graph.node("Max", [mask, one]) : mask;
  const weight = graph.node("Unsqueeze", [counted, graph.constant("last", integers([2]))]);
  const tokens = graph.constant("tokens", integers([1]));
  const sum = graph.node("ReduceSum", [graph.node("Mul", [embedded, weight]), tokens], { keepdims: 1 });
  const count = graph.node("Max", [graph.node("ReduceSum", [weight, tokens], { keepdims: 1 }), one]);
  const mean = graph.node("Div", [sum, count]);
  graph.node("Add", [embedded, mean], {}, "states");
  graph.node("Squeeze", [mean, tokens], {}, "pooled");
  return writeModel(graph);
}

/** `x` FP32 [batch, 4] → `y` = `x`, and `mean` over the whole batch, FP32 of shape []: it can't be split by item. */
export function scalarOutput(): Uint8Array {
  const graph = new Graph("scalar_output");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", ["batch", 4]);
  graph.output("mean", "FP32", []);
  graph.node("Identity", ["x"], {}, "y");
  graph.node("ReduceMean", ["x"], { keepdims: 0 }, "mean");
  return writeModel(graph);
}

/**
 * `x` FP32 [batch, 4] → `y`, declared [rows, 4] but holding each row twice: what the first dimension is shows only when
 * it runs.
 */
export function doublesRows(): Uint8Array {
  const graph = new Graph("doubles_rows");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", ["batch", 4]);
  const twice = graph.node("Concat", ["x", "x"], { axis: 1 });
  graph.node("Reshape", [twice, graph.constant("shape", integers([-1, 4]))], {}, "y");
  return writeModel(graph);
}

/** `x` → `y` = the share of each element in its column, both FP32 [batch, 4]: what a row is answered depends on the others. */
export function sharesOfColumns(): Uint8Array {
  const graph = new Graph("shares_of_columns");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", ["batch", 4]);
  graph.node("Softmax", ["x"], { axis: 0 }, "y");
  return writeModel(graph);
}

/** `a`, `b` FP32 [batch, 2] → `scores` = a · bᵀ, FP32 [batch, batch]: each row against all others. */
export function eachAgainstAll(): Uint8Array {
  const graph = new Graph("each_against_all");
  graph.input("a", "FP32", ["batch", 2]);
  graph.input("b", "FP32", ["batch", 2]);
  graph.output("scores", "FP32", ["batch", "batch"]);
  graph.node("MatMul", ["a", graph.node("Transpose", ["b"], { perm: [1, 0] })], {}, "scores");
  return writeModel(graph);
}

/** `x` FP32 [batch, 4] → `x` itself and `y` = 2 · `x`: an output that is an input. */
export function passesThrough(): Uint8Array {
  const graph = new Graph("passes_through");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", ["batch", 4]);
  graph.node("Mul", ["x", graph.constant("two", scalar(2))], {}, "y");
  return writeModel(graph);
}

/** `x` FP32 [batch, 4] → `y` = 2 · `x`, whose file declares one row of it, whatever there are. */
export function declaresOneRow(): Uint8Array {
  const graph = new Graph("declares_one_row");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", [1, 4]);
  graph.node("Mul", ["x", graph.constant("two", scalar(2))], {}, "y");
  return writeModel(graph);
}

/**
 * `index` INT64 [batch, 1] → `value` FP32 [batch, 1] = 10 · index, for indexes 0 to 3; the run fails where any index of
 * the batch lies outside −4 … 3.
 */
export function failsAtRun(): Uint8Array {
  const graph = new Graph("fails_at_run");
  graph.input("index", "INT64", ["batch", 1]);
  graph.output("value", "FP32", ["batch", 1]);
  graph.node("Gather", [graph.constant("table", floats([4], [0, 10, 20, 30])), "index"], { axis: 0 }, "value");
  return writeModel(graph);
}

/**
 * `x` FP32 [batch, `width`] → `y` of the same shape by `layers` matrix products: about 2 · layers · width² floating-point
 * operations an item. The weights keep the row as it is, in another order; `y` = `x` rotated by `layers`.
 */
export function slow(options: { readonly layers?: number; readonly width?: number } = {}): Uint8Array {
  const { layers = 8, width = 256 } = options;
  const graph = new Graph("slow");
  graph.input("x", "FP32", ["batch", width]);
  graph.output("y", "FP32", ["batch", width]);
  const rotation = new Float32Array(width * width);
  for (let row = 0; row < width; row++) rotation[row * width + ((row + 1) % width)] = 1;
  const weights = graph.constant("rotation", floats([width, width], rotation));
  let x = "x";
  for (let layer = 1; layer <= layers; layer++)
    x = graph.node("MatMul", [x, weights], {}, layer === layers ? "y" : undefined);
  return writeModel(graph);
}

/** `x` FP32 [batch, 4] → `y` = `x` + weights that lie in the file `location` beside the model: 16 bytes of FP32. */
export function externalWeights(location: string = "weights.bin"): {
  readonly model: Uint8Array;
  readonly weights: Uint8Array;
} {
  const weights = bytesOf(Float32Array.of(1, 2, 3, 4));
  const graph = new Graph("external_weights");
  graph.input("x", "FP32", ["batch", 4]);
  graph.output("y", "FP32", ["batch", 4]);
  const external = { location, offsetBytes: 0, lengthBytes: weights.byteLength };
  const constant: Constant = { datatype: "FP32", dims: [4], data: null, external };
  graph.node("Add", ["x", graph.constant("weights", constant)], {}, "y");
  return { model: writeModel(graph), weights };
}
