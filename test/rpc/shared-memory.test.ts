import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { Arrivals } from "../../daemon/rpc/arrivals.ts";
import { ByteBudget } from "../../daemon/rpc/byte-budget.ts";
import { loadCodec } from "../../daemon/rpc/codec.ts";
import { modelPlan } from "../../daemon/rpc/decode/model-plan.ts";
import { answerMessage, type SharedOutputs } from "../../daemon/rpc/encode.ts";
import type { RpcError } from "../../daemon/rpc/errors.ts";
import { InferenceGateway, type Ticket } from "../../daemon/rpc/inference-gateway.ts";
import { isLoopback, Peer } from "../../daemon/rpc/peer.ts";
import { DEFAULT_RPC_SETTINGS } from "../../daemon/rpc/settings.ts";
import { SharedMemoryRegions } from "../../daemon/rpc/shared-memory.ts";
import type { GRPCInferenceServiceClient } from "../../proto/generated/inference/GRPCInferenceService.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import {
  answered,
  failed,
  failureOf,
  floats,
  type Harness,
  infer,
  protocol,
  startServer,
  vectorRequest,
} from "./harness.ts";
import { FakeCatalog } from "./models.ts";
import { PuppetInference, TIMINGS } from "./puppet-inference.ts";

const OBJECT = `slackline-test-${process.pid}`;
const FILE = path.join("/dev/shm", OBJECT);

const LOCAL = new Peer({ getPeer: () => "127.0.0.1:5000" });
const REMOTE = new Peer({ getPeer: () => "10.0.0.7:5000" });

function region(name: string, byteSize: number, offset = 0) {
  return {
    shared_memory_region: { string_param: name },
    shared_memory_byte_size: { int64_param: byteSize },
    ...(offset === 0 ? {} : { shared_memory_offset: { uint64_param: offset } }),
  };
}

/** `vector`, with input and output where the parameters say. */
function request(input: object | null, output: object | null): ModelInferRequest {
  return vectorRequest({
    inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], ...(input === null ? {} : { parameters: input as never }) }],
    ...(output === null ? {} : { outputs: [{ name: "out_x", parameters: output as never }] }),
    raw_input_contents: input === null ? [floats(1, 2, 3, 4)] : [],
  });
}

