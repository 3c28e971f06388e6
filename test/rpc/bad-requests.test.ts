import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { ModelStreamInferResponse__Output } from "../../proto/generated/inference/ModelStreamInferResponse.ts";
import { BAD_REQUESTS } from "./bad-requests.ts";
import { answered, failed, type Harness, infer, startServer, vectorRequest } from "./harness.ts";

describe("bad requests", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer();
  });
  after(() => harness.stop());

  for (const { what, request, code, message } of BAD_REQUESTS) {
    it(`refuses ${what} with its status and sentence, on a unary call`, async () => {
      const failure = failed(await infer(harness.client, request));
      assert.deepEqual([failure.code, failure.message], [code, message]);
      assert.deepEqual(failure.trailers.get("slackline_code"), [code]);
      assert.equal(failure.trailers.get("slackline_cause").length, 1);
    });
  }

  it("refuses all of them on one stream, which stays up", async () => {
    const call = harness.client.ModelStreamInfer();
    const responses: ModelStreamInferResponse__Output[] = [];
    const ended = new Promise<void>((resolve, reject) => {
      call.on("data", (response) => responses.push(response));
      call.on("end", resolve);
      call.on("error", reject);
    });
    for (const [index, { request }] of BAD_REQUESTS.entries()) call.write({ ...request, id: `bad-${index}` });
    call.write(vectorRequest({ id: "good" }));
    call.end();
    await ended;

    const byId = new Map(responses.map((response) => [response.infer_response?.id, response]));
    assert.equal(byId.size, BAD_REQUESTS.length + 1);
    for (const [index, { what, code, message }] of BAD_REQUESTS.entries()) {
      const response = byId.get(`bad-${index}`);
      assert.equal(response?.error_message, message, what);
      assert.equal(response?.infer_response?.parameters.slackline_code?.string_param, code, what);
    }
    assert.equal(byId.get("good")?.error_message, "");
  });

  it("goes on serving after all of that", async () => {
    assert.equal(answered(await infer(harness.client, vectorRequest())).id, "r1");
    assert.deepEqual(harness.logged, []);
    assert.equal(harness.server.load().requests, 0);
  });

  it("tells the observer of each refusal, with the model where it is known", async () => {
    harness.refusals.length = 0;
    await infer(harness.client, { model_name: "nope" });
    await infer(harness.client, { model_name: "pair" });
    assert.deepEqual(harness.refusals, ["- NOT_FOUND not_found", "pair/1 INVALID_ARGUMENT invalid"]);
  });

  it("cuts endless names out of its sentences", async () => {
    const failure = failed(await infer(harness.client, { model_name: "🦆".repeat(50_000) }));
    assert.equal(failure.code, "NOT_FOUND");
    assert.ok(failure.message.length < 300);
    assert.ok(failure.message.includes("🦆"));
  });
});
