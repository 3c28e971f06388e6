/** Answers by another model where the one that was asked for can't give one in time. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import type { Outcome } from "../../daemon/engine/ports.ts";
import type { ShedCause } from "../../daemon/scheduler/types.ts";
import { answered, failed, floats, type Harness, infer, startServer, vectorRequest } from "./harness.ts";
import { model } from "./models.ts";
import { TIMINGS } from "./puppet-inference.ts";

const shed = (cause: ShedCause): Outcome => ({ type: "shed", cause, detail: {} });
const heavy = (deadline = true) =>
  vectorRequest({ model_name: "heavy", ...(deadline ? { parameters: { deadline_ms: { int64_param: 500 } } } : {}) });

describe("a model with a fallback", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer();
  });
  after(() => harness.stop());
  beforeEach(() => {
    harness.inference.immediate = true;
    harness.inference.outcomes.clear();
    harness.inference.received.length = 0;
    harness.fallbacks.length = 0;
    harness.refusals.length = 0;
    harness.warnings.length = 0;
  });
  const asked = () => harness.inference.received.map(({ model }) => model);

  it("answers itself where it can", async () => {
    const response = answered(await infer(harness.client, heavy()));
    assert.deepEqual([response.model_name, response.parameters], ["heavy", {}]);
    assert.deepEqual(harness.fallbacks, []);
  });

  for (const cause of ["late", "sacrificed", "queue_items", "queue_bytes", "unloaded"] as const) {
    it(`is stood in for where it says '${cause}', by the same deadline`, async () => {
      harness.inference.outcomes.set("heavy/1", shed(cause));
      const response = answered(await infer(harness.client, heavy()));
      assert.deepEqual([response.model_name, response.model_version], ["vector", "1"]);
      assert.deepEqual(response.raw_output_contents, [floats(1, 2, 3, 4)]);
      assert.deepEqual(Object.keys(response.parameters), ["slackline_fallback"]);
      assert.equal(response.parameters.slackline_fallback?.string_param, cause);
      const [first, second] = harness.inference.received;
      assert.equal(second?.deadlineUs, first?.deadlineUs);
      assert.deepEqual([first?.explicit, second?.explicit], [true, true]);
      assert.deepEqual(harness.fallbacks, [`heavy/1 ${cause} answered`]);
      assert.deepEqual(harness.refusals, []);
    });
  }

  it("is stood in for where its lane is lost, and while its device restarts", async () => {
    harness.inference.outcomes.set("heavy/1", { type: "lost", reason: "the lane's process ended" });
    assert.equal(answered(await infer(harness.client, heavy())).model_name, "vector");
    const response = answered(await infer(harness.client, { ...heavy(), model_name: "restarting" }));
    assert.equal(response.model_name, "vector");
    assert.equal(response.parameters.slackline_fallback?.string_param, "not_ready");
    assert.deepEqual(harness.fallbacks, ["heavy/1 lost answered", "restarting/1 not_ready answered"]);
  });

  it("is not where it failed, and for best-effort work", async () => {
    harness.inference.outcomes.set("heavy/1", { type: "failed", message: "a division by zero" });
    assert.equal(failed(await infer(harness.client, heavy())).code, "INTERNAL");
    harness.inference.outcomes.set("heavy/1", shed("queue_items"));
    const bestEffort = { ...heavy(false), parameters: { best_effort: { bool_param: true } } };
    assert.equal(failed(await infer(harness.client, bestEffort)).code, "RESOURCE_EXHAUSTED");
    const whileRestarting = { ...bestEffort, model_name: "restarting" };
    assert.equal(failed(await infer(harness.client, whileRestarting)).code, "UNAVAILABLE");
    assert.deepEqual(asked(), ["heavy/1", "heavy/1"]);
    assert.deepEqual(harness.fallbacks, []);
  });

  it("is not answered late where the fallback is in time, though the request states no deadline", async () => {
    harness.inference.outcomes.set("heavy/1", shed("late"));
    assert.equal(answered(await infer(harness.client, heavy(false))).model_name, "vector");
    const [first, second] = harness.inference.received;
    // Whoever of the two can't be in time is to say so.
    assert.deepEqual([first?.explicit, second?.explicit], [true, true]);
    assert.equal(second?.deadlineUs, first?.deadlineUs);
  });

  it("is answered for, if late, where its queue is full and the request states no deadline", async () => {
    harness.inference.outcomes.set("heavy/1", shed("queue_items"));
    assert.equal(answered(await infer(harness.client, heavy(false))).model_name, "vector");
    assert.deepEqual(
      harness.inference.received.map(({ explicit }) => explicit),
      [true, false],
    );
  });

  it("is planned by an earlier time the more often its fallback came too late, and by its deadline where it is not needed", async () => {
    const { inference, client } = harness;
    const answers = async (count: number) => {
      for (let i = 0; i < count; i++) await infer(client, heavy());
    };
    /** Of a request for `heavy`: the part of its time that is kept. */
    const kept = async () => {
      await answers(1);
      const { deadlineUs, planByUs, arrivedUs } = inference.received.findLast(({ model }) => model === "heavy/1")!;
      return (deadlineUs! - planByUs!) / (deadlineUs! - arrivedUs);
    };
    inference.outcomes.set("heavy/1", shed("late"));
    inference.outcomes.set("vector/1", shed("late"));
    const first = await kept();
    await answers(10);
    const second = await kept();
    assert.ok(second > first + 0.09, `${first}, then ${second}`);
    await answers(40);
    assert.ok((await kept()) < 0.31);
    inference.outcomes.clear();
    await answers(300);
    assert.ok((await kept()) < 0.29);
  });

  it("goes by its own SLO while its device restarts", async () => {
    harness.catalog.restartingSloUs = 7_000;
    const beforeUs = harness.inference.nowUs();
    answered(await infer(harness.client, { ...heavy(false), model_name: "restarting" }));
    const { deadlineUs } = harness.inference.last();
    assert.ok(deadlineUs! - beforeUs >= 7_000 && deadlineUs! - harness.inference.nowUs() <= 7_000);
  });

  it("says what is wrong with a request although its device restarts", async () => {
    const request = { ...heavy(), model_name: "restarting" };
    const { code, message } = failed(
      await infer(harness.client, { ...request, inputs: [{ ...request.inputs![0]!, name: "y" }] }),
    );
    assert.equal(code, "INVALID_ARGUMENT");
    assert.match(message, /'y'/);
    assert.deepEqual(harness.fallbacks, []);
  });

  it("gives its own refusal where the fallback refuses too", async () => {
    harness.inference.outcomes.set("heavy/1", shed("late"));
    harness.inference.outcomes.set("vector/1", shed("queue_items"));
    const { code, message } = failed(await infer(harness.client, heavy()));
    assert.equal(code, "DEADLINE_EXCEEDED");
    assert.match(message, /model 'heavy'/);
    assert.deepEqual(harness.fallbacks, ["heavy/1 late refused"]);
    // The engine has counted it.
    assert.deepEqual(harness.refusals, []);
  });

  it("answers late where nobody is in time and the request states no deadline", async () => {
    const { inference } = harness;
    inference.immediate = false;
    const answer = infer(harness.client, heavy(false));
    await inference.until(() => inference.received.length === 1);
    inference.end(inference.last().id, shed("late"));
    assert.equal(inference.last().model, "vector/1");
    inference.end(inference.last().id, shed("late"));
    assert.deepEqual([inference.last().model, inference.last().explicit], ["heavy/1", false]);
    inference.end(inference.last().id, { type: "answered", outputs: [], timings: { ...TIMINGS, lateUs: 4000 } });
    const { model_name, parameters } = answered(await answer);
    assert.equal(model_name, "heavy");
    assert.equal(parameters.slackline_late_us?.int64_param, "4000");
    assert.deepEqual(Object.keys(parameters), ["slackline_late_us"]);
    assert.deepEqual(
      inference.received.map(({ fallback }) => fallback),
      ["ahead", "instead", "behind"],
    );
    assert.deepEqual(harness.fallbacks, ["heavy/1 late late"]);
  });

  it("that is loaded anew meanwhile, with another interface, is not given what was meant for the old one", async () => {
    const { inference, catalog } = harness;
    inference.immediate = false;
    const answer = infer(harness.client, heavy(false));
    await inference.until(() => inference.received.length === 1);
    inference.end(inference.last().id, shed("late"));
    const at = catalog.models.findIndex(({ name }) => name === "heavy");
    const before = catalog.models[at]!;
    catalog.models[at] = model("heavy", [{ name: "x", datatype: "INT64", shape: [-1, 4] }]);
    inference.end(inference.last().id, shed("late"));
    catalog.models[at] = before;
    const { code, message } = failed(await answer);
    assert.deepEqual([code, /model 'heavy'/.test(message)], ["DEADLINE_EXCEEDED", true]);
    assert.equal(inference.received.length, 2);
  });

  it("holds a request's memory once, however many models are asked", async () => {
    const { inference, server } = harness;
    inference.immediate = false;
    const text = { name: "text", datatype: "BYTES", shape: [1, 2] };
    const request = { model_name: "wordy", inputs: [text], raw_input_contents: [Buffer.alloc(8)] };
    const answer = infer(harness.client, request);
    await inference.until(() => inference.received.length === 1);
    const { bytes } = server.load();
    inference.end(inference.last().id, shed("late"));
    assert.deepEqual([inference.last().model, server.load().bytes], ["words/1", bytes]);
    inference.end(inference.last().id, shed("late"));
    assert.deepEqual([inference.last().model, server.load().bytes], ["wordy/1", bytes]);
    inference.end(inference.last().id);
    answered(await answer);
    assert.equal(server.load().bytes, 0);
  });

  it("is told once of a fallback that does not take its requests", async () => {
    harness.inference.outcomes.set("wide/1", shed("late"));
    for (let i = 0; i < 2; i++) {
      const { code, message } = failed(await infer(harness.client, { ...heavy(), model_name: "wide" }));
      assert.equal(code, "DEADLINE_EXCEEDED");
      assert.match(message, /model 'wide'/);
    }
    assert.deepEqual(harness.fallbacks, ["wide/1 late refused", "wide/1 late refused"]);
    assert.deepEqual(harness.warnings.length, 1);
    assert.match(harness.warnings[0]!, /^pair\/1 can't answer for wide\/1, whose fallback it is: unexpected .*'x'/);
  });

  it("goes on as without one while the fallback is not ready", async () => {
    harness.inference.outcomes.set("alone/1", shed("late"));
    const { code } = failed(await infer(harness.client, { ...heavy(), model_name: "alone" }));
    assert.equal(code, "DEADLINE_EXCEEDED");
    answered(await infer(harness.client, { ...heavy(false), model_name: "vector" }));
    assert.deepEqual(asked(), ["alone/1", "vector/2"]);
    assert.deepEqual(harness.fallbacks, []);
  });

  it("passes a cancellation on to the fallback, and holds nothing afterwards", async () => {
    const { inference, server, client } = harness;
    inference.immediate = false;
    inference.outcomes.set("heavy/1", shed("late"));
    const call = client.ModelInfer(heavy(), () => {});
    await inference.until(() => inference.received.length === 2);
    assert.ok(server.load().bytes > 0);
    call.cancel();
    await inference.until(() => inference.cancelled.length > 0);
    assert.equal(inference.cancelled.at(-1), inference.received.at(-1)?.id);
    assert.equal(server.load().bytes, 0);
    assert.deepEqual(harness.fallbacks, ["heavy/1 late cancelled"]);
  });
});
