/** Every sample model through the whole daemon: answers equal those of a lone session. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import type { InferenceSession } from "onnxruntime-node";
import { type InferResult, type Tensor, tensor } from "slackline-client";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { IMAGE_PIXELS, loadDigits } from "../../models/digits/dataset.ts";
import { ensureSampleModels } from "../../models/ensure-samples.ts";
import { Random } from "../../models/random.ts";
import { type LiveDaemon, startLiveDaemon } from "../support/live-daemon.ts";
import { loneSession, OnnxTensor } from "../support/onnx-session.ts";

/** Largest difference allowed between float32 answers, relative to the largest value: other batch sizes sum in other orders. */
const FLOAT_TOLERANCE = 1e-4;

const ROUNDS_MAX = 50;

/** One bucket each: whatever is alone is padded, and calls that wait at the same time gain by sharing a batch. */
const CONFIGS = {
  digits: "max_batch_size: 16\nbuckets: [16]\nreplicas: 0\n",
  ranker: "max_batch_size: 8\nbuckets: [8]\nreplicas: 0\n",
  encoder: "max_batch_size: 8\nbuckets: [8]\nreplicas: 0\nsequence: { lengths: [8, 32] }\n",
  resnet18: "max_batch_size: 3\nbuckets: [3]\nreplicas: 0\n",
};

const samples = await ensureSampleModels();
const repository = mkdtempSync(path.join(samples, "..", ".test-"));
let live: LiveDaemon;

before(async () => {
  for (const [model, config] of Object.entries(CONFIGS)) {
    const folder = path.join(repository, model, "1");
    mkdirSync(folder, { recursive: true });
    // Linked, not copied: weights are large.
    for (const file of readdirSync(path.join(samples, model, "1"))) {
      linkSync(path.join(samples, model, "1", file), path.join(folder, file));
    }
    writeFileSync(path.join(repository, model, "config.yaml"), config);
  }
  live = await startLiveDaemon(repository);
});
after(async () => {
  await live.stop();
  rmSync(repository, { recursive: true, force: true });
});

type Inputs = Record<string, Tensor<"FP32"> | Tensor<"INT64">>;

interface Call {
  readonly inputs: Inputs;
}

function itemsOf({ inputs }: Call): number {
  return Object.values(inputs)[0]!.shape[0]!;
}

async function runAlone(
  session: InferenceSession,
  inputs: Inputs,
): Promise<Record<string, Float32Array | BigInt64Array>> {
  const feeds = Object.fromEntries(
    Object.entries(inputs).map(([name, { datatype, shape, data }]) => [
      name,
      datatype === "FP32" ? new OnnxTensor("float32", data, shape) : new OnnxTensor("int64", data, shape),
    ]),
  );
  const results = await session.run(feeds);
  return Object.fromEntries(
    Object.entries(results).map(([name, result]) => [name, result.data as Float32Array | BigInt64Array]),
  );
}

function assertClose(actual: Tensor, expected: Float32Array | BigInt64Array, what: string): void {
  assert.equal(actual.data.length, expected.length, `${what}: length`);
  if (expected instanceof BigInt64Array) {
    assert.deepEqual(actual.data, expected, what);
    return;
  }
  let scale = 1;
  for (const value of expected) scale = Math.max(scale, Math.abs(value));
  for (let i = 0; i < expected.length; i++) {
    const off = Math.abs(Number(actual.data[i]) - expected[i]!) / scale;
    assert.ok(off <= FLOAT_TOLERANCE, `${what}[${i}]: ${actual.data[i]} instead of ${expected[i]}`);
  }
}

async function compareWithLoneSession(model: string, calls: readonly Call[]): Promise<void> {
  const session = await loneSession(path.join(repository, model, "1", "model.onnx"));
  let answers: readonly InferResult[] = [];
  // Whether calls meet in a batch depends on how the machine schedules its processes: they are sent until they do.
  for (let round = 0; round < ROUNDS_MAX; round++) {
    answers = await Promise.all(
      calls.map(({ inputs }) => live.client.infer(model, inputs, { timings: true, deadlineMs: 60_000 })),
    );
    if (answers.some(({ timings }, index) => timings!.batchItems > itemsOf(calls[index]!))) break;
    assert.ok(round < ROUNDS_MAX - 1, "concurrent calls never shared a batch");
  }
  for (const [index, answer] of answers.entries()) {
    const expected = await runAlone(session, calls[index]!.inputs);
    assert.deepEqual(Object.keys(answer.outputs).sort(), Object.keys(expected).sort());
    for (const [name, output] of Object.entries(answer.outputs)) {
      assertClose(output, expected[name]!, `${model} call ${index} ${name}`);
    }
  }
  await session.release();
}

