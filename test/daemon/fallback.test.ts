/** A cheaper model answers where the one that was asked for can't in time. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type InferOptions, type InferResult, tensor } from "slackline-client";
import { addOne, slow } from "../../models/onnx/tiny.ts";
import { LEVEL, type LiveDaemon, startLiveDaemon, temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";

const WIDTH = 256;

describe("fallback", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    const heavy = slow({ layers: 2000, width: WIDTH });
    const files = (config: string) => ({ "1/model.onnx": heavy, "config.yaml": `max_batch_size: 1\n${config}` });
    // No execution takes less than a microsecond: each request of this model is too late from the start, also for the fallback.
    writeModelFiles(repository.dir, "late", files("slo_ms: 0.001\nfallback: light\n"));
    writeModelFiles(repository.dir, "full", files("slo_ms: 60000\nqueue_items_max: 1\nfallback: light/1\n"));
    writeModelFiles(repository.dir, "lonely", files("slo_ms: 60000\nfallback: nobody\n"));
    writeModelFiles(repository.dir, "light", { "1/model.onnx": addOne(WIDTH), "config.yaml": "slo_ms: 60000\n" });
    writeModelFiles(repository.dir, "narrow", { "1/model.onnx": addOne(4), "config.yaml": "fallback: light\n" });
    live = await startLiveDaemon(repository.dir);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  const ask = (model: string, options: InferOptions = {}): Promise<InferResult> =>
    live.client.infer(model, { x: tensor.float32([1, WIDTH], new Float32Array(WIDTH).fill(3)) }, options);

  test("leaves what nobody answers in time to the model that was asked, which answers late", async () => {
    const result = await ask("late");
    assert.deepEqual([result.model, result.fallback], ["late", undefined]);
    assert.ok(result.lateMs > 0);
    const { counts } = await live.modelStatus("late");
    assert.deepEqual([counts.requests, counts.shed, counts.fallbacks], [1, {}, 0]);
    const metrics = await (await live.page("/metrics")).text();
    assert.match(metrics, /slackline_fallback_failures_total\{model="late",version="1",cause="expired"\} 1\n/);
  });

  test("answers what a full queue refuses, and the rest is answered as asked", async () => {
    const results = await Promise.all(Array.from({ length: 20 }, () => ask("full", { deadlineMs: 60_000 })));
    const by = (model: string) => results.filter((result) => result.model === model);
    assert.equal(by("full").length + by("light").length, 20);
    assert.ok(by("full").length > 0);
    assert.ok(by("light").length > 0);
    for (const { fallback } of by("light")) assert.equal(fallback, "queue_items");
    for (const { fallback } of by("full")) assert.equal(fallback, undefined);
    const { counts } = await live.modelStatus("full");
    assert.deepEqual([counts.requests, counts.fallbacks], [20, by("light").length]);
    assert.deepEqual(counts.shed, { queue_items: by("light").length });
  });

  test("leaves best-effort work where it was", async () => {
    const result = await ask("late", { bestEffort: true });
    assert.deepEqual([result.model, result.fallback], ["late", undefined]);
  });

  test("that is not served, or can't answer, is warned of", async () => {
    const warnings = live.log.filter(({ level, msg }) => level === LEVEL.warn && msg.includes("fallback"));
    assert.deepEqual(
      warnings.map(({ msg }) => msg),
      [
        "lonely/1: its fallback nobody is not served; until it is, nothing falls back on it",
        `narrow/1: its fallback light can't answer for it: it takes 'x' (FP32 [-1, ${WIDTH}]), not 'x' (FP32 [-1, 4])`,
      ],
    );
    assert.equal((await ask("lonely")).model, "lonely");
  });
});
