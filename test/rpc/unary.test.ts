import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { compressionAlgorithms, credentials } from "@grpc/grpc-js";
import type { ModelVersion } from "../../daemon/repository/model.ts";
import { modelPlan } from "../../daemon/rpc/decode/model-plan.ts";
import { answered, failed, floats, type Harness, infer, protocol, startServer, vectorRequest } from "./harness.ts";
import { TIMINGS } from "./puppet-inference.ts";

describe("unary inference", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer({ inflightBytesMax: 1_000_000, messageBytesMax: 3_000_000 });
  });
  after(() => harness.stop());
  beforeEach(() => {
    harness.inference.immediate = true;
    harness.inference.outcome = null;
    harness.catalog.failure = null;
    harness.logged.length = 0;
  });

  it("answers with the model's name, the version that ran, the id and raw contents", async () => {
    const response = answered(await infer(harness.client, vectorRequest()));
    assert.deepEqual([response.model_name, response.model_version, response.id], ["vector", "2", "r1"]);
    assert.deepEqual(response.raw_output_contents, [floats(1, 2, 3, 4)]);
    assert.deepEqual(response.parameters, {});
    const older = answered(await infer(harness.client, vectorRequest({ model_version: "1" })));
    assert.equal(older.model_version, "1");
    assert.equal(harness.inference.last().model, "vector/1");
  });

  it("tells where the time went when asked to", async () => {
    const parameters = { slackline_timings: { bool_param: true } };
    const response = answered(await infer(harness.client, vectorRequest({ parameters })));
    const values = Object.entries(response.parameters).map(([name, value]) => [
      name,
      value.int64_param ?? value.string_param,
    ]);
    assert.deepEqual(Object.fromEntries(values), {
      slackline_queue_us: "1200",
      slackline_gather_us: "30",
      slackline_execute_us: "4000",
      slackline_collect_us: "20",
      slackline_batch_items: "3",
      slackline_bucket: "4",
      slackline_lane: "gpu0",
      slackline_late_us: "0",
      slackline_wait_blocked_us: "1000",
      slackline_wait_blocked_by: "ranker/1",
      slackline_wait_own_batches_us: "200",
      slackline_wait_mispredicted_us: "50",
      slackline_wait_held_us: "0",
    });
  });

  it("says unasked that an answer was cached, and claims no lane or batch for it", async () => {
    const timings = { ...TIMINGS, queueUs: 0, gatherUs: 0, executeUs: 0, collectUs: 0, lane: null, waited: null };
    harness.inference.outcome = { type: "answered", outputs: [], timings };
    const unasked = answered(await infer(harness.client, vectorRequest()));
    assert.deepEqual(Object.keys(unasked.parameters), ["slackline_cache_hit"]);
    assert.equal(unasked.parameters.slackline_cache_hit?.bool_param, true);
    const parameters = { slackline_timings: { bool_param: true } };
    const asked = answered(await infer(harness.client, vectorRequest({ parameters })));
    const values = Object.entries(asked.parameters).map(([name, value]) => [
      name,
      value.int64_param ?? value.bool_param,
    ]);
    assert.deepEqual(Object.fromEntries(values), {
      slackline_cache_hit: true,
      slackline_queue_us: "0",
      slackline_gather_us: "0",
      slackline_execute_us: "0",
      slackline_collect_us: "0",
      slackline_late_us: "0",
    });
  });

  it("hands on what a request's answer may be cached as, only for models that ask for it", async () => {
    await infer(harness.client, vectorRequest());
    assert.equal(harness.inference.last().cacheAs, null);
    const known = harness.catalog.models.find(({ name }) => name === "kept")!;
    const cacheAs = (version: ModelVersion) => modelPlan(version).cacheAs;
    await infer(harness.client, vectorRequest({ model_name: "kept" }));
    assert.equal(harness.inference.last().cacheAs, cacheAs({ ...known }));
    const sequence = { lengths: [8], lengthMax: 8, mask: null, pad: {}, outputAxes: {} };
    for (const other of [{ hash: "1" }, { key: "kept/2" }, { batched: false }, { sequence }, { outputs: [] }])
      assert.notEqual(cacheAs({ ...known, ...other }), cacheAs(known));
  });

  it("says unasked by how much an answer is late", async () => {
    harness.inference.outcome = { type: "answered", outputs: [], timings: { ...TIMINGS, lateUs: 2_500 } };
    const response = answered(await infer(harness.client, vectorRequest()));
    assert.deepEqual(Object.keys(response.parameters), ["slackline_late_us"]);
    assert.equal(response.parameters.slackline_late_us?.int64_param, "2500");
  });

  it("reports an outcome's error with its trailers", async () => {
    harness.inference.outcome = { type: "shed", cause: "queue_items", detail: { limit: 7, retryAfterUs: 3_000 } };
    const failure = failed(await infer(harness.client, vectorRequest()));
    assert.equal(failure.code, "RESOURCE_EXHAUSTED");
    assert.deepEqual(failure.trailers.get("slackline_cause"), ["queue_items"]);
    assert.deepEqual(failure.trailers.get("slackline_retry_after_ms"), ["3"]);
  });

  it("withdraws a request that its caller cancels", async () => {
    harness.inference.immediate = false;
    const before = harness.inference.cancelled.length;
    const code = new Promise<number | undefined>((resolve) => {
      const call = harness.client.ModelInfer(vectorRequest(), (error) => resolve(error?.code));
      void harness.inference.until(() => harness.inference.held.size === 1).then(() => call.cancel());
    });
    assert.equal(await code, 1);
    await harness.inference.until(() => harness.inference.cancelled.length > before);
    assert.equal(harness.server.load().requests, 0);
  });

  for (const [name, algorithm] of [
    ["gzip", compressionAlgorithms.gzip],
    ["deflate", compressionAlgorithms.deflate],
  ] as const) {
    it(`takes requests compressed with ${name}`, async () => {
      const options = { "grpc.default_compression_algorithm": algorithm };
      const client = new protocol.inference.GRPCInferenceService(
        harness.address,
        credentials.createInsecure(),
        options,
      );
      const inputs = [{ name: "x", datatype: "FP32", shape: [8, 4] }];
      const bytes = Buffer.alloc(128, 3);
      const response = answered(await infer(client, vectorRequest({ inputs, raw_input_contents: [bytes] })));
      assert.deepEqual(response.raw_output_contents, [bytes]);
      client.close();
    });
  }

  it("refuses what does not fit into memory, naming limit and value, and takes it once others are answered", async () => {
    harness.inference.immediate = false;
    const request = (columns: number) => ({
      model_name: "flat",
      inputs: [{ name: "x", datatype: "FP32", shape: [2, columns] }],
      raw_input_contents: [Buffer.alloc(8 * columns)],
    });
    const first = infer(harness.client, request(75_000));
    await harness.inference.until(() => harness.inference.held.size === 1);
    const refused = failed(await infer(harness.client, request(75_000)));
    assert.equal(refused.code, "RESOURCE_EXHAUSTED");
    assert.match(
      refused.message,
      /^the request's 6000\d\d bytes do not fit: inflight_bytes_max is 1000000, of which 6000\d\d are in use$/,
    );
    assert.deepEqual(refused.trailers.get("slackline_cause"), ["inflight_bytes"]);
    harness.inference.end(harness.inference.last().id);
    answered(await first);
    harness.inference.immediate = true;
    answered(await infer(harness.client, request(60_000)));
    const never = failed(await infer(harness.client, request(125_000)));
    assert.equal(never.code, "RESOURCE_EXHAUSTED");
    assert.deepEqual(never.trailers.get("slackline_retry_after_ms"), []);
    assert.equal(harness.server.load().bytes, 0);
  });

  it("says when to come back for a model that is being loaded, and not for one that can't be", async () => {
    const retry = async (model_name: string) =>
      failed(await infer(harness.client, vectorRequest({ model_name }))).trailers.get("slackline_retry_after_ms");
    assert.deepEqual(await retry("loading"), ["200"]);
    assert.deepEqual(await retry("broken"), []);
  });

  it("refuses a message larger than the limit", async () => {
    const request = vectorRequest({ raw_input_contents: [Buffer.alloc(3_000_001)] });
    assert.equal(failed(await infer(harness.client, request)).code, "RESOURCE_EXHAUSTED");
  });

  it("keeps what nobody foresaw from the caller, and logs it", async () => {
    harness.catalog.failure = new Error("secret detail");
    const failure = failed(await infer(harness.client, vectorRequest()));
    assert.equal(failure.code, "INTERNAL");
    assert.equal(failure.message, "the request failed by an error in the daemon; its log has the details");
    assert.deepEqual(
      harness.logged.map(({ details }) => (details as { err: Error }).err.message),
      ["secret detail"],
    );
    assert.equal(harness.server.load().requests, 0);
  });

  it("refuses bytes that are no message", async () => {
    const garbage = (bytes: Buffer) => bytes;
    const { path, responseDeserialize } = protocol.inference.GRPCInferenceService.service.ModelInfer;
    const failure = await new Promise<{ code: number; details: string } | null>((resolve) => {
      harness.client.makeUnaryRequest(path, garbage, responseDeserialize, Buffer.from([0xff, 0xff, 0xff]), resolve);
    });
    assert.equal(failure?.code, 3);
    assert.equal(failure?.details, "the message is not a valid ModelInferRequest");
  });

  it("holds nothing once everything is answered", () => {
    assert.deepEqual(harness.server.load(), { requests: 0, streams: 0, bytes: 0 });
  });
});

describe("error style", () => {
  it("maps shed requests as Triton does where that is set", async () => {
    const harness = await startServer({ errors: "triton" });
    harness.inference.outcome = { type: "shed", cause: "late", detail: {} };
    assert.equal(failed(await infer(harness.client, vectorRequest())).code, "UNAVAILABLE");
    assert.equal(failed(await infer(harness.client, { model_name: "pair" })).code, "INVALID_ARGUMENT");
    await harness.stop();
  });
});
