import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { SlacklineClient, SlacklineError } from "slackline-client";
import { FakeDaemon } from "./fake-daemon.ts";

describe("what a client asks besides inference", () => {
  let daemon: FakeDaemon;
  let client: SlacklineClient;

  before(async () => {
    daemon = await FakeDaemon.start({
      models: {
        digits: {
          name: "digits",
          versions: ["1", "3"],
          platform: "onnxruntime_onnx",
          inputs: [{ name: "pixels", datatype: "FP32", shape: [-1, 1, 8, 8] }],
          outputs: [{ name: "scores", datatype: "FP32", shape: [-1, 10] }],
        },
      },
    });
    client = new SlacklineClient({ target: daemon.target });
  });
  after(() => {
    client.close();
    daemon.kill();
  });

  it("metadata, with shapes as numbers", async () => {
    assert.deepEqual(await client.serverMetadata(), { name: "fake", version: "1.2.3", extensions: ["statistics"] });
    assert.deepEqual(await client.modelMetadata("digits"), {
      name: "digits",
      versions: ["1", "3"],
      platform: "onnxruntime_onnx",
      inputs: [{ name: "pixels", datatype: "FP32", shape: [-1, 1, 8, 8] }],
      outputs: [{ name: "scores", datatype: "FP32", shape: [-1, 10] }],
    });
    assert.equal((await client.modelConfig("digits")).max_batch_size, 8);
  });

  it("readiness of server and models", async () => {
    assert.equal(await client.ready(), true);
    assert.equal(await client.modelReady("digits", { version: 3 }), true);
    assert.equal(await client.modelReady("nonesuch"), false);
  });

  it("statistics, index, loading and unloading", async () => {
    const [statistics] = await client.statistics("digits");
    assert.equal(statistics!.inferenceCount, 7);
    assert.deepEqual(statistics!.queue, { count: 3, ns: 1234567 });
    assert.deepEqual(statistics!.cacheHit, { count: 0, ns: 0 });
    assert.deepEqual(await client.repositoryIndex({ readyOnly: true }), [
      { name: "digits", version: "1", state: "READY", reason: "" },
    ]);
    await client.loadModel("digits");
    await client.unloadModel("digits");
  });

  it("fail with the one error class", async () => {
    const failing = [client.modelMetadata("nonesuch"), client.loadModel("nonesuch")];
    for (const promise of failing) {
      await assert.rejects(promise, (error) => error instanceof SlacklineError && error.code === "NOT_FOUND");
    }
    await assert.rejects(client.serverMetadata({ target: "elsewhere:1" }), /not a target of this client/);
    const signal = AbortSignal.abort("no");
    await assert.rejects(client.serverMetadata({ signal }), (error) => (error as SlacklineError).reason === "aborted");
  });

  it("waits until the server is ready", async () => {
    daemon.ready = false;
    const waiting = client.waitForReady({ timeoutMs: 20_000, models: ["digits"] });
    assert.equal(await client.ready(), false);
    await assert.rejects(client.waitForReady({ timeoutMs: 50 }), /the server is not ready after 50 ms/);
    daemon.ready = true;
    await waiting;
    await assert.rejects(
      client.waitForReady({ timeoutMs: 50, models: ["nonesuch"] }),
      /model 'nonesuch' is not ready after 50 ms: the server has no model of that name, but 'digits'/,
    );
  });

  it("refuses a URL as target, and says what a target is", () => {
    assert.throws(
      () => new SlacklineClient({ target: "http://localhost:8001" }),
      /target "http:\/\/localhost:8001" is a URL; a target is HOST:PORT/,
    );
    for (const target of ["localhost", ":::", "::1:8001", "localhost:", "localhost:grpc"]) {
      assert.throws(() => new SlacklineClient({ target }), new RegExp(`target "${target}" is not HOST:PORT`), target);
    }
    for (const target of ["[::1]:8001", "10.0.0.1:8001", "dns:///daemons:8001", "unix:/run/slackline.sock"]) {
      new SlacklineClient({ target }).close();
    }
  });

  it("says why no server is reached", async () => {
    const lonely = new SlacklineClient({ target: "127.0.0.1:1" });
    try {
      assert.equal(await lonely.ready({ timeoutMs: 50 }), false);
      await assert.rejects(
        lonely.serverMetadata({ timeoutMs: 50 }),
        (error) =>
          error instanceof SlacklineError && error.code === "UNAVAILABLE" && /127\.0\.0\.1:1/.test(error.message),
      );
      await assert.rejects(lonely.waitForReady({ timeoutMs: 300 }), /not ready after 300 ms .*ECONNREFUSED/);
    } finally {
      lonely.close();
    }
  });
});
