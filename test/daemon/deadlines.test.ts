/** Deadlines, best-effort work, cancellation, limits and spill-over, on a daemon whose device is kept busy. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { type InferOptions, type InferResult, SlacklineClient, type SlacklineError, tensor } from "slackline-client";
import { addOne } from "../../models/onnx/tiny.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import { type Boulder, boulderFiles, roll } from "../support/boulder.ts";
import {
  type LiveDaemon,
  type ModelFiles,
  startLiveDaemon,
  temporaryFolder,
  until,
  writeModelFiles,
} from "../support/live-daemon.ts";

const S = 1_000_000;

function small(config: string): ModelFiles {
  return { "1/model.onnx": addOne(4), "config.yaml": `max_batch_size: 4\nbuckets: [1, 4]\n${config}` };
}

const input = tensor.float32([1, 4], Float32Array.of(1, 2, 3, 4));

describe("deadlines", () => {
  const folder = temporaryFolder();
  const repository = path.join(folder.dir, "models");
  const decisions = path.join(folder.dir, "decisions.jsonl");
  let live: LiveDaemon;

  before(async () => {
    writeModelFiles(repository, "boulder", boulderFiles());
    writeModelFiles(repository, "plain", small("device: gpu\nslo_ms: 50\n"));
    writeModelFiles(repository, "strict", small("device: gpu\nslo_ms: 50\nshed: true\n"));
    writeModelFiles(repository, "patient", small("device: gpu\nslo_ms: 60000\n"));
    writeModelFiles(repository, "background", small("device: gpu\nslo_ms: 60000\nbest_effort: true\n"));
    writeModelFiles(repository, "few", small("device: gpu\nslo_ms: 60000\nqueue_items_max: 3\n"));
    writeModelFiles(repository, "thin", small("device: gpu\nslo_ms: 60000\nqueue_bytes_max: 40\n"));
    writeModelFiles(repository, "spill", small("device: auto\nslo_ms: 60000\nreplicas: 1\nthreads: 1\n"));
    const tenants = "{nightly: {best_effort: true}, gold: {weight: 4}}";
    live = await startLiveDaemon(repository, ["--decision-log", decisions, "--tenants", tenants]);
  });
  after(async () => {
    await live?.stop();
    folder.remove();
  });

  function ask(model: string, options: InferOptions = {}): Promise<InferResult> {
    return live.client.infer(model, { x: input }, { timings: true, retry: false, ...options });
  }

  async function refusal(asked: Promise<InferResult>): Promise<SlacklineError> {
    return await asked.then(
      () => assert.fail("it was answered"),
      (error: unknown) => error as SlacklineError,
    );
  }

  async function whileRolling(check: (boulder: Boulder) => Promise<void>): Promise<void> {
    const boulder = await roll(live);
    try {
      await check(boulder);
    } finally {
      await boulder.done;
    }
  }

  async function queued(model: string, items: number): Promise<void> {
    await until(`${items} items of ${model} wait`, async () => (await live.modelStatus(model)).queued_items === items);
  }

  test("a deadline that can't be met is shed at once, and the caller is told what is in the way", async () => {
    await whileRolling(async (boulder) => {
      const error = await refusal(ask("patient", { deadlineMs: 100 }));
      assert.equal(boulder.ended(), false, "told only after what it waited for");
      assert.deepEqual([error.code, error.reason], ["DEADLINE_EXCEEDED", "late"]);
      assert.match(error.message, /blocked by model 'boulder\/1', predicted finish in \d+/);
      assert.ok(error.retryAfterMs! > 0);
    });
    assert.equal((await live.modelStatus("patient")).counts.shed.late, 1);
  });

  test("a model that sheds by its SLO sheds requests that state no deadline", async () => {
    await whileRolling(async (boulder) => {
      const error = await refusal(ask("strict"));
      assert.equal(boulder.ended(), false);
      assert.deepEqual([error.code, error.reason], ["DEADLINE_EXCEEDED", "late"]);
    });
  });

  test("other models answer them late, and say by how much", async () => {
    await whileRolling(async () => {
      const answer = await ask("plain");
      assert.ok(answer.lateMs > 0);
      assert.deepEqual(answer.output("y", "FP32").data, Float32Array.of(2, 3, 4, 5));
      assert.equal(answer.timings!.waited?.blockedBy, "boulder/1");
    });
    const { counts } = await live.modelStatus("plain");
    assert.deepEqual([counts.best_effort, counts.shed], [1, {}]);
  });

  test("a replica answers what the device can't in time", async () => {
    assert.equal((await live.modelStatus("spill")).placement, "both");
    // What was started in time is answered, however long a busy machine takes for it: this client waits.
    const patient = new SlacklineClient({ target: live.target, graceMs: 30_000 });
    await whileRolling(async () => {
      const { timings } = await patient.infer("spill", { x: input }, { deadlineMs: 250, timings: true, retry: false });
      assert.equal(timings!.lane, "cpu/spill/1#0");
    });
    patient.close();
    const { timings } = await ask("spill", { deadlineMs: 60_000 });
    assert.equal(timings!.lane, "cpu", "an idle device goes first");
  });

  test("queues are limited by items, and the refusal names the limit", async () => {
    await whileRolling(async () => {
      const waiting = [ask("few"), live.client.infer("few", { x: tensor.float32([2, 4], new Float32Array(8)) })];
      await queued("few", 3);
      const error = await refusal(ask("few"));
      assert.deepEqual([error.code, error.reason], ["RESOURCE_EXHAUSTED", "queue_items"]);
      assert.match(error.message, /the queue of model 'few' is full: queue_items_max is 3/);
      assert.ok(error.retryAfterMs! > 0);
      await Promise.all(waiting);
    });
  });

  test("queues are limited by bytes", async () => {
    await whileRolling(async () => {
      const waiting = [ask("thin"), ask("thin")];
      await queued("thin", 2);
      const error = await refusal(ask("thin"));
      assert.deepEqual([error.code, error.reason], ["RESOURCE_EXHAUSTED", "queue_bytes"]);
      assert.match(error.message, /queue_bytes_max is 40/);
      await Promise.all(waiting);
    });
  });

  for (const transport of ["stream", "unary"] as const) {
    test(`a queued request that is cancelled is never executed (${transport})`, async () => {
      const before = (await live.modelStatus("patient")).counts;
      await whileRolling(async (boulder) => {
        const aborter = new AbortController();
        const asked = ask("patient", { signal: aborter.signal, transport });
        await queued("patient", 1);
        aborter.abort();
        assert.equal((await refusal(asked)).code, "CANCELLED");
        await queued("patient", 0);
        assert.equal(boulder.ended(), false);
      });
      const { counts } = await live.modelStatus("patient");
      assert.equal(counts.cancelled, before.cancelled + 1);
      assert.equal(counts.executions, before.executions);
    });
  }

  test("a request that is cancelled while it executes ends at once; its execution ends in its own time", async () => {
    const before = (await live.modelStatus("boulder")).counts;
    const aborter = new AbortController();
    const boulder = await roll(live, aborter.signal);
    const next = ask("patient", { deadlineMs: 60_000 });
    aborter.abort();
    await boulder.done;
    await until(
      "it is counted",
      async () => (await live.modelStatus("boulder")).counts.cancelled === before.cancelled + 1,
    );
    await next;
    const { counts } = await live.modelStatus("boulder");
    assert.equal(counts.executions, before.executions + 1);
    assert.equal(counts.on_time, before.on_time);
  });

  test("best-effort work is answered, whoever says that it is some", async () => {
    const count = async (model: string): Promise<number> => (await live.modelStatus(model)).counts.best_effort;
    const before = [await count("patient"), await count("background")];
    await Promise.all([
      ask("patient", { bestEffort: true }),
      ask("patient", { tenant: "nightly" }),
      ask("background"),
      ask("patient", { tenant: "gold" }),
      ask("background", { deadlineMs: 60_000 }),
      ask("patient", { tenant: "nightly", deadlineMs: 60_000 }),
    ]);
    assert.deepEqual([await count("patient"), await count("background")], [before[0]! + 2, before[1]! + 1]);
  });

  test("best-effort work whose caller stops listening is given up", async () => {
    await whileRolling(async (boulder) => {
      const error = await refusal(ask("patient", { bestEffort: true, deadlineMs: 60, transport: "unary" }));
      assert.equal(error.code, "DEADLINE_EXCEEDED");
      await queued("patient", 0);
      assert.equal(boulder.ended(), false);
    });
  });

  test("the earliest deadline stated counts, else the model's SLO", async () => {
    const cases: [
      what: string,
      us: number,
      parameters: NonNullable<ModelInferRequest["parameters"]>,
      grpcMs: number | null,
    ][] = [
      ["deadline_ms", 40 * S, { deadline_ms: { double_param: 40_000 } }, null],
      ["timeout", 30 * S, { timeout: { int64_param: 30 * S } }, null],
      ["gRPC", 20 * S, {}, 20_000],
      ["gRPC before deadline_ms", 20 * S, { deadline_ms: { int64_param: 40_000 } }, 20_000],
      ["timeout before gRPC", 30 * S, { timeout: { uint64_param: 30 * S } }, 50_000],
      ["SLO", 60 * S, {}, null],
    ];
    for (const [, , parameters, grpcMs] of cases) {
      await new Promise<void>((resolve, reject) => {
        const request: ModelInferRequest = {
          model_name: "patient",
          parameters,
          inputs: [{ name: "x", datatype: "FP32", shape: [1, 4] }],
          raw_input_contents: [Buffer.alloc(16)],
        };
        const options = grpcMs === null ? {} : { deadline: Date.now() + grpcMs };
        live.raw.ModelInfer(request, new Metadata(), options, (error) => (error ? reject(error) : resolve()));
      });
    }
    await live.stop();
    const arrivals = readFileSync(decisions, "utf8")
      .split("\n")
      .filter((line) => line.includes('"ev":"arrive"') && line.includes('"patient/1"'))
      .map((line) => JSON.parse(line) as { t: number; deadline: number })
      .slice(-cases.length);
    for (const [index, [what, us]] of cases.entries()) {
      const { t, deadline } = arrivals[index]!;
      const left = deadline - t;
      assert.ok(left <= us && left > us - 5 * S, `${what}: ${left} µs left instead of ${us}`);
    }
  });
});
