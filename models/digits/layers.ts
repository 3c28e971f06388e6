/**
 * Layers of a small convolutional net with their gradients, one image at a time. Activations of images are
 * [height, width, channels], so that a convolution is a product of two matrices.
 */
import type { Random } from "../random.ts";

type Vector = Float64Array;

/** Weights of a layer with the gradient summed over a batch and the state of Adam. */
export class Parameters {
  readonly values: Vector;
  readonly gradient: Vector;
  readonly #mean: Vector;
  readonly #variance: Vector;

  constructor(values: ArrayLike<number>) {
    this.values = Float64Array.from(values);
    this.gradient = new Float64Array(values.length);
    this.#mean = new Float64Array(values.length);
    this.#variance = new Float64Array(values.length);
  }

  /**
   * One step of Adam (Kingma, Ba 2015) with decoupled weight decay (Loshchilov, Hutter 2019) on the mean gradient of a
   * batch; clears the gradient. `step` counts from 1.
   */
  update(step: number, rate: number, decay: number, batch: number): void {
    const correct1 = 1 / (1 - 0.9 ** step);
    const correct2 = 1 / (1 - 0.999 ** step);
    for (let i = 0; i < this.values.length; i++) {
      const gradient = this.gradient[i]! / batch;
      const mean = 0.9 * this.#mean[i]! + 0.1 * gradient;
      const variance = 0.999 * this.#variance[i]! + 0.001 * gradient * gradient;
      this.#mean[i] = mean;
      this.#variance[i] = variance;
      const change = (mean * correct1) / (Math.sqrt(variance * correct2) + 1e-8);
      this.values[i] = this.values[i]! * (1 - rate * decay) - rate * change;
      this.gradient[i] = 0;
    }
  }
}

/** A layer's output is its own buffer, valid until its next `forward`. */
export interface Layer {
  readonly parameters: readonly Parameters[];
  forward(input: Vector): Vector;
  /** Adds to the parameters' gradients; returns the gradient of the input of the last `forward`. */
  backward(gradient: Vector): Vector;
}

/** `y = max(0, x · W + b)` for each row of x, or without the maximum; W is [inputs, outputs]. */
export class Dense implements Layer {
  readonly weights: Parameters;
  readonly biases: Parameters;
  readonly parameters: readonly Parameters[];
  readonly #rows: number;
  readonly #inputs: number;
  readonly #outputs: number;
  readonly #relu: boolean;
  readonly #output: Vector;
  readonly #inputGradient: Vector;
  #input: Vector = new Float64Array(0);

  constructor(random: Random, rows: number, inputs: number, outputs: number, relu: boolean) {
    this.#rows = rows;
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.#relu = relu;
    this.weights = new Parameters(random.fill(inputs * outputs, Math.sqrt(6 / inputs)));
    this.biases = new Parameters(new Float64Array(outputs));
    this.parameters = [this.weights, this.biases];
    this.#output = new Float64Array(rows * outputs);
    this.#inputGradient = new Float64Array(rows * inputs);
  }

