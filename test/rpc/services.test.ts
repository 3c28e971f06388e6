import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, before, beforeEach, describe, it } from "node:test";
import { Client, credentials, loadPackageDefinition, type ServiceError, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { service as healthService, protoPath } from "grpc-health-check";
import { type Failure, failed, failureOf, type Harness, infer, startServer, vectorRequest } from "./harness.ts";

type Callback<Response> = (error: ServiceError | null, response?: Response) => void;

/** One unary call as a promise. */
function ask<Response>(start: (callback: Callback<Response>) => unknown): Promise<Response> {
  return new Promise((resolve, reject) => {
    start((error, response) => (error === null ? resolve(response as Response) : reject(error)));
  });
}

async function failing(start: (callback: Callback<unknown>) => unknown): Promise<Failure> {
  try {
    await ask(start);
  } catch (error) {
    return failureOf(error as ServiceError);
  }
  throw new Error("the call succeeded");
}

describe("state, metadata and configuration", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer();
  });
  after(() => harness.stop());
  beforeEach(() => {
    harness.catalog.action = { ok: true };
    harness.catalog.actions.length = 0;
  });

  it("is live, and ready when the repository is", async () => {
    const { client, catalog } = harness;
    assert.equal((await ask<{ live: boolean }>((done) => client.ServerLive({}, done))).live, true);
    assert.equal((await ask<{ ready: boolean }>((done) => client.ServerReady({}, done))).ready, true);
    catalog.isReady = false;
    assert.equal((await ask<{ ready: boolean }>((done) => client.ServerReady({}, done))).ready, false);
    catalog.isReady = true;
  });

  it("says of each model whether it is ready, which an unknown one is not", async () => {
    const { client } = harness;
    const ready = (name: string) => ask<{ ready: boolean }>((done) => client.ModelReady({ name }, done));
    assert.equal((await ready("vector")).ready, true);
    assert.equal((await ready("loading")).ready, false);
    assert.equal((await ready("nope")).ready, false);
  });

  it("lists its name, version and extensions", async () => {
    const metadata = await ask<{ name: string; version: string; extensions: string[] }>((done) =>
      harness.client.ServerMetadata({}, done),
    );
    assert.equal(metadata.name, "slackline");
    assert.equal(metadata.version, "1.2.3");
    assert.ok(metadata.extensions.includes("statistics"));
  });

  it("describes a model with its batch dimension in metadata and without it in the configuration", async () => {
    const { client } = harness;
    const metadata = await ask((done) => client.ModelMetadata({ name: "vector" }, done));
    assert.deepEqual(metadata, {
      name: "vector",
      versions: ["1", "2"],
      platform: "onnxruntime_onnx",
      inputs: [{ name: "x", datatype: "FP32", shape: ["-1", "4"] }],
      outputs: [{ name: "out_x", datatype: "FP32", shape: ["-1", "4"] }],
    });
    const { config } = await ask<{ config: Record<string, unknown> }>((done) =>
      client.ModelConfig({ name: "words" }, done as never),
    );
    assert.equal(config.max_batch_size, 8);
    assert.deepEqual(config.input, [
      { name: "text", data_type: "TYPE_STRING", dims: ["2"], is_shape_tensor: false, optional: false },
    ]);
    assert.equal(config.scheduling_choice, "dynamic_batching");
    assert.equal(config.sequence_batching, undefined);
    assert.equal(config.response_cache, null);
    assert.deepEqual(config.parameters, { slackline_version: { string_value: "1" } });
    const kept = await ask<{ config: Record<string, unknown> }>((done) =>
      client.ModelConfig({ name: "kept" }, done as never),
    );
    assert.deepEqual(kept.config.response_cache, { enable: true });
    const flat = await ask<{ config: Record<string, unknown> }>((done) =>
      client.ModelConfig({ name: "flat" }, done as never),
    );
    assert.equal(flat.config.max_batch_size, 0);
    assert.equal(flat.config.scheduling_choice, undefined);
  });

  it("describes a model that is still loading, and says why a broken one can't be", async () => {
    const { client } = harness;
    const metadata = await ask<{ name: string }>((done) => client.ModelMetadata({ name: "loading" }, done));
    assert.equal(metadata.name, "loading");
    const failure = await failing((done) => client.ModelConfig({ name: "broken" }, done));
    assert.deepEqual(
      [failure.code, failure.message],
      ["UNAVAILABLE", "model 'broken' is not ready: its file can't be read"],
    );
  });

  it("reports statistics in nanoseconds, by model and version", async () => {
    const time = (count: number, us: number) => ({ count, us });
    harness.statistics.set("vector/2", {
      lastInferenceMs: 1_700_000_000_000,
      items: 12,
      executions: 5,
      success: time(10, 5_000.5),
      fail: time(1, 3),
      queue: time(10, 2_000),
      computeInput: time(10, 100),
      computeInfer: time(10, 2_500),
      computeOutput: time(10, 50),
      cacheHit: time(4, 20),
      cacheMiss: time(6, 90.5),
      batches: [{ size: 4, computeInput: time(2, 20), computeInfer: time(2, 800), computeOutput: time(2, 9) }],
    });
    interface Statistics {
      model_stats: {
        name: string;
        version: string;
        inference_count: string;
        execution_count: string;
        inference_stats: Record<string, { count: string; ns: string }>;
        batch_stats: { batch_size: string; compute_infer: { count: string; ns: string } }[];
      }[];
    }
    const statistics = (request: object) =>
      ask<Statistics>((done) => harness.client.ModelStatistics(request, done as never));
    const { model_stats } = await statistics({ name: "vector" });
    assert.deepEqual(
      model_stats.map(({ name, version }) => `${name}/${version}`),
      ["vector/1", "vector/2"],
    );
    const [unused, used] = model_stats;
    assert.equal(unused?.inference_count, "0");
    assert.equal(used?.inference_count, "12");
    assert.equal(used?.execution_count, "5");
    assert.deepEqual(used?.inference_stats.success, { count: "10", ns: "5000500" });
    assert.deepEqual(used?.inference_stats.cache_hit, { count: "4", ns: "20000" });
    assert.deepEqual(used?.inference_stats.cache_miss, { count: "6", ns: "90500" });
    assert.equal(used?.batch_stats[0]?.batch_size, "4");
    assert.deepEqual(used?.batch_stats[0]?.compute_infer, { count: "2", ns: "800000" });
    assert.ok((await statistics({})).model_stats.length > 10);
    assert.equal((await statistics({ name: "vector", version: "1" })).model_stats.length, 1);
    const failure = await failing((done) => harness.client.ModelStatistics({ name: "vector", version: "9" }, done));
    assert.equal(failure.code, "NOT_FOUND");
  });

  it("lists the repository, with state and reason", async () => {
    interface Index {
      models: { name: string; state: string; reason: string }[];
    }
    const all = await ask<Index>((done) => harness.client.RepositoryIndex({}, done as never));
    const broken = all.models.find(({ name }) => name === "broken");
    assert.deepEqual([broken?.state, broken?.reason], ["UNAVAILABLE", "its file can't be read"]);
    const ready = await ask<Index>((done) => harness.client.RepositoryIndex({ ready: true }, done as never));
    assert.ok(ready.models.every(({ state }) => state === "READY"));
  });

  it("passes load and unload on, with their parameters, and reports how they went", async () => {
    const { client, catalog } = harness;
    const parameters = { config: { string_param: "{}" }, n: { int64_param: 3 }, b: { bool_param: true } };
    await ask((done) => client.RepositoryModelLoad({ model_name: "vector", parameters }, done));
    await ask((done) => client.RepositoryModelUnload({ model_name: "vector" }, done));
    assert.deepEqual(catalog.actions, ['load vector [["config","{}"],["n",3],["b",true]]', "unload vector []"]);

    catalog.action = { ok: false, kind: "unknown", reason: "" };
    const unknown = await failing((done) => client.RepositoryModelLoad({ model_name: "x" }, done));
    assert.deepEqual([unknown.code, unknown.message], ["NOT_FOUND", "Request for unknown model: 'x' is not found"]);
    catalog.action = { ok: false, kind: "refused", reason: "model control is none" };
    const refused = await failing((done) => client.RepositoryModelUnload({ model_name: "x" }, done));
    assert.deepEqual([refused.code, refused.message], ["FAILED_PRECONDITION", "model control is none"]);
  });

  it("says plainly what is not offered", async () => {
    const { client } = harness;
    const calls: ((done: Callback<unknown>) => unknown)[] = [
      (done) => client.TraceSetting({}, done),
      (done) => client.LogSettings({}, done),
      (done) => client.CudaSharedMemoryRegister({ name: "r" }, done),
      (done) => client.CudaSharedMemoryUnregister({ name: "r" }, done),
    ];
    for (const call of calls) {
      const failure = await failing(call);
      assert.equal(failure.code, "UNIMPLEMENTED");
      assert.match(failure.message, /offered|can't be changed/);
    }
    await ask((done) => client.CudaSharedMemoryUnregister({}, done));
    await ask((done) => client.CudaSharedMemoryStatus({}, done));
    await ask((done) => client.SystemSharedMemoryUnregister({}, done));
  });
});

