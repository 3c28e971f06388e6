/** Sequences of different lengths through the whole daemon: callers can't tell that they were padded. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { InferenceSession } from "onnxruntime-node";
import { type Tensor, tensor } from "slackline-client";
import { MASKED_MEAN_VOCABULARY, maskedMean } from "../../models/onnx/tiny.ts";
import { Random } from "../../models/random.ts";
import { LEVEL, type LiveDaemon, startLiveDaemon, temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";
import { loneSession, OnnxTensor } from "../support/onnx-session.ts";

const COMMON = "max_batch_size: 8\nbuckets: [8]\nslo_ms: 60000\n";
const SEQUENCE = "sequence: { lengths: [4, 16] }\n";
const ROUNDS_MAX = 50;

const repository = temporaryFolder();
let live: LiveDaemon;
let session: InferenceSession;

before(async () => {
  const write = (name: string, config: string, options: { readonly ignoresMask?: boolean } = {}): void =>
    writeModelFiles(repository.dir, name, { "1/model.onnx": maskedMean(options), "config.yaml": COMMON + config });
  write("lane", `replicas: 0\n${SEQUENCE}`);
  write("replica", `device: cpu\nreplicas: 1\nthreads: 1\n${SEQUENCE}`);
  write("measured", "replicas: 0\nsequence: { mask: attention_mask, length_max: 32 }\n");
  write("ignoring", `replicas: 0\n${SEQUENCE}`, { ignoresMask: true });
  write("unasked", "replicas: 0\n");
  live = await startLiveDaemon(repository.dir, ["--pool-cores", "1"]);
  session = await loneSession(maskedMean());
});
after(async () => {
  await live?.stop();
  await session?.release();
  repository.remove();
});

type Tokens = Record<"input_ids" | "attention_mask", Tensor<"INT64">>;

function tokens(random: Random, items: number, length: number): Tokens {
  const values = (below: () => number) => BigInt64Array.from({ length: items * length }, () => BigInt(below()));
  return {
    input_ids: tensor.int64(
      [items, length],
      values(() => random.below(MASKED_MEAN_VOCABULARY)),
    ),
    attention_mask: tensor.int64(
      [items, length],
      values(() => (random.below(3) === 0 ? 0 : 1)),
    ),
  };
}

/** Sends the calls at once and compares each answer with a lone, unpadded run; resolves to the batches' sizes. */
async function ask(model: string, calls: readonly Tokens[], alone: InferenceSession = session): Promise<number[]> {
  const answers = await Promise.all(calls.map((inputs) => live.client.infer(model, inputs, { timings: true })));
  for (const [index, { outputs }] of answers.entries()) {
    const feeds = Object.entries(calls[index]!).map(([name, { data, shape }]) => [
      name,
      new OnnxTensor("int64", data, shape),
    ]);
    const expected = await alone.run(Object.fromEntries(feeds));
    for (const name of ["pooled", "states"]) {
      const { dims, data } = expected[name]!;
      assert.deepEqual(outputs[name]!.shape, dims);
      const received = outputs[name]!.data as Float32Array;
      for (const [at, value] of (data as Float32Array).entries()) assert.ok(Math.abs(received[at]! - value) <= 1e-5);
    }
  }
  return answers.map(({ timings }) => timings!.batchItems);
}

async function paddingItems(model: string): Promise<number> {
  const page = await (await live.page("/metrics")).text();
  const line = page.split("\n").find((one) => one.startsWith(`slackline_padding_items_total{model="${model}"`));
  return Number(line?.split(" ").at(-1));
}

for (const model of ["lane", "replica"]) {
  test(`on a ${model} different lengths share a batch, and each answer is that of a lone unpadded run`, async () => {
    const random = new Random(21);
    // No two of one length: whatever shares a batch was padded.
    const calls = [5, 7, 9, 11, 13, 16].map((length) => tokens(random, 1, length));
    let rounds = 0;
    // Whether calls meet in a batch depends on how the machine schedules its processes: they are sent until they do.
    while (!(await ask(model, calls)).some((items) => items > 1))
      assert.ok(++rounds < ROUNDS_MAX, "none shared a batch");
    await ask(model, [tokens(random, 3, 1), tokens(random, 2, 3), tokens(random, 2, 6)]);
  });
}

test("a request longer than the longest length is answered in its own shape", async () => {
  await ask("lane", [tokens(new Random(22), 2, 17), tokens(new Random(22), 1, 40)]);
});

test("padding of sequences counts as padding, by its share of the item", async () => {
  const before = await paddingItems("lane");
  await ask("lane", [tokens(new Random(23), 8, 12)]);
  assert.equal((await paddingItems("lane")) - before, 8 * (1 - 12 / 16));
});

test("lengths that are not named are chosen by measuring, and the log says which", async () => {
  const line = live.log.find(({ msg }) => msg.startsWith("measured/1: requests are padded to lengths of"));
  assert.match(line?.msg ?? "", / 32$/);
  await ask("measured", [tokens(new Random(24), 1, 19), tokens(new Random(24), 2, 32)]);
});

test("a model that ignores its mask is served unpadded, with a warning that says what differed", async () => {
  const refusal = /^ignoring\/1: requests are not padded, .*: output 'pooled' of an item of length \d+.* differs by/;
  assert.equal(live.log.filter(({ level, msg }) => level === LEVEL.warn && refusal.test(msg)).length, 1);
  const alone = await loneSession(maskedMean({ ignoresMask: true }));
  const random = new Random(25);
  await ask(
    "ignoring",
    [3, 5, 16].map((length) => tokens(random, 1, length)),
    alone,
  );
  await alone.release();
});

test("nothing is padded unasked, but proposed where an input looks like a mask", async () => {
  const proposal = /^unasked\/1.* `sequence: { mask: attention_mask }` in config.yaml/;
  assert.equal(live.log.filter(({ level, msg }) => level === LEVEL.warn && proposal.test(msg)).length, 1);
  const sizes = await ask(
    "unasked",
    [3, 5, 9].map((length) => tokens(new Random(26), 1, length)),
  );
  assert.deepEqual(sizes, [1, 1, 1]);
});
