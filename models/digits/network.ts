import { Graph } from "../onnx/graph.ts";
import { floats, integers, scalar } from "../onnx/tensor.ts";
import { writeModel } from "../onnx/write-model.ts";
import { Random } from "../random.ts";
import { IMAGE_PIXELS, IMAGE_SIDE } from "./dataset.ts";
import { Convolution, Dense, Dropout, type Layer, MaxPool } from "./layers.ts";

const CLASSES = 10;
const CHANNELS_1 = 16;
const CHANNELS_2 = 32;
const HIDDEN = 64;
const POOLED_SIDE: number = IMAGE_SIDE / 2;
/** The largest pixel value. */
const INK_MAX = 16;

/** Two convolutions, a maximum pool and two dense layers: about 38,000 weights. */
export class DigitsNetwork {
  readonly #convolution1: Convolution;
  readonly #convolution2: Convolution;
  readonly #dropout: Dropout;
  readonly #hidden: Dense;
  readonly #classes: Dense;
  readonly #layers: readonly Layer[];
  readonly #input = new Float64Array(IMAGE_PIXELS);
  #step = 0;

  constructor(seed: number) {
    const random = new Random(seed);
    const pooled = POOLED_SIDE * POOLED_SIDE * CHANNELS_2;
    this.#convolution1 = new Convolution(random, IMAGE_SIDE, 1, CHANNELS_1);
    this.#convolution2 = new Convolution(random, IMAGE_SIDE, CHANNELS_1, CHANNELS_2);
    this.#dropout = new Dropout(new Random(`dropout ${seed}`), pooled, 0.25);
    this.#hidden = new Dense(random, 1, pooled, HIDDEN, true);
    this.#classes = new Dense(random, 1, HIDDEN, CLASSES, false);
    const pool = new MaxPool(IMAGE_SIDE, CHANNELS_2);
    this.#layers = [this.#convolution1, this.#convolution2, pool, this.#dropout, this.#hidden, this.#classes];
  }

  /** Probabilities of the ten digits for an image of 64 pixels of 0 to 16. */
  predict(image: ArrayLike<number>): Float64Array {
    let x = this.#input;
    for (let i = 0; i < IMAGE_PIXELS; i++) x[i] = image[i]! / INK_MAX;
    for (const layer of this.#layers) x = layer.forward(x) as typeof x;
    return softmax(x);
  }

  /** One training step on a batch; returns its mean cross-entropy. */
  learn(batch: readonly { image: ArrayLike<number>; label: number }[], rate: number, decay: number): number {
    let loss = 0;
    this.#dropout.training = true;
    for (const { image, label } of batch) {
      const gradient = this.predict(image);
      loss -= Math.log(Math.max(gradient[label]!, 1e-12));
      gradient[label]! -= 1;
      let back: Float64Array = gradient;
      for (const layer of this.#layers.toReversed()) back = layer.backward(back);
    }
    this.#dropout.training = false;
    this.#step++;
    for (const layer of this.#layers) {
      for (const parameters of layer.parameters) parameters.update(this.#step, rate, decay, batch.length);
    }
    return loss / batch.length;
  }

  /** `image` [batch, 1, 8, 8] FP32 of 0 to 16 → `probabilities` [batch, 10] FP32 and `digit` [batch] INT64. */
  toOnnx(): Uint8Array {
    const graph = new Graph("digits");
    graph.input("image", "FP32", ["batch", 1, IMAGE_SIDE, IMAGE_SIDE]);
    graph.output("probabilities", "FP32", ["batch", CLASSES]);
    graph.output("digit", "INT64", ["batch"]);
    let x = graph.node("Div", ["image", graph.constant("ink_max", scalar(INK_MAX))]);
    x = convolution(graph, "conv1", this.#convolution1, x, 1, CHANNELS_1);
    x = convolution(graph, "conv2", this.#convolution2, x, CHANNELS_1, CHANNELS_2);
    x = graph.node("MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
    const flat = graph.constant("flat", integers([0, POOLED_SIDE * POOLED_SIDE * CHANNELS_2]));
    // The layers here keep channels last; the runtime keeps them before height and width.
    x = graph.node("Reshape", [graph.node("Transpose", [x], { perm: [0, 2, 3, 1] }), flat]);
    x = graph.node("Relu", [dense(graph, "hidden", this.#hidden, x, HIDDEN)]);
    x = dense(graph, "classes", this.#classes, x, CLASSES);
    graph.node("Softmax", [x], { axis: 1 }, "probabilities");
    graph.node("ArgMax", ["probabilities"], { axis: 1, keepdims: 0 }, "digit");
    return writeModel(graph);
  }
}

function convolution(
  graph: Graph,
  name: string,
  layer: Convolution,
  x: string,
  inputs: number,
  outputs: number,
): string {
  const values = layer.product.weights.values;
  const weights = new Float32Array(values.length);
  for (let tap = 0; tap < 9; tap++) {
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) weights[(o * inputs + i) * 9 + tap] = values[(tap * inputs + i) * outputs + o]!;
    }
  }
  const w = graph.constant(`${name}.weight`, floats([outputs, inputs, 3, 3], weights));
  const b = graph.constant(`${name}.bias`, floats([outputs], layer.product.biases.values));
  return graph.node("Relu", [graph.node("Conv", [x, w, b], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })]);
}

function dense(graph: Graph, name: string, layer: Dense, x: string, outputs: number): string {
  const { values } = layer.weights;
  const w = graph.constant(`${name}.weight`, floats([values.length / outputs, outputs], values));
  return graph.node("Gemm", [x, w, graph.constant(`${name}.bias`, floats([outputs], layer.biases.values))]);
}

function softmax(logits: Float64Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b));
  const exponentials = logits.map((logit) => Math.exp(logit - max));
  const sum = exponentials.reduce((a, b) => a + b);
  return exponentials.map((value) => value / sum);
}