describe("health and reflection", () => {
  let harness: Harness;
  let health: Client;
  before(async () => {
    harness = await startServer();
    health = new Client(harness.address, credentials.createInsecure());
  });
  after(async () => {
    health.close();
    await harness.stop();
  });

  function check(service: string): Promise<string> {
    const { path, requestSerialize, responseDeserialize } = healthService.Check!;
    return ask<{ status: string }>((done) =>
      health.makeUnaryRequest(path, requestSerialize, responseDeserialize, { service }, done as never),
    ).then((response) => response.status);
  }

  it("checks the daemon and each model by name", async () => {
    assert.equal(await check(""), "NOT_SERVING");
    await assert.rejects(check("vector"), { code: status.NOT_FOUND });
    harness.server.setServing("daemon", true);
    harness.server.setServing({ model: "vector" }, true);
    assert.equal(await check(""), "SERVING");
    assert.equal(await check("inference.GRPCInferenceService"), "SERVING");
    assert.equal(await check("vector"), "SERVING");
    harness.server.setServing({ model: "vector" }, false);
    assert.equal(await check("vector"), "NOT_SERVING");
  });

  it("lets a model be watched", async () => {
    const { path, requestSerialize, responseDeserialize } = healthService.Watch!;
    const call = health.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { service: "ranker/2" });
    call.on("error", () => {});
    const updates = call[Symbol.asyncIterator]() as AsyncIterator<{ status: string }>;
    assert.equal((await updates.next()).value.status, "SERVICE_UNKNOWN");
    harness.server.setServing({ model: "ranker/2" }, true);
    assert.equal((await updates.next()).value.status, "SERVING");
    harness.server.setServing({ model: "ranker/2" }, false);
    assert.equal((await updates.next()).value.status, "NOT_SERVING");
    call.cancel();
  });

  it("describes its services to clients that know none of them", async () => {
    const root = loadSync(reflectionProto(), { keepCase: true });
    // biome-ignore lint/suspicious/noExplicitAny: a client made from a definition read at run time has no types.
    const { ServerReflection } = (loadPackageDefinition(root) as any).grpc.reflection.v1;
    const client = new ServerReflection(harness.address, credentials.createInsecure());
    const call = client.ServerReflectionInfo();
    const responses = call[Symbol.asyncIterator]();
    call.write({ list_services: "" });
    const listed = (await responses.next()).value.list_services_response.service.map(
      (entry: { name: string }) => entry.name,
    );
    assert.ok(listed.includes("inference.GRPCInferenceService"));
    assert.ok(listed.includes("grpc.health.v1.Health"));
    call.write({ file_containing_symbol: "inference.ModelInferRequest" });
    const file = (await responses.next()).value.file_descriptor_response;
    assert.ok(file.file_descriptor_proto.length > 0);
    call.end();
    await responses.next();
    client.close();
  });

  /** The reflection package ships its definition beside its code. */
  function reflectionProto(): string {
    return new URL("../proto/grpc/reflection/v1/reflection.proto", import.meta.resolve("@grpc/reflection")).pathname;
  }

  it("finds the health definition where the package says it is", () => {
    assert.match(protoPath, /health\.proto$/);
  });
});

