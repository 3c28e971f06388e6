import type { Graph } from "../onnx/graph.ts";
import { floats } from "../onnx/tensor.ts";
import { Random } from "../random.ts";

/**
 * Adds a weight of values uniform in ±√(6 / `fanIn`) · `gain`: with gain 1, what keeps the size of activations the same
 * through ReLU layers (He et al. 2015). The values depend on the graph's name and the weight's alone.
 */
export function seededWeight(graph: Graph, name: string, dims: readonly number[], fanIn: number, gain = 1): string {
  const count = dims.reduce((product, dim) => product * dim, 1);
  const values = new Random(`${graph.name}/${name}`).fill(count, Math.sqrt(6 / fanIn) * gain);
  return graph.constant(name, floats(dims, values));
}

/** Adds small biases, uniform in ±0.05. */
export function seededBias(graph: Graph, name: string, size: number): string {
  return graph.constant(name, floats([size], new Random(`${graph.name}/${name}`).fill(size, 0.05)));
}

/** `x · W + b` over the last dimension of any number of dimensions. */
export function linear(graph: Graph, name: string, x: string, inputs: number, outputs: number, gain = 1): string {
  const product = graph.node("MatMul", [x, seededWeight(graph, `${name}.weight`, [inputs, outputs], inputs, gain)]);
  return graph.node("Add", [product, seededBias(graph, `${name}.bias`, outputs)]);
}