function floatsOf(random: Random, count: number): Float32Array {
  return Float32Array.from({ length: count }, () => 2 * random.uniform() - 1);
}

test("digits, ranker and resnet18 answer concurrent callers like a lone session", async () => {
  const random = new Random(7);
  const digits = Array.from({ length: 60 }, (_, index) => 1 + (index % 5)).map((items) => ({
    inputs: {
      image: tensor.float32(
        [items, 1, 8, 8],
        Float32Array.from({ length: items * IMAGE_PIXELS }, () => random.below(17)),
      ),
    },
  }));
  await compareWithLoneSession("digits", digits);
  const { inputs } = await live.client.modelMetadata("ranker");
  const width = inputs[0]!.shape[1]!;
  const ranker = [1, 2, 4, 1].map((items) => ({
    inputs: { [inputs[0]!.name]: tensor.float32([items, width], floatsOf(random, items * width)) },
  }));
  await compareWithLoneSession("ranker", ranker);
  const images = [1, 2, 1].map((items) => ({
    inputs: { image: tensor.float32([items, 3, 224, 224], floatsOf(random, items * 3 * 224 * 224)) },
  }));
  await compareWithLoneSession("resnet18", images);
});

test("encoder answers sequences of different lengths, padded and too long to be, like a lone session", async () => {
  const random = new Random(11);
  const calls = [32, 32, 17, 64, 32, 17, 5].map((length, index) => {
    const items = 1 + (index % 2);
    const ids = BigInt64Array.from({ length: items * length }, () => BigInt(random.below(1000)));
    const mask = BigInt64Array.from({ length: items * length }, (_, at) => (at % length < length - 2 ? 1n : 0n));
    return {
      inputs: { input_ids: tensor.int64([items, length], ids), attention_mask: tensor.int64([items, length], mask) },
    };
  });
  await compareWithLoneSession("encoder", calls);
});

test("digits recognises at least 97 % of the held-out images, in mixed batches", async () => {
  const { test: images } = loadDigits();
  const random = new Random(3);
  let right = 0;
  const calls: Promise<void>[] = [];
  for (let at = 0; at < images.length; ) {
    const slice = images.slice(at, at + 1 + random.below(6));
    at += slice.length;
    const pixels = new Float32Array(slice.length * IMAGE_PIXELS);
    for (const [row, { image }] of slice.entries()) pixels.set(image, row * IMAGE_PIXELS);
    const input = tensor.float32([slice.length, 1, 8, 8], pixels);
    calls.push(
      live.client.infer("digits", { image: input }, { outputs: ["probabilities"] }).then((answer) => {
        const { data } = answer.output("probabilities", "FP32");
        for (const [row, { label }] of slice.entries()) {
          const scores = [...data.subarray(row * 10, row * 10 + 10)];
          if (scores.indexOf(Math.max(...scores)) === label) right++;
        }
      }),
    );
  }
  await Promise.all(calls);
  assert.equal(images.length, 360);
  assert.ok(right / images.length >= 0.97, `${right} of ${images.length} right`);
});

test("the typed example reads what is drawn in it", async () => {
  const example = path.join(PACKAGE_ROOT, "dist", "client", "examples", "read-digits.js");
  const { stdout } = await promisify(execFile)(process.execPath, [example, live.target]);
  assert.match(stdout, /^0 \(\d+ %\)\n1 \(\d+ %\)\n$/);
});

test("the typed functions of the example are what the sample models' metadata gives now", async () => {
  const file = path.join(repository, "generated.ts");
  const bin = path.join(PACKAGE_ROOT, "client", "bin", "slackline-client.mjs");
  await promisify(execFile)(process.execPath, [bin, "generate", "--target", live.target, "--out", file]);
  // How many items a batch holds is measured, and differs from machine to machine.
  const lines = (name: string) => readFileSync(name, "utf8").replaceAll(/; batches of up to \d+ items/g, "");
  const committed = path.join(PACKAGE_ROOT, "client", "examples", "generated", "sample-models.ts");
  assert.equal(
    lines(file),
    lines(committed),
    "npm start, then npx slackline-client generate --out client/examples/generated/sample-models.ts",
  );
});
