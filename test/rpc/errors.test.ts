import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AcceptedRequest, Outcome } from "../../daemon/engine/ports.ts";
import { modelPlan } from "../../daemon/rpc/decode/model-plan.ts";
import { errorParameters, unaryStatus, wireCode } from "../../daemon/rpc/errors.ts";
import { outcomeError } from "../../daemon/rpc/outcomes.ts";
import { headerText, withoutHostPaths } from "../../daemon/rpc/text.ts";
import { model } from "./models.ts";

const PLAN = modelPlan(model("ranker", [{ name: "x", datatype: "FP32", shape: [-1, 4] }]));

const REQUEST: AcceptedRequest = {
  id: 1,
  model: "ranker/1",
  items: 1,
  shape: "",
  inputs: [],
  outputs: null,
  deadlineUs: 1_050_000,
  explicit: true,
  expiresUs: null,
  tenant: "",
  arrivedUs: 1_000_000,
  bytes: 16,
};

function errorOf(outcome: Exclude<Outcome, { type: "answered" }>, request: Partial<AcceptedRequest> = {}) {
  const error = outcomeError(outcome, { ...REQUEST, ...request }, PLAN, 1_010_000);
  return { code: error.code, cause: error.cause, message: error.message, retry: error.retryAfterMs, error };
}

describe("errors of requests that were not answered", () => {
  it("says what a late request was blocked by, its predicted finish and when to try again", () => {
    const detail = { blockedBy: "encoder/1", predictedEndUs: 1_062_500, queuedItems: 12, retryAfterUs: 30_400 };
    const { error, ...rest } = errorOf({ type: "shed", cause: "late", detail });
    assert.deepEqual(rest, {
      code: "DEADLINE_EXCEEDED",
      cause: "late",
      message:
        "the request for model 'ranker' would miss its deadline: blocked by model 'encoder/1', 12 items queued, predicted finish in 52.5 ms, 12.5 ms after the deadline; try again in 31 ms",
      retry: 31,
    });
    assert.deepEqual(unaryStatus(error, "native").metadata.getMap(), {
      slackline_code: "DEADLINE_EXCEEDED",
      slackline_cause: "late",
      slackline_retry_after_ms: "31",
    });
    assert.deepEqual(errorParameters(error, "native"), {
      slackline_code: { string_param: "DEADLINE_EXCEEDED" },
      slackline_cause: { string_param: "late" },
      slackline_retry_after_ms: { int64_param: 31 },
    });
  });

  it("says when a deadline had passed on arrival, and when it passed in the queue", () => {
    const outcome = { type: "shed", cause: "expired", detail: {} } as const;
    const arrival = errorOf(outcome, { deadlineUs: 998_000 });
    assert.equal(arrival.message, "the deadline of the request for model 'ranker' had passed on arrival, by 2.0 ms");
    assert.equal(arrival.code, "DEADLINE_EXCEEDED");
    assert.match(errorOf(outcome, { deadlineUs: 1_005_000 }).message, /passed after 10.0 ms in the queue$/);
    assert.match(errorOf(outcome, { deadlineUs: null }).message, /^the best-effort request .* expired after 10.0 ms/);
  });

  it("names a full queue's limit", () => {
    const { code, message } = errorOf({
      type: "shed",
      cause: "queue_items",
      detail: { limit: 1000, retryAfterUs: 500 },
    });
    assert.equal(code, "RESOURCE_EXHAUSTED");
    assert.equal(message, "the queue of model 'ranker' is full: queue_items_max is 1000; try again in 1 ms");
  });

  it("gives sacrificed, unloaded and lost requests their statuses", () => {
    assert.equal(errorOf({ type: "shed", cause: "sacrificed", detail: {} }).code, "DEADLINE_EXCEEDED");
    assert.equal(errorOf({ type: "shed", cause: "unloaded", detail: {} }).code, "UNAVAILABLE");
    assert.equal(errorOf({ type: "lost", reason: "the lane's process ended" }).code, "UNAVAILABLE");
  });

  it("passes the runtime's message on without paths of the host", () => {
    const message =
      "Non-zero status code returned while running Gemm node. Name:'/layer1/fc/Gemm' /home/ci/ort/gemm.cc:34 reading /srv/models/ranker/1/w.bin";
    const error = errorOf({ type: "failed", message });
    assert.equal(error.code, "INTERNAL");
    assert.equal(
      error.message,
      "model 'ranker' failed while running: Non-zero status code returned while running Gemm node. Name:'/layer1/fc/Gemm' gemm.cc:34 reading ranker/1/w.bin",
    );
    assert.equal(withoutHostPaths("at C:\\build\\a.cc:3"), "at a.cc:3");
  });

  it("cuts messages to what clients take as a header", () => {
    assert.equal(headerText("plain"), "plain");
    assert.equal(headerText("half \ud83e pair"), "half \ufffd pair");
    const cut = headerText("🦆".repeat(2_000));
    assert.ok(encodeURI(cut).length < 6_100);
    assert.match(cut, /^(?:🦆)+…$/u);
  });

  it("answers shed requests as Triton does where that is set, and only those", () => {
    const late = errorOf({ type: "shed", cause: "late", detail: {} }).error;
    const full = errorOf({ type: "shed", cause: "queue_bytes", detail: {} }).error;
    const failed = errorOf({ type: "failed", message: "no" }).error;
    assert.deepEqual(
      [late, full, failed].map((error) => wireCode(error, "triton")),
      ["UNAVAILABLE", "UNAVAILABLE", "INTERNAL"],
    );
  });
});