describe("system shared memory", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer({ inflightBytesMax: 100_000 });
  });
  after(async () => {
    await harness.stop();
    rmSync(FILE, { force: true });
  });
  beforeEach(async () => {
    harness.inference.immediate = true;
    for (const name of ["r", "large"]) await unregister(name);
    writeFileSync(FILE, Buffer.alloc(4096));
  });

  function register(name: string, byteSize = 16, offset = 0, key = `/${OBJECT}`): Promise<ServiceError | null> {
    return new Promise((resolve) => {
      harness.client.SystemSharedMemoryRegister({ name, key, offset, byte_size: byteSize }, (error) => resolve(error));
    });
  }

  function unregister(name: string): Promise<ServiceError | null> {
    return new Promise((resolve) => harness.client.SystemSharedMemoryUnregister({ name }, (error) => resolve(error)));
  }

  function listed(name = "", client = harness.client): Promise<string[]> {
    return new Promise((resolve, reject) =>
      client.SystemSharedMemoryStatus({ name }, (error, response) =>
        error === null ? resolve(Object.keys(response!.regions)) : reject(error),
      ),
    );
  }

  it("reads inputs from a region and writes outputs to it", async () => {
    assert.equal(await register("r", 1024, 256), null);
    const bytes = readFileSync(FILE);
    floats(5, 6, 7, 8).copy(bytes, 256 + 64);
    writeFileSync(FILE, bytes);
    const response = answered(await infer(harness.client, request(region("r", 16, 64), region("r", 32, 128))));
    assert.deepEqual(response.raw_output_contents, [Buffer.alloc(0)]);
    assert.equal(response.outputs[0]?.parameters.shared_memory_region?.string_param, "r");
    assert.equal(response.outputs[0]?.parameters.shared_memory_byte_size?.int64_param, "16");
    assert.deepEqual(readFileSync(FILE).subarray(256 + 128, 256 + 144), floats(5, 6, 7, 8));
    assert.equal(readFileSync(FILE).length, 4096);
  });

  it("reads inputs at once where the answer may be cached, so that it is kept under the bytes that were executed", async () => {
    await register("r");
    harness.inference.immediate = false;
    for (const model_name of ["vector", "kept"]) {
      writeFileSync(FILE, floats(1, 2, 3, 4));
      const result = infer(harness.client, { ...request(region("r", 16), null), model_name });
      await harness.inference.until(() => harness.inference.held.size === 1);
      writeFileSync(FILE, floats(5, 6, 7, 8));
      harness.inference.end(harness.inference.last().id);
      const executed = model_name === "kept" ? floats(1, 2, 3, 4) : floats(5, 6, 7, 8);
      assert.deepEqual(answered(await result).raw_output_contents, [executed], model_name);
    }
  });

  it("matches raw contents to the inputs that are not in a region", async () => {
    await register("r", 8);
    const inputs = [
      { name: "a", datatype: "FP32", shape: [1, 2], parameters: region("r", 8) },
      { name: "b", datatype: "INT64", shape: [1, 1] },
    ];
    const response = answered(
      await infer(harness.client, { model_name: "pair", inputs, raw_input_contents: [Buffer.alloc(8, 9)] }),
    );
    assert.deepEqual(response.raw_output_contents, [Buffer.alloc(8), Buffer.alloc(8, 9)]);
  });

  it("keeps the place of each output's contents where some are in a region", async () => {
    await register("r", 8);
    const inputs = [
      { name: "a", datatype: "FP32", shape: [1, 2] },
      { name: "b", datatype: "INT64", shape: [1, 1] },
    ];
    const outputs = [{ name: "out_a", parameters: region("r", 8) }, { name: "out_b" }];
    const raw_input_contents = [Buffer.alloc(8, 1), Buffer.alloc(8, 2)];
    const response = answered(await infer(harness.client, { model_name: "pair", inputs, outputs, raw_input_contents }));
    assert.deepEqual(response.raw_output_contents, [Buffer.alloc(0), Buffer.alloc(8, 2)]);
  });

  it("answers all outputs where those named are only places, for such as exist and fit", async () => {
    await register("r", 64);
    const inputs = [
      { name: "a", datatype: "FP32", shape: [1, 2] },
      { name: "b", datatype: "INT64", shape: [1, 1] },
    ];
    const answer = async (outputs: NonNullable<ModelInferRequest["outputs"]>) => {
      const parameters = { slackline_all_outputs: { bool_param: true } };
      const raw_input_contents = [Buffer.alloc(8, 1), Buffer.alloc(8, 2)];
      const request = { model_name: "pair", parameters, inputs, outputs, raw_input_contents };
      const { outputs: answered_, raw_output_contents } = answered(await infer(harness.client, request));
      assert.deepEqual(
        answered_.map(({ name }) => name),
        ["out_a", "out_b"],
      );
      return raw_output_contents;
    };
    const [a, b, none] = [Buffer.alloc(8, 1), Buffer.alloc(8, 2), Buffer.alloc(0)];
    assert.deepEqual(await answer([{ name: "out_a", parameters: region("r", 8) }]), [none, b], "one has a place");
    assert.deepEqual(await answer([{ name: "gone", parameters: region("r", 8) }]), [a, b], "there is no such output");
    assert.deepEqual(await answer([{ name: "out_b", parameters: region("r", 4) }]), [a, b], "it does not fit");
  });

  it("tells callers of this host from others", () => {
    assert.ok(isLoopback("127.0.0.1:5000") && isLoopback("[::1]:5000") && isLoopback("::1:5000"));
    assert.ok(isLoopback("::ffff:127.0.0.1:5000"));
    assert.ok(!isLoopback("10.0.0.7:5000") && !isLoopback("unknown") && !isLoopback("2001:db8::1:5000"));
  });

  it("lists its regions, and forgets them when they are unregistered", async () => {
    await register("r", 100, 10);
    const status = await new Promise<unknown>((resolve) =>
      harness.client.SystemSharedMemoryStatus({}, (_error, response) => resolve(response?.regions)),
    );
    assert.deepEqual(status, { r: { name: "r", key: `/${OBJECT}`, offset: "10", byte_size: "100" } });
    assert.equal(failureOf((await register("r", 100))!).code, "ALREADY_EXISTS");
    assert.equal(await unregister("r"), null);
    assert.equal(await unregister("r"), null);
    assert.equal(failed(await infer(harness.client, request(region("r", 16), null))).code, "NOT_FOUND");
    assert.equal(await register("r", 100), null);
  });

  it("checks sizes, with the region's name and the numbers", async () => {
    await register("r", 32);
    const sentence = async (input: object | null, output: object | null) =>
      failed(await infer(harness.client, request(input, output))).message;
    assert.equal(
      await sentence(region("r", 16, 20), null),
      "'x' asks for bytes 20 to 36 of shared memory region 'r', which has 32 bytes",
    );
    assert.equal(
      await sentence(region("r", 12), null),
      "input byte size mismatch for input 'x' for model 'vector'. Expected 16, got 12",
    );
    assert.equal(
      await sentence(null, region("r", 8)),
      "output 'out_x' has 16 bytes, but 8 bytes of shared memory region 'r' are meant for it",
    );
    assert.equal(
      await sentence({ shared_memory_region: { string_param: "r" } }, null),
      "shared_memory_byte_size of 'x' is missing",
    );
    const large = await register("large", 4096, 1);
    assert.equal(
      failureOf(large!).message,
      `shared memory region 'large' would reach from byte 1 to 4097 of '/${OBJECT}', which has 4096 bytes`,
    );
  });

  it("survives an object that is cut while it is registered", async () => {
    await register("r", 4096);
    truncateSync(FILE, 8);
    const failure = failed(await infer(harness.client, request(region("r", 16), null)));
    assert.equal(failure.code, "INVALID_ARGUMENT");
    assert.equal(failure.message, "shared memory region 'r' has become smaller: 8 of the 16 bytes of 'x' are there");
    assert.equal(harness.server.load().bytes, 0);
  });

  it("writes nothing to a region that was unregistered while the request was under way", async () => {
    await register("r", 64);
    harness.inference.immediate = false;
    const result = infer(harness.client, request(null, region("r", 16)));
    await harness.inference.until(() => harness.inference.held.size === 1);
    await unregister("r");
    harness.inference.end(harness.inference.last().id);
    assert.match(failed(await result).message, /was unregistered while the request was under way$/);
  });

  it("reads inputs when they are gathered: what changes until then is seen", async () => {
    await register("r", 1024);
    harness.inference.immediate = false;
    const result = infer(harness.client, request(region("r", 16), null));
    await harness.inference.until(() => harness.inference.held.size === 1);
    writeFileSync(FILE, Buffer.concat([floats(4, 3, 2, 1), Buffer.alloc(4080)]));
    harness.inference.end(harness.inference.last().id);
    assert.deepEqual(answered(await result).raw_output_contents, [floats(4, 3, 2, 1)]);
  });

  it("reads nothing from a region that was unregistered since, even where its name is registered again", async () => {
    await register("r", 1024);
    harness.inference.immediate = false;
    const result = infer(harness.client, request(region("r", 16), null));
    await harness.inference.until(() => harness.inference.held.size === 1);
    await unregister("r");
    await register("r", 1024);
    harness.inference.end(harness.inference.last().id);
    const failure = failed(await result);
    assert.deepEqual(
      [failure.code, failure.message, failure.trailers.get("slackline_cause")],
      ["NOT_FOUND", "shared memory region 'r' was unregistered while the request was under way", ["shared_memory"]],
    );
  });

  it("takes bools that are 0 or 1 when they are gathered, and only those", async () => {
    await register("r", 2);
    writeFileSync(FILE, Uint8Array.of(1, 0));
    const bools = {
      model_name: "t_BOOL",
      inputs: [{ name: "x", datatype: "BOOL", shape: [1, 2], parameters: region("r", 2) }],
    };
    assert.deepEqual(answered(await infer(harness.client, bools)).raw_output_contents, [Buffer.of(1, 0)]);
    writeFileSync(FILE, Uint8Array.of(1, 2));
    const failure = failed(await infer(harness.client, bools));
    assert.equal(failure.code, "INVALID_ARGUMENT");
    assert.equal(failure.message, "byte 2 of input 'x' for model 't_BOOL' is no BOOL: elements are 0 or 1");
  });

  it("does not list a region whose object was unlinked, and serves it", async () => {
    await register("r", 1024);
    rmSync(FILE);
    assert.deepEqual(await listed(), []);
    assert.equal(await unregister(""), null, "all means what is listed");
    assert.deepEqual(await listed("r"), ["r"]);
    assert.deepEqual(answered(await infer(harness.client, request(region("r", 16), null))).raw_output_contents, [
      Buffer.alloc(16),
    ]);
  });

  it("counts against the memory limit what it reads at once, and not what stays with the caller", async () => {
    writeFileSync(FILE, Buffer.alloc(200_000));
    await register("r", 200_000);
    const x = [{ name: "x", datatype: "FP32", shape: [2, 25_000], parameters: region("r", 200_000) }];
    harness.inference.immediate = false;
    const result = infer(harness.client, { model_name: "flat", inputs: x });
    await harness.inference.until(() => harness.inference.held.size === 1);
    assert.ok(harness.server.load().bytes < 1000);
    harness.inference.end(harness.inference.last().id);
    answered(await result);
    const text = [{ name: "text", datatype: "BYTES", shape: [1, 2], parameters: region("r", 200_000) }];
    const failure = failed(await infer(harness.client, { model_name: "words", inputs: text }));
    assert.equal(failure.code, "RESOURCE_EXHAUSTED");
    assert.deepEqual(failure.trailers.get("slackline_cause"), ["inflight_bytes"]);
    assert.equal(harness.server.load().bytes, 0);
  });

  it("writes outputs from the memory they lie in", () => {
    const plan = modelPlan(harness.catalog.models[0]!);
    const data = new Uint8Array(16);
    const written: Uint8Array[] = [];
    const shared: SharedOutputs = {
      write(_output, bytes) {
        written.push(bytes);
        return { shared_memory_region: { string_param: "r" } };
      },
    };
    const asked = { plan, id: "", fallbackCause: null, withTimings: false, shared };
    answerMessage(asked, [{ name: "out_x", datatype: "FP32", shape: [1, 4], data }], TIMINGS);
    assert.equal(written.length, 1);
    assert.equal(written[0], data);
  });

  it("takes no names longer than it says", async () => {
    const failure = failureOf((await register("n".repeat(256)))!);
    assert.equal(failure.code, "INVALID_ARGUMENT");
    assert.match(failure.message, /^a shared memory region's name may have 255 characters; 'n+…' has 256$/);
    assert.equal(await register("n".repeat(255)), null);
    assert.equal(await unregister("n".repeat(255)), null);
  });

  it("opens only objects of the shared-memory folder", async () => {
    for (const key of ["", "/", ".", "..", "/..", "../etc/passwd", "//etc/passwd", "/a/b", "a\0b"]) {
      assert.equal(failureOf((await register("r", 1, 0, key))!).code, "INVALID_ARGUMENT", `key ${JSON.stringify(key)}`);
    }
    assert.equal(failureOf((await register("r", 1, 0, "/slackline-no-such-object"))!).code, "NOT_FOUND");
    assert.equal(failureOf((await register("r", 0))!).code, "INVALID_ARGUMENT");
  });

  it("follows no links out of the folder", () => {
    const dir = mkdtempSync(path.join(tmpdir(), "slackline-shm-"));
    symlinkSync("/etc/hosts", path.join(dir, "link"));
    const regions = new SharedMemoryRegions({ dir });
    assert.throws(() => regions.register({ name: "r", key: "link", offset: 0, byteSize: 1 }, LOCAL), {
      code: "INVALID_ARGUMENT",
    });
    assert.throws(() => regions.register({ name: "r", key: ".", offset: 0, byteSize: 1 }, LOCAL), {
      code: "INVALID_ARGUMENT",
    });
    rmSync(dir, { recursive: true });
  });
});

