/** The SDK's shared memory against a live daemon: the same answers as without, whatever becomes of the regions. */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { type InferInputs, SlacklineClient, type Tensor, tensor } from "slackline-client";
import { Graph } from "../../models/onnx/graph.ts";
import { identity } from "../../models/onnx/tiny.ts";
import { writeModel } from "../../models/onnx/write-model.ts";
import { boulderFiles, roll } from "../support/boulder.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder, until, writeModelFiles } from "../support/live-daemon.ts";
import { openObjects } from "../support/open-objects.ts";

const WIDTH = 20_000;
const random = (bytes: number): Uint8Array => Uint8Array.from({ length: bytes }, (_, i) => (i * 167 + (i >> 8)) & 0xff);

/** Two rows of each datatype; floats are made of numbers, since a NaN's bits may change on their way through a runtime. */
const INPUTS: Readonly<Record<string, Tensor>> = {
  BOOL: tensor.bool(
    [2, WIDTH],
    random(2 * WIDTH).map((byte) => byte & 1),
  ),
  UINT8: tensor.uint8([2, WIDTH], random(2 * WIDTH)),
  UINT16: tensor.uint16([2, WIDTH], new Uint16Array(random(4 * WIDTH).buffer)),
  UINT32: tensor.uint32([2, WIDTH], new Uint32Array(random(8 * WIDTH).buffer)),
  UINT64: tensor.uint64([2, WIDTH], new BigUint64Array(random(16 * WIDTH).buffer)),
  INT8: tensor.int8([2, WIDTH], new Int8Array(random(2 * WIDTH).buffer)),
  INT16: tensor.int16([2, WIDTH], new Int16Array(random(4 * WIDTH).buffer)),
  INT32: tensor.int32([2, WIDTH], new Int32Array(random(8 * WIDTH).buffer)),
  INT64: tensor.int64([2, WIDTH], new BigInt64Array(random(16 * WIDTH).buffer)),
  FP16: tensor.float16(
    [2, WIDTH],
    new Uint16Array(random(4 * WIDTH).buffer).map((bits) => bits & 0xbbff),
  ),
  FP32: tensor.float32(
    [2, WIDTH],
    Float32Array.from(random(2 * WIDTH), (byte) => byte / 7),
  ),
  FP64: tensor.float64(
    [2, WIDTH],
    Float64Array.from(random(2 * WIDTH), (byte) => byte / 7),
  ),
};

const shared = (client: SlacklineClient): number => client.sharedMemoryStatus()[0]!.shared;

