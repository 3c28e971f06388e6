import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { callDeadlineUs, type DeadlineInputs, resolveDeadline } from "../../daemon/rpc/deadlines.ts";
import { answered, failed, type Harness, infer, startServer, vectorRequest } from "./harness.ts";
import { SLO_US } from "./models.ts";

const NONE = { withinUs: null, bestEffort: null, timings: false, allOutputs: false, trafficKey: null, cancel: false };

function resolve(changes: Partial<DeadlineInputs>) {
  return resolveDeadline({
    receivedUs: 1_000_000,
    call: { atUs: null, stream: false },
    parameters: NONE,
    sloUs: 100_000,
    bestEffortDefault: false,
    replyMarginUs: 5_000,
    ...changes,
  });
}

describe("which deadline counts", () => {
  const call = { atUs: 1_050_000, stream: false };

  it("is the model's SLO where nothing is stated, and then not explicit", () => {
    assert.deepEqual(resolve({}), { deadlineUs: 1_100_000, explicit: false, expiresUs: null });
  });

  it("is the gRPC deadline less the reply margin", () => {
    assert.deepEqual(resolve({ call }), { deadlineUs: 1_045_000, explicit: true, expiresUs: 1_050_000 });
  });

  it("is a gRPC deadline later than the SLO, since the caller chose it", () => {
    const late = { atUs: 3_000_000, stream: false };
    assert.deepEqual(resolve({ call: late }), { deadlineUs: 2_995_000, explicit: true, expiresUs: 3_000_000 });
  });

  it("is the request's own where that is earlier than the gRPC deadline", () => {
    const parameters = { ...NONE, withinUs: 20_000 };
    assert.equal(resolve({ call, parameters }).deadlineUs, 1_020_000);
  });

  it("is the gRPC deadline where that is earlier than the request's own", () => {
    const parameters = { ...NONE, withinUs: 500_000 };
    assert.equal(resolve({ call, parameters }).deadlineUs, 1_045_000);
  });

  it("is the SLO on a stream with a deadline of its own, bounded by it but not explicit", () => {
    const far = { atUs: 60_000_000, stream: true };
    assert.deepEqual(resolve({ call: far }), { deadlineUs: 1_100_000, explicit: false, expiresUs: 60_000_000 });
    const near = { atUs: 1_030_000, stream: true };
    assert.deepEqual(resolve({ call: near }), { deadlineUs: 1_025_000, explicit: false, expiresUs: 1_030_000 });
  });

  it("is none for best-effort work, which the gRPC deadline only expires", () => {
    const parameters = { ...NONE, bestEffort: true };
    assert.deepEqual(resolve({ call, parameters }), { deadlineUs: null, explicit: false, expiresUs: 1_050_000 });
    const both = { ...NONE, bestEffort: true, withinUs: 20_000 };
    assert.deepEqual(resolve({ parameters: both }), { deadlineUs: null, explicit: false, expiresUs: 1_020_000 });
  });

  it("lets a request say that it is no best-effort work, by a flag or by a deadline of its own", () => {
    assert.equal(resolve({ bestEffortDefault: true }).deadlineUs, null);
    assert.equal(resolve({ bestEffortDefault: true, call }).deadlineUs, null);
    assert.equal(
      resolve({ bestEffortDefault: true, parameters: { ...NONE, bestEffort: false } }).deadlineUs,
      1_100_000,
    );
    assert.equal(resolve({ bestEffortDefault: true, parameters: { ...NONE, withinUs: 9_000 } }).deadlineUs, 1_009_000);
  });

  it("takes a gRPC deadline over to the engine's clock", () => {
    assert.equal(callDeadlineUs(Number.POSITIVE_INFINITY, 5_000, 77), null);
    assert.equal(callDeadlineUs(5_250, 5_000, 1_000), 251_000);
    assert.equal(callDeadlineUs(new Date(4_990), 5_000, 1_000), -9_000);
  });
});

describe("deadlines from the wire", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer({ replyMarginUs: 0, bestEffortTenants: new Set(["batchjobs"]) });
  });
  after(() => harness.stop());
  beforeEach(() => {
    harness.inference.immediate = true;
  });

  /** Deadline of the request as received, counted from its arrival, microseconds. */
  async function within(parameters: object, deadlineMs?: number): Promise<number | null> {
    answered(await infer(harness.client, vectorRequest({ parameters: parameters as never }), deadlineMs));
    const { deadlineUs, arrivedUs } = harness.inference.last();
    return deadlineUs === null ? null : deadlineUs - arrivedUs;
  }

  function assertAbout(actual: number | null, expected: number): void {
    // What passes between reading the clock and arrival counts against the request; it is never negative.
    assert.ok(
      actual !== null && actual <= expected && actual > expected - 50_000,
      `${actual} is not about ${expected}`,
    );
  }

  it("reads deadline_ms from every kind of parameter", async () => {
    assertAbout(await within({ deadline_ms: { int64_param: 700 } }), 700_000);
    assertAbout(await within({ deadline_ms: { uint64_param: 701 } }), 701_000);
    assertAbout(await within({ deadline_ms: { double_param: 702.5 } }), 702_500);
    assertAbout(await within({ deadline_ms: { string_param: "703" } }), 703_000);
    assert.equal(harness.inference.last().explicit, true);
  });

  it("reads timeout as microseconds, and 0 as none", async () => {
    assertAbout(await within({ timeout: { int64_param: 800_000 } }), 800_000);
    assertAbout(await within({ timeout: { uint64_param: 800_001 } }), 800_001);
    assertAbout(await within({ timeout: { int64_param: 0 } }), SLO_US);
    assert.equal(harness.inference.last().explicit, false);
  });

  it("takes the earlier of deadline_ms, timeout and the gRPC deadline", async () => {
    assertAbout(await within({ deadline_ms: { int64_param: 900 }, timeout: { int64_param: 600_000 } }), 600_000);
    assertAbout(await within({ deadline_ms: { int64_param: 5_000 } }, 1_000), 1_000_000);
    assertAbout(await within({ deadline_ms: { int64_param: 500 } }, 1_000), 500_000);
  });

  it("ignores parameters that mean nothing here", async () => {
    const parameters = {
      triton_enable_empty_final_response: { bool_param: true },
      priority: { uint64_param: 1 },
      sequence_id: { uint64_param: 0 },
      sequence_start: { bool_param: false },
      mine: { string_param: "x" },
      unset: {},
    };
    assertAbout(await within(parameters), SLO_US);
  });

  it("makes a request best-effort by parameter, model or tenant", async () => {
    assert.equal(await within({ best_effort: { bool_param: true } }), null);
    answered(await infer(harness.client, vectorRequest({ model_name: "idle" })));
    assert.equal(harness.inference.last().deadlineUs, null);
    const metadata = new Metadata();
    metadata.set("slackline-tenant", "batchjobs");
    await new Promise((resolve) => harness.client.ModelInfer(vectorRequest(), metadata, resolve));
    assert.equal(harness.inference.last().deadlineUs, null);
    assert.equal(harness.inference.last().tenant, "batchjobs");
  });

  it("withdraws a request when its gRPC deadline passes unanswered", async () => {
    harness.inference.immediate = false;
    const failure = failed(await infer(harness.client, vectorRequest(), 30));
    assert.equal(failure.code, "DEADLINE_EXCEEDED");
    await harness.inference.until(() => harness.inference.held.size === 0);
    assert.deepEqual(harness.inference.cancelled, [harness.inference.last().id]);
    assert.equal(harness.server.load().requests, 0);
  });
});