describe("shared memory and callers of other hosts", () => {
  const external = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal)?.address;
  const skip = external === undefined && "this host has no address but the loopback's";

  /** A server with a region `r` of a local caller, and a client that is none. */
  async function serve(
    test: (harness: Harness, remote: GRPCInferenceServiceClient, object: () => Buffer) => Promise<void>,
  ): Promise<void> {
    const harness = await startServer({ host: "0.0.0.0" });
    const address = `${external}:${harness.address.split(":")[1]}`;
    const remote = new protocol.inference.GRPCInferenceService(address, credentials.createInsecure());
    try {
      writeFileSync(FILE, floats(5, 6, 7, 8));
      const region = { name: "r", key: OBJECT, offset: 0, byte_size: 16 };
      assert.equal(await call((done) => harness.client.SystemSharedMemoryRegister(region, done)), null);
      await test(harness, remote, () => readFileSync(FILE));
    } finally {
      remote.close();
      await harness.stop();
      rmSync(FILE);
    }
  }

  function call(start: (done: (error: ServiceError | null) => void) => void): Promise<ServiceError | null> {
    return new Promise((resolve) => start(resolve));
  }

  const REFUSAL =
    "shared memory is for callers on the daemon's own host only, over its loopback address; send tensors in the message";

  it("gives them none: neither its names nor what is in it", { skip }, () =>
    serve(async ({ client }, remote, object) => {
      const names = (of: GRPCInferenceServiceClient) =>
        new Promise<string[]>((resolve, reject) =>
          of.SystemSharedMemoryStatus({}, (error, response) =>
            error === null ? resolve(Object.keys(response!.regions)) : reject(error),
          ),
        );
      assert.deepEqual(await names(remote), []);
      assert.equal(await call((done) => remote.SystemSharedMemoryUnregister({}, done)), null);
      for (const refused of [
        await call((done) => remote.SystemSharedMemoryUnregister({ name: "r" }, done)),
        await call((done) => remote.SystemSharedMemoryStatus({ name: "r" }, done)),
        await call((done) => remote.SystemSharedMemoryRegister({ name: "s", key: OBJECT, byte_size: 16 }, done)),
      ]) {
        assert.deepEqual([failureOf(refused!).code, failureOf(refused!).message], ["FAILED_PRECONDITION", REFUSAL]);
      }
      assert.deepEqual(await names(client), ["r"]);
      for (const named of [request(region("r", 16), null), request(null, region("r", 16))]) {
        const failure = failed(await infer(remote, named));
        assert.deepEqual([failure.code, failure.message], ["FAILED_PRECONDITION", REFUSAL]);
      }
      assert.deepEqual(object(), floats(5, 6, 7, 8));
      answered(await infer(remote, request(null, null)));
      answered(await infer(client, request(region("r", 16), region("r", 16))));
    }),
  );

  it("gives them none over streams", { skip }, () =>
    serve(async (_harness, remote, object) => {
      const stream = remote.ModelStreamInfer();
      const answers: unknown[] = [];
      const ended = new Promise((resolve) => stream.on("end", resolve));
      stream.on("data", ({ error_message }) => answers.push(error_message));
      stream.write(request(region("r", 16), null));
      stream.write(request(null, region("r", 16)));
      stream.write(request(null, null));
      stream.end();
      await ended;
      assert.deepEqual(answers, [REFUSAL, REFUSAL, ""]);
      assert.deepEqual(object(), floats(5, 6, 7, 8));
    }),
  );

  it("lets nobody of them in, unless told otherwise", () => {
    writeFileSync(FILE, Buffer.alloc(16));
    const status = { name: "r", key: OBJECT, offset: 0, byteSize: 16 };
    const refusal = { code: "FAILED_PRECONDITION", cause: "shared_memory", message: REFUSAL };
    const closed = new SharedMemoryRegions();
    const open = new SharedMemoryRegions({ peers: "any" });
    try {
      closed.register(status, LOCAL);
      assert.throws(() => closed.register({ ...status, name: "s" }, REMOTE), refusal);
      assert.throws(() => closed.take("r", REMOTE), refusal);
      assert.throws(() => closed.status("r", REMOTE), refusal);
      assert.throws(() => closed.unregister("r", REMOTE), refusal);
      assert.deepEqual(closed.status("", REMOTE), []);
      closed.unregister("", REMOTE);
      assert.deepEqual(
        closed.status("", LOCAL).map(({ name }) => name),
        ["r"],
      );
      open.register(status, REMOTE);
      assert.equal(open.take("r", REMOTE).name, "r");
    } finally {
      closed.close();
      open.close();
      rmSync(FILE);
    }
  });

  it("is not offered to anybody where it is switched off", async () => {
    const { client, stop } = await startServer({ sharedMemoryPeers: "none" });
    try {
      const extensions = await new Promise<string[]>((resolve) =>
        client.ServerMetadata({}, (_error, response) => resolve(response!.extensions)),
      );
      assert.deepEqual(
        extensions.filter((name) => name.includes("shared_memory")),
        [],
      );
      assert.equal(await call((done) => client.SystemSharedMemoryUnregister({}, done)), null);
      const failure = failed(await infer(client, request(region("r", 16), null)));
      assert.equal(failure.code, "FAILED_PRECONDITION");
      assert.equal(
        failure.message,
        "shared memory is switched off by the setting shared_memory_peers; send tensors in the message",
      );
    } finally {
      await stop();
    }
  });

  it("looks at a call's peer once, however many requests it has", () => {
    let looks = 0;
    const peer = new Peer({
      getPeer() {
        looks++;
        return "127.0.0.1:5000";
      },
    });
    const { submit, regions } = gateway(() => 0, peer);
    submit(request(null, null));
    writeFileSync(FILE, Buffer.alloc(16));
    try {
      regions.register({ name: "r", key: OBJECT, offset: 0, byteSize: 16 }, LOCAL);
      submit(request(region("r", 16), region("r", 16)));
      submit(request(region("r", 16), null));
      assert.equal(looks, 1);
    } finally {
      regions.close();
      rmSync(FILE);
    }
  });
});

