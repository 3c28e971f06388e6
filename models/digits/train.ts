/**
 * Trains the `digits` model: `npm run train:digits`. The same seed gives the same model.
 *
 * With `--validate`, a tenth of the training images is kept aside and the accuracy on it is printed instead: settings are
 * chosen by that, never by the test images.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { Random } from "../random.ts";
import { IMAGE_SIDE, type LabelledImage, loadDigits } from "./dataset.ts";
import { DigitsNetwork } from "./network.ts";

const EPOCHS = 40;
const BATCH = 32;
const RATE = 2e-3;
const DECAY = 1e-2;

/** An image moved by up to one pixel, with paper where nothing was. */
function shifted({ image, label }: LabelledImage, random: Random): LabelledImage {
  const dx = random.below(3) - 1;
  const dy = random.below(3) - 1;
  const moved = new Float32Array(image.length);
  for (let y = Math.max(0, dy); y < Math.min(IMAGE_SIDE, IMAGE_SIDE + dy); y++) {
    for (let x = Math.max(0, dx); x < Math.min(IMAGE_SIDE, IMAGE_SIDE + dx); x++) {
      moved[y * IMAGE_SIDE + x] = image[(y - dy) * IMAGE_SIDE + x - dx]!;
    }
  }
  return { image: moved, label };
}

function train(images: readonly LabelledImage[], seed: number): DigitsNetwork {
  const network = new DigitsNetwork(seed);
  const random = new Random(`order ${seed}`);
  const steps = EPOCHS * Math.ceil(images.length / BATCH);
  let step = 0;
  for (let epoch = 1; epoch <= EPOCHS; epoch++) {
    const order = random.shuffle([...images]).map((image) => shifted(image, random));
    let loss = 0;
    for (let start = 0; start < order.length; start += BATCH) {
      const batch = order.slice(start, start + BATCH);
      const rate = RATE * 0.5 * (1 + Math.cos((Math.PI * step++) / steps));
      loss += network.learn(batch, rate, DECAY) * batch.length;
    }
    console.log(`epoch ${epoch} of ${EPOCHS}: loss ${(loss / images.length).toFixed(4)}`);
  }
  return network;
}

function accuracy(network: DigitsNetwork, images: readonly LabelledImage[]): string {
  const right = images.filter(({ image, label }) => {
    const probabilities = network.predict(image);
    return probabilities.indexOf(Math.max(...probabilities)) === label;
  }).length;
  return `${right} of ${images.length} right (${((100 * right) / images.length).toFixed(2)} %)`;
}

const { values: options } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    validate: { type: "boolean", default: false },
    out: { type: "string", default: path.join(PACKAGE_ROOT, "models/repository/digits/1/model.onnx") },
  },
});
const seed = Number(options.seed);
const dataset = loadDigits();
if (options.validate) {
  const kept = Math.round(dataset.train.length / 10);
  const network = train(dataset.train.slice(kept), seed);
  console.log(`validation images: ${accuracy(network, dataset.train.slice(0, kept))}`);
} else {
  const network = train(dataset.train, seed);
  writeFileSync(options.out, network.toOnnx());
  console.log(`wrote ${options.out}`);
  console.log(`held-out test images: ${accuracy(network, dataset.test)}`);
}
