/** What a start makes of a repository: good models beside broken ones, and what it finds out about the good ones. */
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { tensor } from "slackline-client";
import {
  addOne,
  doublesRows,
  externalWeights,
  identity,
  noBatchDim,
  scalarOutput,
  sharesOfColumns,
  slow,
} from "../../models/onnx/tiny.ts";
import { unknownOperator } from "../support/broken-model.ts";
import { LEVEL, type LiveDaemon, startLiveDaemon, temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";

/** Why each broken model can't be served. */
const BROKEN: Readonly<Record<string, RegExp>> = {
  garbage: /is not an ONNX model/,
  empty: /is empty/,
  operator: /NoSuchOperator/,
  config: /slo_ms: got -5; expected .*; .*replicas: got "many"; expected auto, or an integer/,
  missing: /has no version: expected missing\/1\/model\.onnx/,
  weights: /weights\.bin/,
};

describe("loading a repository", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    const write = writeModelFiles.bind(null, repository.dir);
    write("good", { "1/model.onnx": addOne(4) });
    write("garbage", { "1/model.onnx": "this is no model" });
    write("empty", { "1/model.onnx": "" });
    write("operator", { "1/model.onnx": unknownOperator() });
    write("config", { "1/model.onnx": addOne(4), "config.yaml": "slo_ms: -5\nreplicas: many\n" });
    write("missing", { "config.yaml": "slo_ms: 5\n" });
    write("weights", { "1/model.onnx": externalWeights().model });
    write("fallback", {
      "1/model.onnx": addOne(4),
      "2/model.onnx": identity("FP32", 4),
      "3/model.onnx": unknownOperator(),
    });
    write("scalar", { "1/model.onnx": scalarOutput() });
    write("doubles", { "1/model.onnx": doublesRows() });
    write("shares", { "1/model.onnx": sharesOfColumns() });
    write("asserted", { "1/model.onnx": sharesOfColumns(), "config.yaml": "batched: true\n" });
    write("fixed", { "1/model.onnx": noBatchDim() });
    const long = slow({ layers: 100, width: 256 });
    write("long", { "1/model.onnx": long, "config.yaml": "buckets: [1024]\nthreads: 1\n" });
    live = await startLiveDaemon(repository.dir);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  for (const [name, reason] of Object.entries(BROKEN)) {
    test(`a broken model (${name}) is in the index and in the log with its reason, without the host's paths`, async () => {
      const entry = (await live.client.repositoryIndex()).find((one) => one.name === name)!;
      assert.equal(entry.state, "UNAVAILABLE");
      assert.match(entry.reason, reason);
      assert.ok(!entry.reason.includes(repository.dir), entry.reason);
      const logged = live.log.filter(
        ({ level, msg }) => level === LEVEL.error && msg.startsWith(name) && msg.includes(entry.reason),
      );
      assert.equal(logged.length, 1, "logged once");
      const x = tensor.float32([1, 4], new Float32Array(4));
      await assert.rejects(live.client.infer(name, { x }, { retry: false }), { code: "UNAVAILABLE" });
    });
  }

  test("each problem of a model's config.yaml is logged with its place", () => {
    for (const place of ["config/config.yaml:1:9: slo_ms", "config/config.yaml:2:11: replicas"]) {
      const told = live.log.filter(({ msg }) => msg.includes(place));
      assert.equal(told.length, 1, `${place} is told once`);
      assert.match(told[0]!.msg, /^config\/1 can't be served: /);
    }
  });

  test("the others are served", async () => {
    const answer = await live.client.infer("good", { x: tensor.float32([2, 4], new Float32Array(8)) });
    assert.deepEqual(answer.output("y", "FP32").data, new Float32Array(8).fill(1));
    assert.equal((await live.page("/readyz")).status, 200);
  });

  test("where the newest version can't be loaded, the one before it is served", async () => {
    const answer = await live.client.infer("fallback", { x: tensor.float32([1, 4], Float32Array.of(1, 2, 3, 4)) });
    assert.equal(answer.version, "2");
    const index = (await live.client.repositoryIndex()).filter(({ name }) => name === "fallback");
    assert.deepEqual(
      index.map(({ version, state }) => `${version} ${state}`),
      ["2 READY", "3 UNAVAILABLE"],
    );
  });

  test("outputs that can't be split by item make a model run requests one by one, with a warning", async () => {
    for (const name of ["scalar", "doubles"]) {
      assert.equal((await live.modelStatus(name)).max_batch, 1);
      assert.ok(live.log.some(({ level, msg }) => level === LEVEL.warn && msg.startsWith(`${name}/1: `)));
    }
    const x = tensor.float32([1, 4], Float32Array.of(1, 2, 3, 4));
    const [one, two] = await Promise.all([live.client.infer("scalar", { x }), live.client.infer("scalar", { x })]);
    assert.deepEqual(one!.output("mean", "FP32").data, Float32Array.of(2.5));
    assert.deepEqual(two!.output("mean", "FP32").shape, []);
    const doubled = await live.client.infer("doubles", { x });
    assert.deepEqual(doubled.output("y", "FP32").shape, [2, 4]);
  });

  test("a model whose rows are answered by each other runs requests one by one, unless its settings say that rows are items", async () => {
    assert.equal((await live.modelStatus("shares")).max_batch, 1);
    const warning = live.log.find(({ level, msg }) => level === LEVEL.warn && msg.startsWith("shares/1: "));
    assert.match(warning!.msg, /in output 'y' an item is answered otherwise beside others than alone.*`batched: true`/);
    const x = tensor.float32([2, 4], Float32Array.of(1, 2, 3, 4, 1, 2, 3, 4));
    const { data } = (await live.client.infer("shares", { x })).output("y", "FP32");
    assert.deepEqual(data, new Float32Array(8).fill(0.5));
    assert.ok((await live.modelStatus("asserted")).max_batch > 1);
  });

  test("a model without a batch dimension takes requests of its one shape", async () => {
    assert.equal((await live.modelStatus("fixed")).max_batch, 1);
    const calls = [1, 2, 3].map(async (factor) => {
      const data = Float32Array.of(1, 2, 3, 4, 5, 6).map((value) => value * factor);
      const answer = await live.client.infer("fixed", { x: tensor.float32([2, 3], data) });
      assert.deepEqual(answer.output("y", "FP32").shape, [2, 3]);
      assert.deepEqual(
        answer.output("y", "FP32").data,
        data.map((value) => 2 * value),
      );
    });
    await Promise.all(calls);
  });

  test("the SLO of a model that states none is max(100 ms, 4 · l(1)), and the log says so", async () => {
    const { slo_ms: quick } = await live.modelStatus("good");
    assert.equal(quick, 100);
    const { slo_ms, profile_ms } = await live.modelStatus("long");
    const single = profile_ms![0]![1];
    assert.ok(single > 25, `a batch took only ${single} ms`);
    assert.equal(slo_ms, 4 * single);
    const ready = live.log.find(({ msg }) => msg === "long/1 is ready");
    assert.deepEqual([ready?.slo_ms, ready?.slo_from], [slo_ms, "max(100 ms, 4 × l(1))"]);
  });
});

test("a repository in which nothing can be loaded does not start, and says why", async () => {
  const repository = temporaryFolder();
  try {
    writeModelFiles(repository.dir, "operator", { "1/model.onnx": unknownOperator() });
    await assert.rejects(startLiveDaemon(repository.dir), /no model in the repository could be loaded/);
    await assert.rejects(
      startLiveDaemon(path.join(repository.dir, "nowhere")),
      /model repository .*nowhere: .*--models DIR/,
    );
  } finally {
    repository.remove();
  }
});
