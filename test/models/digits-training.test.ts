import assert from "node:assert/strict";
import { test } from "node:test";
import { loadDigits } from "../../models/digits/dataset.ts";
import { Convolution, Dense, type Layer, MaxPool } from "../../models/digits/layers.ts";
import { DigitsNetwork } from "../../models/digits/network.ts";
import { Random } from "../../models/random.ts";
import { floatTensor, loneSession } from "../support/onnx-session.ts";

const SEED = 11;

/** Compares gradients with differences of a weighted sum of the outputs. */
function assertGradients(layer: Layer, inputs: number): void {
  const random = new Random(SEED);
  const input = Float64Array.from(random.fill(inputs, 1));
  const weights = Float64Array.from(random.fill(layer.forward(input).length, 1));
  const objective = (): number => layer.forward(input).reduce((sum, value, at) => sum + value * weights[at]!, 0);
  objective();
  const inputGradient = layer.backward(weights.slice()).slice();
  const checked = [[input, inputGradient], ...layer.parameters.map(({ values, gradient }) => [values, gradient])];
  for (const [values, gradient] of checked as [Float64Array, Float64Array][]) {
    for (let tries = 0; tries < 20; tries++) {
      const at = random.below(values.length);
      const [original, step] = [values[at]!, 1e-6];
      values[at] = original + step;
      const above = objective();
      values[at] = original - step;
      const below = objective();
      values[at] = original;
      assert.ok(Math.abs((above - below) / (2 * step) - gradient[at]!) < 1e-5, `gradient ${at} of ${gradient.length}`);
    }
  }
}

test("gradients of the layers are those of their outputs", () => {
  assertGradients(new Dense(new Random(1), 3, 5, 4, true), 15);
  assertGradients(new Dense(new Random(2), 2, 5, 4, false), 10);
  assertGradients(new Convolution(new Random(3), 4, 2, 3), 32);
  assertGradients(new MaxPool(4, 3), 48);
});

test("the model file computes what the trained network does", async () => {
  const network = new DigitsNetwork(SEED);
  const { image } = loadDigits().train[0]!;
  const session = await loneSession(network.toOnnx());
  const { probabilities } = await session.run({ image: floatTensor([1, 1, 8, 8], image) });
  const expected = network.predict(image);
  for (const [digit, probability] of (probabilities!.data as Float32Array).entries()) {
    assert.ok(Math.abs(probability - expected[digit]!) < 1e-5);
  }
  await session.release();
});

test("training lowers the loss, and the same seed gives the same network", () => {
  const images = loadDigits().train.slice(0, 32);
  const losses = (): number[] => {
    const network = new DigitsNetwork(SEED);
    return Array.from({ length: 15 }, () => network.learn(images, 2e-3, 0));
  };
  const first = losses();
  assert.ok(first.at(-1)! < first[0]! / 2, `from ${first[0]} to ${first.at(-1)}`);
  assert.deepEqual(losses(), first);
});
