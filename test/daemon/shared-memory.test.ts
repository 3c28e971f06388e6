/** Tensors in a caller's own shared memory, through the whole daemon: on the device lane and on CPU replicas. */
import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { ServiceError } from "@grpc/grpc-js";
import type { Datatype } from "../../daemon/engine/tensors.ts";
import { joinStrings } from "../../daemon/engine/tensors.ts";
import { failsAtRun, identity, stringIdentity } from "../../models/onnx/tiny.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import { answered, failed, floats, infer } from "../rpc/harness.ts";
import { boulderFiles, roll } from "../support/boulder.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder, until, writeModelFiles } from "../support/live-daemon.ts";

const OBJECT = `slackline-live-test-${process.pid}`;
const FILE = `/dev/shm/${OBJECT}`;
const BYTES = 65_536;
/** Where outputs go. */
const OUTPUTS = 32_768;

/** One row of two elements. */
const ROWS: Readonly<Record<Datatype, Uint8Array>> = {
  BOOL: Buffer.of(1, 0),
  UINT8: Buffer.of(0, 255),
  UINT16: bytesOf(Uint16Array.of(1, 65_535)),
  UINT32: bytesOf(Uint32Array.of(1, 4_294_967_295)),
  UINT64: bytesOf(BigUint64Array.of(1n, 18_446_744_073_709_551_615n)),
  INT8: bytesOf(Int8Array.of(-128, 127)),
  INT16: bytesOf(Int16Array.of(-32_768, 32_767)),
  INT32: bytesOf(Int32Array.of(-2_147_483_648, 5)),
  INT64: bytesOf(BigInt64Array.of(-9_223_372_036_854_775_808n, -1n)),
  FP16: bytesOf(Uint16Array.of(0x3c00, 0xfbff)),
  FP32: floats(-1.5, 3.25),
  FP64: bytesOf(Float64Array.of(-Math.PI, 1e300)),
  BYTES: joinStrings([Buffer.from("gr\u00fc\u00dfe")]),
};

function bytesOf(array: NodeJS.TypedArray): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

function place(byteSize: number, offset: number, name = "r") {
  return {
    shared_memory_region: { string_param: name },
    shared_memory_byte_size: { int64_param: byteSize },
    shared_memory_offset: { int64_param: offset },
  };
}

