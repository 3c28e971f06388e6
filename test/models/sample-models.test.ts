import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { InferenceSession, Tensor } from "onnxruntime-node";
import { parse } from "yaml";
import { readOnnxMetadata } from "../../daemon/repository/onnx-metadata.ts";
import { MODEL_CONFIG_SCHEMA } from "../../daemon/repository/written-config.ts";
import { describeModel, readCatalog } from "../../models/catalog.ts";
import { IMAGE_PIXELS, type LabelledImage, loadDigits } from "../../models/digits/dataset.ts";
import { ensureSampleModels } from "../../models/ensure-samples.ts";
import { writeModel } from "../../models/onnx/write-model.ts";
import { Random } from "../../models/random.ts";
import { SAMPLE_MODELS, SAMPLE_REPOSITORY } from "../../models/samples.ts";
import { ENCODER, ENCODER_HIDDEN, ENCODER_VOCABULARY } from "../../models/seeded/encoder.ts";
import { RANKER_FEATURES } from "../../models/seeded/ranker.ts";
import { floatTensor, loneSession, OnnxTensor } from "../support/onnx-session.ts";

const SEED = 7;
const random = new Random(SEED);
const sessions: InferenceSession[] = [];
let repository = "";

before(async () => {
  repository = await mkdtemp(path.join(os.tmpdir(), "slackline-samples-"));
  await ensureSampleModels({ repository });
});
after(async () => {
  for (const session of sessions) await session.release();
  await rm(repository, { recursive: true });
});

function modelFile(name: string): string {
  return path.join(repository, name, "1", "model.onnx");
}

async function load(name: string): Promise<InferenceSession> {
  const session = await loneSession(modelFile(name));
  sessions.push(session);
  return session;
}

function numbers(tensor: Tensor | undefined): Float32Array {
  assert.ok(tensor?.data instanceof Float32Array);
  assert.ok(tensor.data.every(Number.isFinite), "every value is finite");
  return tensor.data;
}

function assertClose(actual: Float32Array, expected: Float32Array, tolerance: number): void {
  assert.equal(actual.length, expected.length);
  const worst = actual.reduce((max, value, at) => Math.max(max, Math.abs(value - expected[at]!)), 0);
  assert.ok(worst <= tolerance, `differs by up to ${worst}, more than ${tolerance}`);
}

/** The same values in rows of their own and all in one batch. */
async function assertBatchEqualsRows(
  session: InferenceSession,
  width: number,
  shape: readonly number[],
): Promise<void> {
  const [input, output] = [session.inputNames[0]!, session.outputNames[0]!];
  const rows = 3;
  const values = random.fill(rows * width, 1);
  const batch = numbers((await session.run({ [input]: floatTensor([rows, ...shape], values) }))[output]);
  const answers: Float32Array[] = [];
  for (let row = 0; row < rows; row++) {
    const one = floatTensor([1, ...shape], values.slice(row * width, (row + 1) * width));
    answers.push(numbers((await session.run({ [input]: one }))[output]));
  }
  assertClose(batch, Float32Array.from(answers.flatMap((answer) => [...answer])), 1e-3);
  assert.notDeepEqual(answers[0], answers[1], "the answer depends on the input");
}

describe("files", () => {
  test("the catalog says what the files are", async () => {
    const described = [];
    for (const sample of SAMPLE_MODELS)
      described.push(await describeModel(sample, path.join(repository, sample.name, "1")));
    assert.deepEqual(readCatalog().models, described);
  });

  test("a graph gives the same bytes each time", () => {
    assert.deepEqual(writeModel(ENCODER.build!()), writeModel(ENCODER.build!()));
  });

  test("what is there is kept, what is damaged is made anew", async () => {
    const lines: string[] = [];
    const { mtimeMs } = await stat(modelFile("encoder"));
    await writeFile(modelFile("ranker"), "damaged");
    await ensureSampleModels({ repository, only: ["ranker", "encoder"], log: (line) => lines.push(line) });
    assert.match(lines[0]!, /^ranker .* made in/);
    assert.match(lines[1]!, /^encoder .* already there/);
    assert.equal((await stat(modelFile("encoder"))).mtimeMs, mtimeMs);
  });

  test("an unknown name is refused", async () => {
    await assert.rejects(
      ensureSampleModels({ repository, only: ["nope"] }),
      /no sample model 'nope'; there are digits/,
    );
  });

  test("external weights lie beside the model and as long as it says", async () => {
    const { externalData } = await readOnnxMetadata(modelFile("ranker"));
    const { size } = await stat(path.join(repository, "ranker/1/weights.bin"));
    assert.ok(externalData.length >= 6);
    for (const { location, offsetBytes, lengthBytes } of externalData) {
      assert.equal(location, "weights.bin");
      assert.ok(offsetBytes + lengthBytes! <= size);
    }
  });

  test("every model has a valid configuration", async () => {
    for (const { name } of SAMPLE_MODELS) {
      const text = await readFile(path.join(repository, name, "config.yaml"), "utf8");
      assert.equal(text, readFileSync(path.join(SAMPLE_REPOSITORY, name, "config.yaml"), "utf8"));
      const config = MODEL_CONFIG_SCHEMA.parse(parse(text));
      assert.ok(config.max_batch_size! >= 1 && config.slo_ms! > 0, name);
    }
  });
});