describe("the SDK's shared memory and a live daemon", { skip: process.platform !== "linux" }, () => {
  const repository = temporaryFolder();
  /** For further daemons: one model, so that they start soon. */
  const small = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    const config = "max_batch_size: 8\nbuckets: [2, 8]\nslo_ms: 60000\nthreads: 1\n";
    for (const datatype of Object.keys(INPUTS)) {
      const model = identity(datatype as Parameters<typeof identity>[0], WIDTH);
      writeModelFiles(repository.dir, datatype, { "1/model.onnx": model, "config.yaml": config });
    }
    writeModelFiles(small.dir, "FP32", { "1/model.onnx": identity("FP32", WIDTH), "config.yaml": config });
    const onReplica = `${config}device: cpu\nreplicas: 1\n`;
    writeModelFiles(repository.dir, "replica", { "1/model.onnx": identity("FP32", WIDTH), "config.yaml": onReplica });
    writeModelFiles(repository.dir, "varying", {
      "1/model.onnx": identity("FP32", null),
      "config.yaml": `${config}warm_shapes: [{x: [16]}]\n`,
    });
    writeModelFiles(repository.dir, "boulder", boulderFiles());
    live = await startLiveDaemon(repository.dir, ["--pool-cores", "1"]);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
    small.remove();
  });

  /** Asks until inputs and, where the model's are of known size, outputs go through shared memory. */
  async function warm(client: SlacklineClient, model: string, inputs: InferInputs): Promise<void> {
    await until("memory is shared", async () => {
      const before = shared(client);
      await client.infer(model, inputs);
      await client.infer(model, inputs);
      return shared(client) === before + 2;
    });
  }

  for (const transport of ["stream", "unary"] as const) {
    test(`gives the answers that messages give, over ${transport}`, async () => {
      const with_ = new SlacklineClient({ target: live.target, transport });
      const without = new SlacklineClient({ target: live.target, transport, sharedMemory: "off" });
      try {
        await warm(with_, "UINT8", { x: INPUTS.UINT8! });
        for (const [datatype, x] of [
          ...Object.entries(INPUTS),
          ["replica", INPUTS.FP32!],
          ["varying", INPUTS.FP32!],
        ] as const) {
          const copy = structuredClone(x);
          // Twice, since places for outputs are named once their sizes are known.
          for (let time = 0; time < 2; time++) {
            const before = shared(with_);
            const [one, other] = await Promise.all([with_.infer(datatype, { x }), without.infer(datatype, { x })]);
            assert.deepEqual(one.outputs, other.outputs, datatype);
            assert.deepEqual(one.outputs, { y: copy }, datatype);
            assert.deepEqual(x, copy);
            assert.equal(shared(with_), before + 1, datatype);
          }
        }
        assert.deepEqual(without.sharedMemoryStatus(), []);
      } finally {
        with_.close();
        without.close();
      }
    });

    test(`gives the daemon's errors that messages give, over ${transport}`, async () => {
      const client = new SlacklineClient({ target: live.target, transport });
      try {
        await warm(client, "FP32", { x: INPUTS.FP32! });
        const wide = { x: tensor.float32([1, WIDTH + 1], new Float32Array(WIDTH + 1)) };
        await assert.rejects(client.infer("FP32", wide), {
          code: "INVALID_ARGUMENT",
          message: /unexpected shape for input 'x'/,
        });
        const bools = { x: tensor.bool([2, WIDTH], new Uint8Array(2 * WIDTH).fill(2)) };
        await assert.rejects(client.infer("BOOL", bools), { code: "INVALID_ARGUMENT", message: /is no BOOL/ });
        await assert.rejects(client.infer("none", { x: INPUTS.FP32! }), {
          code: "NOT_FOUND",
          message: /unknown model/,
        });
        await assert.rejects(client.infer("FP32", { x: INPUTS.FP32! }, { outputs: ["q"] }), {
          code: "INVALID_ARGUMENT",
        });
      } finally {
        client.close();
      }
    });
  }

  test("many requests of many sizes at once each get their own answer", async () => {
    const client = new SlacklineClient({ target: live.target });
    try {
      await warm(client, "FP32", { x: INPUTS.FP32! });
      const before = shared(client);
      const calls = Array.from({ length: 200 }, async (_, index) => {
        const items = 1 + (index % 8);
        const data = Float32Array.from({ length: items * WIDTH }, (_, at) => index * 1_000_000 + at);
        const { outputs } = await client.infer("FP32", { x: tensor.float32([items, WIDTH], data) });
        assert.deepEqual(outputs.y!.data, data);
      });
      await Promise.all(calls);
      assert.ok(shared(client) > before);
    } finally {
      client.close();
    }
  });

  test("requests outlive their region: unregistered while they wait, they go again in the message", async () => {
    const client = new SlacklineClient({ target: live.target });
    try {
      await warm(client, "FP32", { x: INPUTS.FP32! });
      const boulder = await roll(live);
      const before = shared(client);
      const answers = [1, 2, 3].map((value) => {
        const x = tensor.float32([1, WIDTH], new Float32Array(WIDTH).fill(value));
        return client.infer("FP32", { x }, { deadlineMs: 60_000 });
      });
      await until("all wait", async () => (await live.modelStatus("FP32")).queued_items === 3);
      assert.equal(shared(client), before + 3);
      for (const name of openObjects()) {
        await new Promise<void>((resolve, reject) =>
          live.raw.SystemSharedMemoryUnregister({ name }, (error) => (error === null ? resolve() : reject(error))),
        );
      }
      assert.equal(boulder.ended(), false);
      const values = (await Promise.all(answers)).map((answer) => answer.output("y", "FP32").data[WIDTH - 1]);
      assert.deepEqual(values, [1, 2, 3]);
      assert.match(client.sharedMemoryStatus()[0]!.problem!, /was unregistered while the request was under way/);
    } finally {
      client.close();
    }
  });

  test("a daemon that comes back is given new memory", async () => {
    const first = await startLiveDaemon(small.dir);
    const port = Number(first.target.split(":")[1]);
    const client = new SlacklineClient({ target: first.target });
    let second: LiveDaemon | null = null;
    try {
      await warm(client, "FP32", { x: INPUTS.FP32! });
      await first.stop();
      second = await startLiveDaemon(small.dir, ["--grpc-port", String(port)]);
      await client.waitForReady({ models: ["FP32"] });
      assert.deepEqual((await client.infer("FP32", { x: INPUTS.FP32! })).outputs, { y: INPUTS.FP32! });
      await warm(client, "FP32", { x: INPUTS.FP32! });
      assert.equal(client.sharedMemoryStatus()[0]!.problem, null);
    } finally {
      client.close();
      await first.stop();
      await second?.stop();
    }
  });

  test("a model's next version is answered with all its outputs, whatever the one before it had", async () => {
    const models = temporaryFolder();
    const write = (version: number, outputs: readonly string[]) => {
      const graph = new Graph("copies");
      graph.input("x", "FP32", ["batch", WIDTH]);
      for (const output of outputs) {
        graph.output(output, "FP32", ["batch", WIDTH]);
        graph.node("Identity", ["x"], {}, output);
      }
      const config = "max_batch_size: 2\nbuckets: [2]\nslo_ms: 60000\nthreads: 1\n";
      writeModelFiles(models.dir, "m", { [`${version}/model.onnx`]: writeModel(graph), "config.yaml": config });
    };
    write(1, ["y"]);
    const explicit = await startLiveDaemon(models.dir, ["--model-control", "explicit", "--load-models", "m"]);
    const x = INPUTS.FP32!;
    try {
      await warm(explicit.client, "m", { x });
      for (const [version, outputs] of [
        [2, ["y", "extra"]],
        [3, ["renamed"]],
      ] as const) {
        write(version, outputs);
        await explicit.client.loadModel("m");
        for (let time = 0; time < 3; time++) {
          const answer = await explicit.client.infer("m", { x });
          assert.equal(answer.version, String(version));
          assert.deepEqual(answer.outputs, Object.fromEntries(outputs.map((output) => [output, x])));
        }
      }
    } finally {
      await explicit.stop();
      models.remove();
    }
  });

  test("requests to several daemons share memory with each", async () => {
    const other = await startLiveDaemon(small.dir);
    const client = new SlacklineClient({ targets: [live.target, other.target] });
    try {
      await until("memory is shared with both", async () => {
        const before = client.sharedMemoryStatus().map((status) => status.shared);
        const answers = await Promise.all(Array.from({ length: 8 }, () => client.infer("FP32", { x: INPUTS.FP32! })));
        for (const { outputs } of answers) assert.deepEqual(outputs, { y: INPUTS.FP32! });
        return client.sharedMemoryStatus().every((status, index) => status.shared > before[index]!);
      });
    } finally {
      client.close();
      await other.stop();
    }
  });

  test("a daemon that shares memory with nobody gets everything in the message", async () => {
    const other = await startLiveDaemon(small.dir, ["--shared-memory-peers", "none"]);
    const client = new SlacklineClient({ target: other.target });
    try {
      await until("the client has asked", async () => {
        assert.deepEqual((await client.infer("FP32", { x: INPUTS.FP32! })).outputs, { y: INPUTS.FP32! });
        return client.sharedMemoryStatus()[0]!.problem !== null;
      });
      assert.match(client.sharedMemoryStatus()[0]!.problem!, /is no slackline daemon that shares memory$/);
      assert.equal(shared(client), 0);
    } finally {
      client.close();
      await other.stop();
    }
  });

  test("a client that is killed leaves no object behind", async () => {
    const script = path.join(repository.dir, "..", `slackline-killed-${process.pid}.mjs`);
    writeFileSync(
      script,
      `import { SlacklineClient, tensor } from ${JSON.stringify(import.meta.resolve("slackline-client"))};
       const client = new SlacklineClient({ target: ${JSON.stringify(live.target)} });
       const x = tensor.float32([1, ${WIDTH}], new Float32Array(${WIDTH}));
       while (client.sharedMemoryStatus()[0].shared === 0) await client.infer("FP32", { x });
       process.send("shared");
       setInterval(() => {}, 1000);`,
    );
    const child = fork(script);
    try {
      await once(child, "message");
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
      // Other tests' objects have names for a moment.
      await until("no object has a name", () => {
        return !readdirSync("/dev/shm").some((name) => /^slackline-[0-9a-f]{32}$/.test(name));
      });
    } finally {
      rmSync(script);
    }
  });
});
