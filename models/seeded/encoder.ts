import { float, Graph } from "../onnx/graph.ts";
import { floats, integers, scalar } from "../onnx/tensor.ts";
import type { SampleModel } from "../sample-model.ts";
import { linear, seededWeight } from "./weights.ts";

export const ENCODER_VOCABULARY = 8192;
export const ENCODER_HIDDEN = 256;

export interface EncoderSize {
  /** The graph's; the weights depend on it. */
  readonly name: string;
  readonly layers: number;
  /** A multiple of `heads`. */
  readonly hidden: number;
  readonly heads: number;
  readonly feedForward: number;
}

export const ENCODER_SMALL: EncoderSize = {
  name: "encoder",
  layers: 4,
  hidden: ENCODER_HIDDEN,
  heads: 4,
  feedForward: 1024,
};
/** Layers, sizes and heads of BERT base (Devlin et al. 2019): some 90 million weights with this vocabulary. */
export const ENCODER_BASE: EncoderSize = {
  name: "encoder-base",
  layers: 12,
  hidden: 768,
  heads: 12,
  feedForward: 3072,
};
/** The gain at which linear layers without ReLU keep the size of activations. */
const LINEAR_GAIN: number = Math.SQRT1_2;
/** Added to the attention score of a masked token: its share becomes exactly 0 in float32. */
const MASKED = -1e9;

/**
 * A transformer encoder (Vaswani et al. 2017) with normalisation after each block: `input_ids` and `attention_mask`, both
 * INT64 [batch, sequence] → `last_hidden_state` FP32 [batch, sequence, hidden] and `pooled` FP32 [batch, hidden], the mean
 * over the tokens that are not masked.
 *
 * @param pooledOnly leaves `last_hidden_state` out, which for long texts takes more of the wire than of the device
 */
export function buildEncoder(size: EncoderSize, { pooledOnly = false }: { pooledOnly?: boolean } = {}): Graph {
  const { name, layers, hidden } = size;
  const graph = new Graph(name);
  const dims = ["batch", "sequence"];
  graph.input("input_ids", "INT64", dims);
  graph.input("attention_mask", "INT64", dims);
  if (!pooledOnly) graph.output("last_hidden_state", "FP32", [...dims, hidden]);
  graph.output("pooled", "FP32", ["batch", hidden]);
  const mask = graph.node("Cast", ["attention_mask"], { to: 1 });
  const one = graph.constant("one", scalar(1));
  const masked = graph.node("Mul", [graph.node("Sub", [one, mask]), graph.constant("masked", scalar(MASKED))]);
  const attentionBias = graph.node("Unsqueeze", [masked, graph.constant("heads_queries", integers([1, 2]))]);

  let x = normalized(graph, "embedding.norm", hidden, embedded(graph, hidden));
  for (let layer = 1; layer <= layers; layer++) {
    const name = `layer${layer}`;
    x = graph.node("Add", [x, attention(graph, `${name}.attention`, size, x, attentionBias)]);
    x = normalized(graph, `${name}.attention.norm`, hidden, x);
    x = graph.node("Add", [x, feedForward(graph, name, size, x)]);
    x = normalized(graph, `${name}.norm`, hidden, x, layer === layers ? "last_hidden_state" : undefined);
  }

  const weight = graph.node("Unsqueeze", [mask, graph.constant("last", integers([2]))]);
  const tokens = graph.constant("tokens", integers([1]));
  const sum = graph.node("ReduceSum", [graph.node("Mul", [x, weight]), tokens], { keepdims: 0 });
  const count = graph.node("Max", [graph.node("ReduceSum", [weight, tokens], { keepdims: 0 }), one]);
  graph.node("Div", [sum, count], {}, "pooled");
  return graph;
}

