/** Whatever callers send, each gets its status and sentence, nobody else notices, and the daemon goes on serving. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type SlacklineError, tensor } from "slackline-client";
import { failsAtRun } from "../../models/onnx/tiny.ts";
import type { ModelStreamInferResponse__Output } from "../../proto/generated/inference/ModelStreamInferResponse.ts";
import { BAD_REQUESTS } from "../rpc/bad-requests.ts";
import { answered, failed, floats, infer, vectorRequest } from "../rpc/harness.ts";
import { boulderFiles, roll } from "../support/boulder.ts";
import { writeEchoModels } from "../support/echo-models.ts";
import {
  LEVEL,
  type LiveDaemon,
  startLiveDaemon,
  temporaryFolder,
  until,
  writeModelFiles,
} from "../support/live-daemon.ts";

/** Those that are about a model's state have tests of their own. */
const CASES = BAD_REQUESTS.filter(({ code }) => code !== "UNAVAILABLE");

describe("bad input to a live daemon", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    writeEchoModels(repository.dir);
    writeModelFiles(repository.dir, "boulder", boulderFiles());
    const fails = "max_batch_size: 8\nbuckets: [1, 8]\nslo_ms: 60000\n";
    writeModelFiles(repository.dir, "fails", { "1/model.onnx": failsAtRun(), "config.yaml": fails });
    live = await startLiveDaemon(repository.dir, ["--message-bytes-max", String(1 << 22)]);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  async function servesOn(): Promise<void> {
    const answer = answered(await infer(live.raw, vectorRequest()));
    assert.deepEqual(answer.raw_output_contents, [floats(1, 2, 3, 4)]);
  }

  test("each bad request gets its status and sentence, on unary calls", async () => {
    for (const { what, request, code, message } of CASES) {
      const failure = failed(await infer(live.raw, request));
      assert.deepEqual([failure.code, failure.message], [code, message], what);
    }
    await servesOn();
  });

  test("all at once on one stream, good ones among them, are told apart by their ids", async () => {
    const call = live.raw.ModelStreamInfer();
    const responses = new Map<string, ModelStreamInferResponse__Output>();
    const ended = new Promise<void>((resolve, reject) => {
      call.on("data", (response) => responses.set(response.infer_response?.id ?? "", response));
      call.on("end", resolve);
      call.on("error", reject);
    });
    for (const [index, { request }] of CASES.entries()) {
      call.write({ ...request, id: `bad-${index}` });
      call.write(vectorRequest({ id: `good-${index}`, raw_input_contents: [floats(index, 0, 0, 0)] }));
    }
    call.end();
    await ended;
    assert.equal(responses.size, 2 * CASES.length);
    for (const [index, { what, code, message }] of CASES.entries()) {
      const bad = responses.get(`bad-${index}`)!;
      assert.equal(bad.error_message, message, what);
      assert.equal(bad.infer_response?.parameters.slackline_code?.string_param, code, what);
      const good = responses.get(`good-${index}`)!;
      assert.deepEqual(good.infer_response?.raw_output_contents, [floats(index, 0, 0, 0)], what);
    }
  });

  test("none of it is logged as an error, or left in a queue", async () => {
    assert.deepEqual(
      live.log.filter(({ level }) => level >= LEVEL.error).map(({ msg }) => msg),
      [],
    );
    for (const { queued_items } of (await live.status()).models) assert.equal(queued_items, 0);
  });

  test("a message beyond the limit is refused, and the connection survives", async () => {
    const failure = failed(await infer(live.raw, vectorRequest({ raw_input_contents: [Buffer.alloc(5 << 20)] })));
    assert.equal(failure.code, "RESOURCE_EXHAUSTED");
    assert.match(failure.message, /4194304/);
    await servesOn();
  });

  test("a request that fails while running is told the runtime's message, without the host's paths", async () => {
    const error: SlacklineError = await live.client
      .infer("fails", { index: tensor.int64([1, 1], BigInt64Array.of(9n)) })
      .then(
        () => assert.fail("an index out of bounds was answered"),
        (thrown: unknown) => thrown as SlacklineError,
      );
    assert.equal(error.code, "INTERNAL");
    assert.match(error.message, /^model 'fails' failed while running: .*indices element out of data bounds, idx=9/s);
    assert.doesNotMatch(error.message, /\/(home|tmp|work|usr|root|var)\b/);
    const told = live.log.filter(({ msg }) => msg.startsWith("fails/1 failed while running: "));
    assert.deepEqual(
      told.map(({ level }) => level),
      [LEVEL.warn],
    );
  });

  test("a request that fails while running does not fail those that share its batch", async () => {
    const before = (await live.modelStatus("fails")).counts;
    const boulder = await roll(live);
    const indexes = [[0n], [1n, 2n], [9n], [3n, 3n, 3n], [-5n]];
    const asked = indexes.map((index) =>
      live.client
        .infer("fails", { index: tensor.int64([index.length, 1], BigInt64Array.from(index)) }, { retry: false })
        .then(
          (answer) => [...answer.output("value", "FP32").data],
          (error: SlacklineError) => error.code,
        ),
    );
    await until("all wait", async () => (await live.modelStatus("fails")).queued_items === 8);
    assert.equal(boulder.ended(), false);
    assert.deepEqual(await Promise.all(asked), [[0], [10, 20], "INTERNAL", [30, 30, 30], "INTERNAL"]);
    const { counts } = await live.modelStatus("fails");
    assert.deepEqual(
      [counts.on_time - before.on_time, counts.failed - before.failed, counts.requests - before.requests],
      [3, 2, 5],
    );
    assert.equal(counts.executions - before.executions, 6, "one batch of all, then each by itself");
  });

  test("requests of several items get their own rows of a shared batch", async () => {
    const boulder = await roll(live);
    const calls = [1, 3, 2, 4, 5, 8, 1].map(async (items, index) => {
      const data = Float32Array.from({ length: items * 4 }, (_, at) => 1000 * index + at);
      const answer = await live.client.infer("vector", { x: tensor.float32([items, 4], data) }, { timings: true });
      assert.deepEqual(answer.output("out_x", "FP32").data, data);
      assert.deepEqual(answer.output("out_x", "FP32").shape, [items, 4]);
      return answer.timings!.batchItems > items;
    });
    assert.ok((await Promise.all(calls)).includes(true), "no batch was shared");
    await boulder.done;
  });
});