  forward(input: Vector): Vector {
    this.#input = input;
    const weights = this.weights.values;
    const biases = this.biases.values;
    const output = this.#output;
    const width = this.#outputs;
    for (let row = 0; row < this.#rows; row++) {
      const to = row * width;
      for (let o = 0; o < width; o++) output[to + o] = biases[o]!;
      for (let i = 0; i < this.#inputs; i++) {
        const x = input[row * this.#inputs + i]!;
        if (x === 0) continue;
        const from = i * width;
        for (let o = 0; o < width; o++) output[to + o]! += x * weights[from + o]!;
      }
      if (!this.#relu) continue;
      for (let o = to; o < to + width; o++) if (output[o]! < 0) output[o] = 0;
    }
    return output;
  }

  backward(gradient: Vector): Vector {
    const input = this.#input;
    const inputGradient = this.#inputGradient;
    const weights = this.weights.values;
    const weightGradient = this.weights.gradient;
    const biasGradient = this.biases.gradient;
    const width = this.#outputs;
    for (let row = 0; row < this.#rows; row++) {
      const at = row * width;
      if (this.#relu) for (let o = at; o < at + width; o++) if (this.#output[o] === 0) gradient[o] = 0;
      for (let o = 0; o < width; o++) biasGradient[o]! += gradient[at + o]!;
      for (let i = 0; i < this.#inputs; i++) {
        const x = input[row * this.#inputs + i]!;
        const from = i * width;
        let sum = 0;
        for (let o = 0; o < width; o++) {
          const g = gradient[at + o]!;
          sum += g * weights[from + o]!;
          weightGradient[from + o]! += g * x;
        }
        inputGradient[row * this.#inputs + i] = sum;
      }
    }
    return inputGradient;
  }
}

/** A 3 × 3 convolution that keeps the size, with ReLU; its weights are [kernel row, kernel column, inputs, outputs]. */
export class Convolution implements Layer {
  readonly product: Dense;
  readonly parameters: readonly Parameters[];
  readonly #side: number;
  readonly #channels: number;
  readonly #patches: Vector;
  readonly #inputGradient: Vector;

  constructor(random: Random, side: number, inputs: number, outputs: number) {
    this.#side = side;
    this.#channels = inputs;
    this.product = new Dense(random, side * side, 9 * inputs, outputs, true);
    this.parameters = this.product.parameters;
    this.#patches = new Float64Array(side * side * 9 * inputs);
    this.#inputGradient = new Float64Array(side * side * inputs);
  }

  forward(input: Vector): Vector {
    this.#eachTap((patch, pixel) => {
      for (let c = 0; c < this.#channels; c++) this.#patches[patch + c] = input[pixel + c]!;
    });
    return this.product.forward(this.#patches);
  }

  backward(gradient: Vector): Vector {
    const patches = this.product.backward(gradient);
    this.#inputGradient.fill(0);
    this.#eachTap((patch, pixel) => {
      for (let c = 0; c < this.#channels; c++) this.#inputGradient[pixel + c]! += patches[patch + c]!;
    });
    return this.#inputGradient;
  }

  /** Where in the patches each pixel's channels go; what lies outside the image stays 0. */
  #eachTap(visit: (patch: number, pixel: number) => void): void {
    const side = this.#side;
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        for (let tap = 0; tap < 9; tap++) {
          const fromY = y + Math.floor(tap / 3) - 1;
          const fromX = x + (tap % 3) - 1;
          if (fromY < 0 || fromY >= side || fromX < 0 || fromX >= side) continue;
          visit(((y * side + x) * 9 + tap) * this.#channels, (fromY * side + fromX) * this.#channels);
        }
      }
    }
  }
}

/** The maximum of each 2 × 2 square. */
export class MaxPool implements Layer {
  readonly parameters: readonly Parameters[] = [];
  readonly #side: number;
  readonly #channels: number;
  readonly #output: Vector;
  readonly #source: Int32Array;
  readonly #inputGradient: Vector;

  constructor(side: number, channels: number) {
    this.#side = side;
    this.#channels = channels;
    this.#output = new Float64Array((side * side * channels) / 4);
    this.#source = new Int32Array(this.#output.length);
    this.#inputGradient = new Float64Array(side * side * channels);
  }

  forward(input: Vector): Vector {
    const half = this.#side / 2;
    for (let o = 0; o < this.#output.length; o++) {
      const channel = o % this.#channels;
      const pixel = (o - channel) / this.#channels;
      const corner = Math.floor(pixel / half) * 2 * this.#side + (pixel % half) * 2;
      let best = corner * this.#channels + channel;
      for (const other of [corner + 1, corner + this.#side, corner + this.#side + 1]) {
        const at = other * this.#channels + channel;
        if (input[at]! > input[best]!) best = at;
      }
      this.#output[o] = input[best]!;
      this.#source[o] = best;
    }
    return this.#output;
  }

  backward(gradient: Vector): Vector {
    this.#inputGradient.fill(0);
    for (let o = 0; o < this.#output.length; o++) this.#inputGradient[this.#source[o]!] = gradient[o]!;
    return this.#inputGradient;
  }
}

/** Zeroes a share of the values while training and scales the others up (Srivastava et al. 2014). */
export class Dropout implements Layer {
  readonly parameters: readonly Parameters[] = [];
  training = false;
  readonly #random: Random;
  readonly #share: number;
  readonly #output: Vector;
  readonly #kept: Vector;

  constructor(random: Random, size: number, share: number) {
    this.#random = random;
    this.#share = share;
    this.#output = new Float64Array(size);
    this.#kept = new Float64Array(size);
  }

  forward(input: Vector): Vector {
    if (!this.training) return input;
    for (let i = 0; i < this.#output.length; i++) {
      this.#kept[i] = this.#random.uniform() < this.#share ? 0 : 1 / (1 - this.#share);
      this.#output[i] = input[i]! * this.#kept[i]!;
    }
    return this.#output;
  }

  backward(gradient: Vector): Vector {
    for (let i = 0; i < this.#output.length; i++) gradient[i]! *= this.#kept[i]!;
    return gradient;
  }
}