describe("starting and stopping", () => {
  it("says that its port is in use", async () => {
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
    const { port } = blocker.address() as { port: number };
    await assert.rejects(startServer({ port }), {
      message: `gRPC port ${port} on 127.0.0.1 is in use: stop what listens there, or choose another port (0 picks a free one)`,
    });
    await new Promise((resolve) => blocker.close(resolve));
  });

  it("says that an address is not this host's", async () => {
    await assert.rejects(startServer({ host: "192.0.2.1" }), {
      message: "the gRPC address 192.0.2.1 does not belong to this host",
    });
  });

  it("answers what it has accepted before it stops, and refuses the rest", async () => {
    const harness = await startServer();
    harness.server.setServing("daemon", true);
    harness.inference.immediate = false;
    const accepted = infer(harness.client, vectorRequest());
    await harness.inference.until(() => harness.inference.held.size === 1);
    const drained = harness.server.drain();
    const refused = failed(await infer(harness.client, vectorRequest()));
    assert.deepEqual([refused.code, refused.trailers.get("slackline_cause")], ["UNAVAILABLE", ["draining"]]);
    const ready = await ask<{ ready: boolean }>((done) => harness.client.ServerReady({}, done));
    assert.equal(ready.ready, false);
    harness.inference.end(harness.inference.last().id);
    await drained;
    assert.ok("response" in (await accepted));
    await harness.stop();
  });
});