/** The way of requests without sockets, on a clock of its own. */
function gateway(nowMs: () => number, peer: Peer = LOCAL) {
  const regions = new SharedMemoryRegions({ nowMs });
  const inference = new PuppetInference();
  const quiet = () => {};
  const subject = new InferenceGateway({
    inference,
    catalog: new FakeCatalog(),
    codec: loadCodec(),
    budget: new ByteBudget(DEFAULT_RPC_SETTINGS.inflightBytesMax),
    regions,
    arrivals: new Arrivals(
      () => inference.nowUs(),
      () => 0,
    ),
    settings: DEFAULT_RPC_SETTINGS,
    logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    observer: null,
  });
  const answers: string[] = [];
  const encode = protocol.inference.GRPCInferenceService.service.ModelInfer.requestSerialize;
  const submit = (message: ModelInferRequest): Ticket | null =>
    subject.submit(
      encode(message),
      { deadline: { atUs: null, stream: true }, tenant: "", peer },
      {
        answered: () => answers.push("answered"),
        refused: (error: RpcError) => answers.push(error.message),
        cancels: null,
      },
    );
  return { regions, inference, submit, answers };
}

describe("regions that nobody uses", () => {
  const HOUR_MS = 3_600_000;
  let nowMs = 0;
  let subject: ReturnType<typeof gateway>;
  beforeEach(() => {
    nowMs = 0;
    subject = gateway(() => nowMs);
    writeFileSync(FILE, Buffer.alloc(64));
    subject.regions.register({ name: "r", key: OBJECT, offset: 0, byteSize: 64 }, LOCAL);
  });
  afterEach(() => {
    subject.regions.close();
    rmSync(FILE, { force: true });
  });

  /** Whether the region is still there after a sweep at this time. */
  function sweptAt(ms: number): boolean {
    nowMs = ms;
    subject.regions.dropUnused();
    try {
      subject.regions.status("r", LOCAL);
      return false;
    } catch (error) {
      assert.equal((error as RpcError).code, "NOT_FOUND");
      return true;
    }
  }

  it("are let go of once their object is unlinked, and not before", () => {
    assert.equal(sweptAt(HOUR_MS), false, "its owner may come back to a named object");
    rmSync(FILE);
    assert.equal(sweptAt(HOUR_MS), true);
  });

  it("are let go of some time after their last use", () => {
    rmSync(FILE);
    nowMs = 4 * 60_000;
    subject.submit(request(region("r", 16), null));
    assert.equal(sweptAt(8 * 60_000), false);
    assert.equal(sweptAt(9 * 60_000), true);
    subject.submit(request(region("r", 16), null));
    assert.deepEqual(subject.answers, ["answered", "shared memory region 'r' is not registered"]);
  });

  for (const [how, end] of [
    ["answered", (id) => subject.inference.end(id)],
    ["shed", (id) => subject.inference.end(id, { type: "shed", cause: "expired", detail: {} })],
    ["failed", (id) => subject.inference.end(id, { type: "failed", message: "broke" })],
    ["lost", (id) => subject.inference.end(id, { type: "lost", reason: "the lane died" })],
    ["cancelled", (_id, ticket) => ticket.cancel()],
  ] satisfies [string, (id: number, ticket: Ticket) => void][]) {
    it(`stay while a request needs them, however long it waits, until it is ${how}`, () => {
      rmSync(FILE);
      subject.inference.immediate = false;
      const tickets = [
        subject.submit(request(region("r", 16), region("r", 16, 16))),
        subject.submit(request(null, region("r", 16, 32))),
      ];
      const [first, second] = subject.inference.received;
      assert.equal(sweptAt(HOUR_MS), false);
      end(first!.id, tickets[0]!);
      assert.equal(sweptAt(2 * HOUR_MS), false, "the other request needs it");
      end(second!.id, tickets[1]!);
      assert.equal(sweptAt(2 * HOUR_MS), false, "it was in use just now");
      assert.equal(sweptAt(3 * HOUR_MS), true);
    });
  }

  it("answers a request that waited for an hour from them", () => {
    rmSync(FILE);
    subject.inference.immediate = false;
    subject.submit(request(region("r", 16), region("r", 16, 16)));
    sweptAt(HOUR_MS);
    subject.inference.end(subject.inference.last().id);
    assert.deepEqual(subject.answers, ["answered"]);
  });

  it("are not held by requests that were refused", () => {
    rmSync(FILE);
    subject.submit(request(region("r", 12), null));
    subject.submit(request(region("r", 16, 56), null));
    subject.submit(request(region("r", 16), { shared_memory_region: { string_param: "r" } }));
    assert.equal(subject.answers.length, 3);
    assert.equal(subject.inference.received.length, 0);
    assert.equal(sweptAt(HOUR_MS), true);
  });
});

