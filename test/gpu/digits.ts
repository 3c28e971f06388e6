/** The whole daemon with its lane on a GPU: run by run.ts, which says through which provider. */
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { tensor } from "slackline-client";
import { IMAGE_PIXELS, loadDigits } from "../../models/digits/dataset.ts";
import { SAMPLE_REPOSITORY } from "../../models/samples.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder } from "../support/live-daemon.ts";
import { floatTensor, loneSession } from "../support/onnx-session.ts";
import { PROVIDER } from "./provider.ts";

/** A software adapter takes some 50 ms an image. */
const IMAGES = 48;
const BATCH_MAX = 8;
/** A GPU sums in another order than the CPU's kernels, and multiplies (TF32) or has functions that are less exact. */
const TOLERANCE = 1e-3;

const temporary = temporaryFolder();
const model = path.join(SAMPLE_REPOSITORY, "digits", "1", "model.onnx");
let live: LiveDaemon;

before(async () => {
  const folder = path.join(temporary.dir, "digits");
  mkdirSync(path.join(folder, "1"), { recursive: true });
  copyFileSync(model, path.join(folder, "1", "model.onnx"));
  writeFileSync(path.join(folder, "config.yaml"), `max_batch_size: ${BATCH_MAX}\nbuckets: [1, 2, 4, 8]\nreplicas: 0\n`);
  const flags = ["--device", PROVIDER, "--allow-software-gpu", "--slo-ms-default", "60000"];
  live = await startLiveDaemon(temporary.dir, flags);
});
after(async () => {
  await live?.stop();
  temporary.remove();
});

test("the lane executes on the GPU, and the status says on what", async () => {
  const { device, lanes } = await live.status();
  assert.equal(device.provider, PROVIDER);
  assert.notEqual(device.name, "");
  assert.deepEqual(
    lanes.filter(({ kind }) => kind === "device").map(({ provider }) => provider),
    [PROVIDER],
  );
  const { profile_ms, placement } = await live.modelStatus("digits");
  assert.equal(placement, "device");
  assert.deepEqual(
    profile_ms?.map(([bucket]) => bucket),
    [1, 2, 4, 8],
  );
});

test("digits are recognised in mixed batches, and probabilities are those of the CPU", async () => {
  const images = loadDigits().test.slice(0, IMAGES);
  const session = await loneSession(model);
  let right = 0;
  let shared = 0;
  const calls: Promise<void>[] = [];
  for (let at = 0, items = 1; at < images.length; at += items, items = 1 + (items % 3)) {
    const slice = images.slice(at, at + items);
    const pixels = new Float32Array(slice.length * IMAGE_PIXELS);
    for (const [row, { image }] of slice.entries()) pixels.set(image, row * IMAGE_PIXELS);
    const shape = [slice.length, 1, 8, 8];
    const ask = async (): Promise<void> => {
      const answer = await live.client.infer(
        "digits",
        { image: tensor.float32(shape, pixels) },
        { timings: true, deadlineMs: 60_000 },
      );
      if (answer.timings!.batchItems > slice.length) shared++;
      const { data } = answer.output("probabilities", "FP32");
      const alone = await session.run({ image: floatTensor(shape, pixels) });
      const expected = alone.probabilities!.data as Float32Array;
      for (const [i, value] of expected.entries()) {
        assert.ok(Math.abs(data[i]! - value) <= TOLERANCE, `probability ${i}: ${data[i]} instead of ${value}`);
      }
      const digits = answer.output("digit", "INT64").data;
      for (const [row, { label }] of slice.entries()) if (Number(digits[row]) === label) right++;
    };
    calls.push(ask());
  }
  await Promise.all(calls);
  await session.release();
  assert.ok(shared > 0, "no two calls shared a batch");
  assert.ok(right / images.length >= 0.95, `${right} of ${images.length} right`);
});