/** Embeddings of the tokens plus sines and cosines of their positions, which set no limit to the length. */
function embedded(graph: Graph, hidden: number): string {
  const table = seededWeight(graph, "embedding", [ENCODER_VOCABULARY, hidden], 6);
  const tokens = graph.node("Gather", [table, "input_ids"]);
  const length = graph.node("Gather", [graph.node("Shape", ["input_ids"]), graph.constant("axis", integers([1]))]);
  const range = graph.node("Range", [
    graph.constant("zero", { ...integers([0]), dims: [] }),
    graph.node("Squeeze", [length]),
    graph.constant("step", { ...integers([1]), dims: [] }),
  ]);
  const positions = graph.node("Unsqueeze", [
    graph.node("Cast", [range], { to: 1 }),
    graph.constant("column", integers([1])),
  ]);
  const half = hidden / 2;
  // Each frequency is a power of the first, by exactly rounded products: the same everywhere.
  const frequencies = new Float32Array(half);
  const ratio = 0.9306;
  for (let i = 0, frequency = 1; i < half; i++, frequency *= ratio) frequencies[i] = frequency;
  const angles = graph.node("Mul", [positions, graph.constant("frequencies", floats([1, half], frequencies))]);
  const waves = graph.node("Concat", [graph.node("Sin", [angles]), graph.node("Cos", [angles])], { axis: 1 });
  return graph.node("Add", [tokens, waves]);
}

function attention(graph: Graph, name: string, { hidden, heads: count }: EncoderSize, x: string, bias: string): string {
  const headSize = hidden / count;
  const split = graph.constant(`${name}.split`, integers([0, 0, count, headSize]));
  const heads = (part: string, perm: readonly number[]): string => {
    const projected = linear(graph, `${name}.${part}`, x, hidden, hidden, LINEAR_GAIN);
    return graph.node("Transpose", [graph.node("Reshape", [projected, split])], { perm });
  };
  const queries = heads("query", [0, 2, 1, 3]);
  const keys = heads("key", [0, 2, 3, 1]);
  const values = heads("value", [0, 2, 1, 3]);
  const scale = graph.constant(`${name}.scale`, scalar(1 / Math.sqrt(headSize)));
  const scores = graph.node("Mul", [graph.node("MatMul", [queries, keys]), scale]);
  const shares = graph.node("Softmax", [graph.node("Add", [scores, bias])], { axis: -1 });
  const mixed = graph.node("Transpose", [graph.node("MatMul", [shares, values])], { perm: [0, 2, 1, 3] });
  const joined = graph.node("Reshape", [mixed, graph.constant(`${name}.join`, integers([0, 0, hidden]))]);
  return linear(graph, `${name}.output`, joined, hidden, hidden, LINEAR_GAIN);
}

/** Two linear layers with GELU (Hendrycks, Gimpel 2016) between them. */
function feedForward(graph: Graph, name: string, { hidden, feedForward: width }: EncoderSize, x: string): string {
  const inner = linear(graph, `${name}.inner`, x, hidden, width);
  const root = graph.constant(`${name}.root`, scalar(Math.SQRT2));
  const erf = graph.node("Erf", [graph.node("Div", [inner, root])]);
  const one = graph.constant(`${name}.one`, scalar(1));
  const gated = graph.node("Mul", [inner, graph.node("Add", [erf, one])]);
  const gelu = graph.node("Mul", [gated, graph.constant(`${name}.half`, scalar(0.5))]);
  return linear(graph, `${name}.outer`, gelu, width, hidden);
}

function normalized(graph: Graph, name: string, hidden: number, x: string, output?: string): string {
  const scale = graph.constant(`${name}.scale`, floats([hidden], new Float32Array(hidden).fill(1)));
  const bias = graph.constant(`${name}.bias`, floats([hidden], new Float32Array(hidden)));
  return graph.node("LayerNormalization", [x, scale, bias], { axis: -1, epsilon: float(1e-5) }, output);
}

export const ENCODER: SampleModel = {
  name: "encoder",
  task: "embeds token sequences (transformer encoder)",
  license: "Apache-2.0",
  provenance: "generated by models/generate.ts; the weights are random and the embeddings mean nothing",
  weights: "seeded random",
  notes: `${ENCODER_SMALL.layers} layers, hidden size ${ENCODER_HIDDEN}, ${ENCODER_SMALL.heads} heads. Token ids 0 to ${ENCODER_VOCABULARY - 1}; attention_mask is 1 for tokens and 0 for padding, which changes nothing of the tokens' results. pooled is the mean over the tokens.`,
  build: () => buildEncoder(ENCODER_SMALL),
  externalWeights: false,
};