describe("tensors in shared memory", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;
  let fd: number;

  before(async () => {
    const config = "max_batch_size: 4\nbuckets: [1, 4]\nslo_ms: 60000\nthreads: 1\n";
    const onReplicas = `${config}device: cpu\nreplicas: 1\n`;
    for (const datatype of Object.keys(ROWS) as Datatype[]) {
      const model = datatype === "BYTES" ? stringIdentity() : identity(datatype, 2);
      writeModelFiles(repository.dir, `lane_${datatype}`, { "1/model.onnx": model, "config.yaml": config });
      writeModelFiles(repository.dir, `replica_${datatype}`, { "1/model.onnx": model, "config.yaml": onReplicas });
    }
    writeModelFiles(repository.dir, "lane_index", { "1/model.onnx": failsAtRun(), "config.yaml": config });
    writeModelFiles(repository.dir, "replica_index", { "1/model.onnx": failsAtRun(), "config.yaml": onReplicas });
    writeModelFiles(repository.dir, "boulder", boulderFiles());
    live = await startLiveDaemon(repository.dir, ["--pool-cores", "1"]);
    fd = openSync(FILE, "wx+", 0o600);
    ftruncateSync(fd, BYTES);
  });
  after(async () => {
    await live?.stop();
    closeSync(fd);
    rmSync(FILE, { force: true });
    repository.remove();
  });

  async function register(name = "r"): Promise<void> {
    const error = await new Promise<ServiceError | null>((resolve) =>
      live.raw.SystemSharedMemoryRegister({ name, key: OBJECT, offset: 0, byte_size: BYTES }, resolve),
    );
    assert.equal(error, null);
  }

  async function unregister(name = "r"): Promise<void> {
    const error = await new Promise<ServiceError | null>((resolve) =>
      live.raw.SystemSharedMemoryUnregister({ name }, resolve),
    );
    assert.equal(error, null);
  }

  for (const where of ["lane", "replica"]) {
    for (const [datatype, row] of Object.entries(ROWS)) {
      test(`${datatype} passes bit by bit, ${where}`, async () => {
        await register();
        try {
          const rows = Buffer.concat([row, row, row]);
          writeSync(fd, rows, 0, rows.length, 64);
          writeSync(fd, Buffer.alloc(256), 0, 256, OUTPUTS);
          const strings = datatype === "BYTES";
          const input = {
            name: strings ? "text" : "x",
            datatype,
            shape: [3, strings ? 1 : 2],
            parameters: place(rows.length, 64),
          };
          const output = { name: strings ? "same" : "y", parameters: place(rows.length, OUTPUTS) };
          const response = answered(
            await infer(live.raw, { model_name: `${where}_${datatype}`, inputs: [input], outputs: [output] }),
          );
          assert.deepEqual(response.raw_output_contents, [Buffer.alloc(0)]);
          const got = Buffer.alloc(rows.length);
          readSync(fd, got, 0, got.length, OUTPUTS);
          assert.deepEqual(got, rows);
        } finally {
          await unregister();
        }
      });
    }
  }

  function indexRequest(model: string, index: number, shared: object | null): ModelInferRequest {
    const input = { name: "index", datatype: "INT64", shape: [1, 1] };
    const request: ModelInferRequest = {
      model_name: model,
      inputs: [shared === null ? input : { ...input, parameters: shared as never }],
    };
    return shared === null ? { ...request, raw_input_contents: [bytesOf(BigInt64Array.of(BigInt(index)))] } : request;
  }

  test("a region that is unregistered or cut while requests wait fails these alone, and not their batch", async () => {
    await register();
    await register("other");
    try {
      writeSync(fd, bytesOf(BigInt64Array.of(1n)), 0, 8, 0);
      const boulder = await roll(live);
      const before = (await live.modelStatus("lane_index")).counts;
      const asked = [
        infer(live.raw, indexRequest("lane_index", 0, place(8, 0, "other"))),
        infer(live.raw, indexRequest("lane_index", 0, place(8, 0))),
        infer(live.raw, indexRequest("lane_index", 3, null)),
        infer(live.raw, indexRequest("lane_index", 0, place(8, 4096))),
      ];
      await until("all wait", async () => (await live.modelStatus("lane_index")).queued_items === 4);
      await unregister("other");
      ftruncateSync(fd, 4100);
      assert.equal(boulder.ended(), false);
      const [gone, kept, inline, cut] = await Promise.all(asked);
      assert.deepEqual(
        [failed(gone!).code, failed(gone!).message],
        ["NOT_FOUND", "shared memory region 'other' was unregistered while the request was under way"],
      );
      assert.deepEqual(
        [failed(cut!).code, failed(cut!).message],
        ["INVALID_ARGUMENT", "shared memory region 'r' has become smaller: 4 of the 8 bytes of 'index' are there"],
      );
      assert.deepEqual(answered(kept!).raw_output_contents, [floats(10)]);
      assert.deepEqual(answered(inline!).raw_output_contents, [floats(30)]);
      const { counts } = await live.modelStatus("lane_index");
      assert.deepEqual(
        [counts.on_time - before.on_time, counts.failed - before.failed, counts.executions - before.executions],
        [2, 2, 1],
        "one batch served those that could be read",
      );
    } finally {
      ftruncateSync(fd, BYTES);
      await unregister();
    }
  });

  test("a replica fails a request that can't be read, and serves the others", async () => {
    await register();
    await register("other");
    try {
      ftruncateSync(fd, 4096);
      const cut = await infer(live.raw, indexRequest("replica_index", 0, place(8, 8192)));
      assert.equal(
        failed(cut).message,
        "shared memory region 'r' has become smaller: 0 of the 8 bytes of 'index' are there",
      );
      const asked = [2, null, 3].map((index) =>
        infer(live.raw, indexRequest("replica_index", index ?? 0, index === null ? place(8, 8192) : null)),
      );
      const [first, bad, last] = await Promise.all(asked);
      assert.deepEqual(answered(first!).raw_output_contents, [floats(20)]);
      assert.equal(failed(bad!).code, "INVALID_ARGUMENT");
      assert.deepEqual(answered(last!).raw_output_contents, [floats(30)]);
    } finally {
      ftruncateSync(fd, BYTES);
      await unregister();
      await unregister("other");
    }
  });
});
