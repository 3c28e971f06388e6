/** Model control `explicit`: models come and go by request, while others are asked. */
import assert from "node:assert/strict";
import { renameSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { tensor } from "slackline-client";
import { addOne, identity, slow } from "../../models/onnx/tiny.ts";
import { unknownOperator } from "../support/broken-model.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder, until, writeModelFiles } from "../support/live-daemon.ts";
import { startTraffic } from "../support/traffic.ts";

describe("explicit", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    for (const name of ["a", "b"]) {
      writeModelFiles(repository.dir, name, { "1/model.onnx": addOne(4), "config.yaml": "slo_ms: 60000\n" });
    }
    writeModelFiles(repository.dir, "cpu", {
      "1/model.onnx": addOne(4),
      "config.yaml": "slo_ms: 60000\ndevice: cpu\nreplicas: 2\nthreads: 1\n",
    });
    writeModelFiles(repository.dir, "broken", { "1/model.onnx": unknownOperator() });
    live = await startLiveDaemon(repository.dir, ["--model-control", "explicit", "--load-models", "a"]);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  const x = tensor.float32([1, 4], new Float32Array(4));

  test("starts with what it was told to load, and lists the rest", async () => {
    const index = await live.client.repositoryIndex();
    assert.deepEqual(
      index.map(({ name, state, reason }) => [name, state, reason]),
      [
        ["a", "READY", ""],
        ["b", "UNAVAILABLE", "not loaded"],
        ["broken", "UNAVAILABLE", "not loaded"],
        ["cpu", "UNAVAILABLE", "not loaded"],
      ],
    );
    await assert.rejects(live.client.infer("b", { x }, { retry: false }), { code: "UNAVAILABLE" });
  });

  test("a request that comes while its model is loaded is answered once it is", async () => {
    const config = "buckets: [1024]\nslo_ms: 60000\nthreads: 1\n";
    writeModelFiles(repository.dir, "long", {
      "1/model.onnx": slow({ layers: 100, width: 256 }),
      "config.yaml": config,
    });
    const loaded = live.client.loadModel("long");
    await until("it is being loaded", async () =>
      (await live.client.repositoryIndex()).some(({ name, state }) => name === "long" && state === "LOADING"),
    );
    const wide = tensor.float32([1, 256], new Float32Array(256));
    const answer = await live.client.infer("long", { x: wide }, { deadlineMs: 60_000 });
    assert.equal(answer.version, "1");
    await loaded;
    await live.client.unloadModel("long");
    await assert.rejects(live.client.infer("long", { x: wide }, { deadlineMs: 60_000 }), { reason: "not_ready" });
  });

  test("loading and unloading others disturbs no request", async () => {
    const traffic = startTraffic(live, "a");
    await traffic.answeredBy("1");
    for (let round = 0; round < 2; round++) {
      for (const name of ["b", "cpu"]) {
        await live.client.loadModel(name);
        assert.equal((await live.client.infer(name, { x })).output("y", "FP32").data[0], 1);
        const busy = startTraffic(live, name);
        await busy.more(10);
        await live.client.unloadModel(name);
        assert.equal(await live.client.modelReady(name), false);
        await busy.stop();
        // What was accepted before was answered; what came later was told so.
        for (const { code } of busy.errors) assert.equal(code, "UNAVAILABLE");
      }
    }
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
    const { lanes } = await live.status();
    assert.deepEqual(
      lanes.map(({ lane }) => lane),
      ["cpu"],
    );
    const metrics = await (await live.page("/metrics")).text();
    assert.deepEqual(metrics.match(/^slackline_lane_up.*/gm), ['slackline_lane_up{lane="cpu"} 1']);
    assert.deepEqual(metrics.match(/^slackline_model_ready.*/gm), ['slackline_model_ready{model="a",version="1"} 1']);
  });

  test("loading what is loaded looks at its files again", async () => {
    const traffic = startTraffic(live, "a");
    await traffic.answeredBy("1");
    writeModelFiles(repository.dir, "a", { "2/model.onnx": identity("FP32", 4) });
    await live.client.loadModel("a");
    await traffic.answeredBy("2");
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
    assert.equal((await live.client.infer("a", { x })).version, "2");
  });

  test("a version that can't be loaded fails the call, and the one before it goes on", async () => {
    writeModelFiles(repository.dir, "a", { "3/model.onnx": unknownOperator() });
    const traffic = startTraffic(live, "a");
    await assert.rejects(live.client.loadModel("a"), {
      code: "INTERNAL",
      message: /failed to load version 3: .*NoSuchOperator.*; version 2 goes on being served/s,
    });
    await traffic.more(10);
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
  });

  test("a model that can't be loaded, or isn't there, fails the call with the reason", async () => {
    await assert.rejects(live.client.loadModel("broken"), { code: "INTERNAL", message: /NoSuchOperator/ });
    await assert.rejects(live.client.loadModel("nope"), {
      code: "NOT_FOUND",
      message: "Request for unknown model: 'nope' is not found",
    });
    await assert.rejects(live.client.unloadModel("nope"), { code: "NOT_FOUND" });
    assert.equal((await live.client.infer("a", { x })).version, "2");
  });

  test("while the repository can't be read, a load fails without telling the caller where it lies", async () => {
    const aside = `${repository.dir}.aside`;
    renameSync(repository.dir, aside);
    try {
      await assert.rejects(live.client.loadModel("b"), {
        code: "INTERNAL",
        message: "model 'b': the model repository can't be read: the daemon's log says why",
      });
      assert.equal((await live.client.infer("a", { x })).version, "2");
    } finally {
      renameSync(aside, repository.dir);
    }
    await live.client.loadModel("b");
  });
});

test("without explicit control, loading by request is refused", async () => {
  const repository = temporaryFolder();
  writeModelFiles(repository.dir, "a", { "1/model.onnx": addOne(4) });
  const live = await startLiveDaemon(repository.dir);
  try {
    const refused = { code: "FAILED_PRECONDITION", message: /model_control is 'none', not 'explicit'/ };
    await assert.rejects(live.client.loadModel("a"), refused);
    await assert.rejects(live.client.unloadModel("a"), refused);
  } finally {
    await live.stop();
    repository.remove();
  }
});
