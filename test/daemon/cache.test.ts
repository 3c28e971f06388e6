/** The response cache of a live daemon. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { tensor } from "slackline-client";
import { addOne, identity, stringIdentity } from "../../models/onnx/tiny.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";

const CACHED = "slo_ms: 60000\nbuckets: [1, 4]\ncache: true\n";

describe("cache", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    writeModelFiles(repository.dir, "m", { "1/model.onnx": addOne(4), "config.yaml": CACHED });
    writeModelFiles(repository.dir, "wide", { "1/model.onnx": addOne(4_096), "config.yaml": CACHED });
    writeModelFiles(repository.dir, "texts", { "1/model.onnx": stringIdentity(), "config.yaml": CACHED });
    live = await startLiveDaemon(repository.dir, ["--model-control", "explicit", "--load-models", "*"]);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  const row = (value: number, width = 4) => tensor.float32([1, width], new Float32Array(width).fill(value));

  test("an equal request is answered from memory, and every count tells so", async () => {
    const executed = await live.client.infer("m", { x: row(1) }, { timings: true });
    const cached = await live.client.infer("m", { x: row(1) }, { timings: true });
    assert.deepEqual([executed.cached, cached.cached], [false, true]);
    assert.deepEqual(cached.outputs, executed.outputs);
    assert.equal(cached.output("y", "FP32").data[0], 2);
    assert.deepEqual([cached.timings?.executeUs, cached.timings?.batchItems, cached.timings?.lane], [0, 0, ""]);
    assert.equal((await live.client.infer("m", { x: row(5) })).output("y", "FP32").data[0], 6);

    const [statistics] = await live.client.statistics("m");
    assert.deepEqual(
      [statistics!.success.count, statistics!.computeInfer.count, statistics!.inferenceCount],
      [3, 2, 2],
    );
    assert.deepEqual([statistics!.cacheHit.count, statistics!.cacheMiss.count], [1, 2]);
    const { counts } = await live.modelStatus("m");
    assert.deepEqual([counts.requests, counts.on_time, counts.cache_hits, counts.cache_misses], [3, 3, 1, 2]);
    const page = await (await live.page("/metrics")).text();
    assert.match(page, /^nv_cache_num_hits_per_model\{model="m",version="1"\} 1$/m);
    assert.match(page, /^slackline_cache_entries 2$/m);
  });

  test("tensors in shared memory are those of the moment, and cached answers are written there", async () => {
    const answer = async (value: number) => {
      const { cached, outputs } = await live.client.infer("wide", { x: row(value, 4_096) });
      return [cached, outputs.y!.data.length, outputs.y!.data[4_095]];
    };
    const answers = [];
    // The client puts all of them in the same place, once it shares memory with the daemon.
    for (const value of [1, 2, 1, 2, 3]) answers.push(await answer(value));
    assert.deepEqual(answers, [
      [false, 4_096, 2],
      [false, 4_096, 3],
      [true, 4_096, 2],
      [true, 4_096, 3],
      [false, 4_096, 4],
    ]);
  });

  test("strings are answered as they were", async () => {
    const text = tensor.strings([2, 1], ["", "grüße"]);
    const executed = await live.client.infer("texts", { text });
    const cached = await live.client.infer("texts", { text });
    assert.ok(cached.cached);
    assert.deepEqual(cached.outputs, executed.outputs);
  });

  test("other files under the same version are not answered for by the old ones", async () => {
    await live.client.infer("m", { x: row(7) });
    writeModelFiles(repository.dir, "m", { "1/model.onnx": identity("FP32", 4) });
    await live.client.loadModel("m");
    const result = await live.client.infer("m", { x: row(7) });
    assert.deepEqual([result.cached, result.output("y", "FP32").data[0]], [false, 7]);
  });

  test("other settings are taken over without loading anew, also the cache's own", async () => {
    await live.client.infer("m", { x: row(8) });
    writeModelFiles(repository.dir, "m", { "config.yaml": CACHED.replace("cache: true", "cache: false") });
    await live.client.loadModel("m");
    assert.equal((await live.client.infer("m", { x: row(8) })).cached, false);
    writeModelFiles(repository.dir, "m", { "config.yaml": CACHED });
    await live.client.loadModel("m");
    assert.equal((await live.client.infer("m", { x: row(8) })).cached, true);
    assert.equal(live.log.filter(({ msg }) => msg === "m/1 has new settings").length, 2);
  });
});