describe("the number of regions", () => {
  before(() => writeFileSync(FILE, Buffer.alloc(16)));
  after(() => rmSync(FILE));

  it("has a limit that says what to do", () => {
    const regions = new SharedMemoryRegions({ regionsMax: 2 });
    const register = (name: string) => regions.register({ name, key: OBJECT, offset: 0, byteSize: 16 }, LOCAL);
    try {
      register("a");
      register("b");
      assert.throws(() => register("c"), {
        code: "RESOURCE_EXHAUSTED",
        message:
          "shared memory region 'c' would be one too many: 2 may be registered at once, and are; unregister those that are no longer used, or send tensors in the message",
      });
      regions.unregister("a", LOCAL);
      register("c");
    } finally {
      regions.close();
    }
  });

  /** How many regions a process with so many files has room for, and the code with which it refuses one more. */
  function registered(openFiles: number, options: object): { readonly count: number; readonly code: string } {
    const script = `
      import { SharedMemoryRegions } from ${JSON.stringify(new URL("../../daemon/rpc/shared-memory.js", import.meta.url))};
      import { Peer } from ${JSON.stringify(new URL("../../daemon/rpc/peer.js", import.meta.url))};
      const regions = new SharedMemoryRegions(${JSON.stringify(options)});
      const peer = new Peer({ getPeer: () => "127.0.0.1:5000" });
      for (let count = 0; ; count++) {
        try {
          regions.register({ name: "r" + count, key: ${JSON.stringify(OBJECT)}, offset: 0, byteSize: 16 }, peer);
        } catch ({ code }) {
          console.log(JSON.stringify({ count, code }));
          break;
        }
      }`;
    const command = `ulimit -n ${openFiles} && exec "$0" --input-type=module --eval "$1"`;
    const { stdout, stderr } = spawnSync("sh", ["-c", command, process.execPath, script], { encoding: "utf8" });
    assert.equal(stderr, "");
    return JSON.parse(stdout);
  }

  it("leaves most of the files that the process may have open to connections", {
    skip: process.platform !== "linux",
  }, () => {
    assert.deepEqual(registered(400, {}), { count: 100, code: "RESOURCE_EXHAUSTED" });
  });

  it("is what the system allows where that is less", { skip: process.platform !== "linux" }, () => {
    const { count, code } = registered(400, { regionsMax: 400 });
    assert.ok(count > 300 && count < 400);
    assert.equal(code, "RESOURCE_EXHAUSTED");
  });
});