describe("digits", () => {
  async function predict(images: readonly LabelledImage[]): Promise<number[]> {
    const pixels = new Float32Array(images.length * IMAGE_PIXELS);
    for (const [index, { image }] of images.entries()) pixels.set(image, index * IMAGE_PIXELS);
    const outputs = await (await load("digits")).run({ image: floatTensor([images.length, 1, 8, 8], pixels) });
    const probabilities = numbers(outputs.probabilities);
    for (let row = 0; row < images.length; row++) {
      const sum = probabilities.slice(row * 10, row * 10 + 10).reduce((a, b) => a + b);
      assert.ok(Math.abs(sum - 1) < 1e-5);
    }
    return [...(outputs.digit!.data as BigInt64Array)].map(Number);
  }

  test("reads at least 97 % of the held-out images, as the catalog says", async () => {
    const images = loadDigits().test;
    const predicted = await predict(images);
    const accuracy = predicted.filter((digit, index) => digit === images[index]!.label).length / images.length;
    assert.ok(accuracy >= 0.97, `accuracy ${accuracy}`);
    const stated = readCatalog().models.find((model) => model.name === "digits")!.test_accuracy!;
    assert.ok(Math.abs(accuracy - stated) < 1.5 / images.length, `accuracy ${accuracy}, the catalog says ${stated}`);
  });

  test("training and test images are apart and all there", () => {
    const { train, test: heldOut } = loadDigits();
    assert.equal(train.length, 1437);
    assert.equal(heldOut.length, 360);
    const key = ({ image }: LabelledImage): string => image.join();
    const seen = new Set(train.map(key));
    assert.ok(!heldOut.some((image) => seen.has(key(image))), "no test image occurs among the training images");
    for (let digit = 0; digit < 10; digit++) assert.ok(heldOut.filter(({ label }) => label === digit).length > 20);
  });
});

describe("ranker", () => {
  test("scores each row of a batch as it scores it alone", async () => {
    await assertBatchEqualsRows(await load("ranker"), RANKER_FEATURES, [RANKER_FEATURES]);
  });
});

describe("resnet18", () => {
  test("classifies each image of a batch as it classifies it alone", async () => {
    await assertBatchEqualsRows(await load("resnet18"), 3 * 224 * 224, [3, 224, 224]);
  });
});

describe("encoder", () => {
  const ids = (count: number): BigInt64Array =>
    BigInt64Array.from({ length: count }, () => BigInt(random.below(ENCODER_VOCABULARY)));

  async function encode(
    session: InferenceSession,
    tokens: BigInt64Array,
    mask: BigInt64Array,
    dims: readonly number[],
  ): Promise<{ hidden: Float32Array; pooled: Float32Array }> {
    const outputs = await session.run({
      input_ids: new OnnxTensor("int64", tokens, dims),
      attention_mask: new OnnxTensor("int64", mask, dims),
    });
    assert.deepEqual(outputs.last_hidden_state!.dims, [...dims, ENCODER_HIDDEN]);
    assert.deepEqual(outputs.pooled!.dims, [dims[0], ENCODER_HIDDEN]);
    return { hidden: numbers(outputs.last_hidden_state), pooled: numbers(outputs.pooled) };
  }

  test("padding changes nothing of the tokens' results", async () => {
    const session = await load("encoder");
    const [length, padded] = [11, 24];
    const tokens = ids(length);
    const ones = new BigInt64Array(length).fill(1n);
    const alone = await encode(session, tokens, ones, [1, length]);
    for (const filler of [0n, 77n]) {
      const longTokens = new BigInt64Array(2 * padded).fill(filler);
      const longMask = new BigInt64Array(2 * padded).fill(1n);
      longTokens.set(tokens);
      longMask.fill(0n, length, padded);
      longTokens.set(ids(padded), padded);
      const together = await encode(session, longTokens, longMask, [2, padded]);
      assertClose(together.hidden.subarray(0, length * ENCODER_HIDDEN), alone.hidden, 1e-4);
      assertClose(together.pooled.subarray(0, ENCODER_HIDDEN), alone.pooled, 1e-4);
    }
  });

  test("every token and its place matter", async () => {
    const session = await load("encoder");
    const ones = new BigInt64Array(4).fill(1n);
    const one = await encode(session, BigInt64Array.of(1n, 2n, 3n, 4n), ones, [1, 4]);
    const other = await encode(session, BigInt64Array.of(2n, 1n, 3n, 4n), ones, [1, 4]);
    assert.notDeepEqual(one.pooled, other.pooled);
    assert.notDeepEqual(one.hidden.slice(-ENCODER_HIDDEN), other.hidden.slice(-ENCODER_HIDDEN));
  });

  test("a row that is all padding gives finite values", async () => {
    await encode(await load("encoder"), ids(6), BigInt64Array.of(0n, 0n, 0n, 1n, 1n, 0n), [2, 3]);
  });
});
