/** Fallback with the daemon's own scheduler and engine, on a clock that is moved by hand: who answers, and what is counted. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { credentials } from "@grpc/grpc-js";
import { Engine } from "../../daemon/engine/engine.ts";
import { Metrics } from "../../daemon/metrics/metrics.ts";
import { createRpcServer } from "../../daemon/rpc/server.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import type { ModelInferResponse__Output } from "../../proto/generated/inference/ModelInferResponse.ts";
import { modelSpec } from "../support/engine-rig.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { PuppetDevice } from "../support/puppet-device.ts";
import { failed, infer, protocol, vectorRequest } from "./harness.ts";
import { FakeCatalog, SLO_US } from "./models.ts";

const QUIET = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

interface Rig {
  readonly clock: ManualClock;
  readonly device: PuppetDevice;
  readonly metrics: Metrics;
  ask(parameters?: NonNullable<ModelInferRequest["parameters"]>): ReturnType<typeof infer>;
  /** Resolves when the lane executes a batch of this model; time goes on by so much with each look. */
  executes(model: RegExp, stepUs?: number): Promise<void>;
}

/** The model `heavy`, whose fallback is `vector/1`, where batches take these times. */
async function withModels(us: { readonly heavy: number; readonly vector: number }, test: (rig: Rig) => Promise<void>) {
  const clock = new ManualClock();
  const device = new PuppetDevice();
  const metrics = new Metrics({ version: "1", nowUs: () => clock.nowUs(), processMetrics: false });
  const options = { fairness: false, bestEffortShareMin: 0.01, tenantWeights: {}, gatherUs: 0, handoverUs: 0 };
  const engine = new Engine({ clock, scheduler: createScheduler(options), observers: [metrics.tallies] });
  engine.addLane(device);
  for (const [name, took] of [
    ["heavy/1", us.heavy],
    ["vector/1", us.vector],
  ] as const) {
    engine.addModel(modelSpec(name, { sloUs: SLO_US }));
    engine.loaded("gpu0", name, { "": [{ bucket: 4, us: took }] });
  }
  const server = createRpcServer({
    inference: engine,
    idleUs: () => performance.nodeTiming.idleTime * 1000,
    catalog: new FakeCatalog(),
    statistics: metrics.statistics,
    settings: { port: 0 },
    logger: QUIET,
    observer: metrics.tallies,
  });
  const { port } = await server.start();
  const client = new protocol.inference.GRPCInferenceService(`127.0.0.1:${port}`, credentials.createInsecure());
  try {
    await test({
      clock,
      device,
      metrics,
      ask: (parameters = {}) => infer(client, vectorRequest({ model_name: "heavy", parameters })),
      async executes(model, stepUs = 0) {
        while (!model.test(device.running?.plan.model ?? "")) {
          await new Promise((resolve) => setImmediate(resolve));
          clock.advance(stepUs);
        }
      },
    });
  } finally {
    client.close();
    await server.stop(100);
  }
}

function modelOf(result: Awaited<ReturnType<typeof infer>>): string {
  return "response" in result ? (result.response as ModelInferResponse__Output).model_name : result.failure.code;
}

const DEADLINE = { deadline_ms: { int64_param: 100 } };

describe("fallback, counted", () => {
  for (const [what, parameters] of [
    ["a deadline", DEADLINE],
    ["none, but its model has an SLO", {}],
  ] as const) {
    it(`a request that states ${what} and would be late is one that the fallback answers in time`, async () => {
      await withModels({ heavy: 150_000, vector: 10_000 }, async ({ ask, executes, device, metrics, clock }) => {
        const answer = ask(parameters);
        await executes(/vector/);
        clock.advance(10_000);
        device.complete();
        assert.equal(modelOf(await answer), "vector");
        const heavy = metrics.statistics.modelCounts("heavy/1");
        assert.deepEqual([heavy.requests, heavy.shed, heavy.fallbacks], [1, { late: 1 }, 1]);
        const vector = metrics.statistics.modelCounts("vector/1");
        assert.deepEqual([vector.requests, vector.on_time], [1, 1]);
        assert.deepEqual(metrics.tallies.model("heavy/1").misses, {});
      });
    });
  }

  it("a model whose fallback came too late is given up while there is time for that", async () => {
    await withModels({ heavy: 90_000, vector: 20_000 }, async ({ ask, executes, device, clock }) => {
      // While the model executes one request, another is too late for both; the tenth of its time that it has to spare is kept then.
      for (let round = 0; round < 20; round++) {
        const answer = ask(DEADLINE);
        await executes(/./);
        const isStoodIn = device.running?.plan.model === "vector/1";
        if (!isStoodIn) assert.equal(modelOf(await ask(DEADLINE)), "DEADLINE_EXCEEDED");
        const executeUs = isStoodIn ? 20_000 : 90_000;
        clock.advance(executeUs);
        device.complete([], { executeUs });
        assert.equal(modelOf(await answer), isStoodIn ? "vector" : "heavy");
        if (isStoodIn) return;
      }
      assert.fail("the model is never given up in time");
    });
  });

  it("where the fallback would be late too, a deadline is missed once", async () => {
    await withModels({ heavy: 150_000, vector: 120_000 }, async ({ ask, metrics }) => {
      const { code, message } = failed(await ask(DEADLINE));
      assert.deepEqual([code, /model 'heavy'/.test(message)], ["DEADLINE_EXCEEDED", true]);
      const { requests, shed, fallbacks } = metrics.statistics.modelCounts("heavy/1");
      assert.deepEqual([requests, shed, fallbacks], [1, { late: 1 }, 0]);
      assert.deepEqual(metrics.tallies.model("heavy/1").misses, { late: 1 });
      assert.equal(metrics.statistics.statistics("heavy/1")?.fail.count, 1);
      assert.equal(metrics.tallies.refusals.size, 0);
    });
  });

  it("where the fallback would be late too and no deadline was stated, the model itself answers late", async () => {
    await withModels({ heavy: 150_000, vector: 120_000 }, async ({ ask, executes, device, metrics, clock }) => {
      const answer = ask();
      await executes(/heavy/, 10_000);
      clock.advance(150_000);
      device.complete();
      assert.equal(modelOf(await answer), "heavy");
      const { requests, shed, fallbacks, best_effort, late, on_time } = metrics.statistics.modelCounts("heavy/1");
      assert.deepEqual([requests, shed, fallbacks, late + on_time + best_effort], [1, {}, 0, 1]);
      const { success, fail } = metrics.statistics.statistics("heavy/1")!;
      assert.deepEqual([success.count, fail.count], [1, 0]);
    });
  });
});
