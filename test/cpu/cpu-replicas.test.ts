/** Models on CPU replicas, through the whole daemon. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type SlacklineError, type Tensor, tensor } from "slackline-client";
import type { Datatype } from "../../daemon/engine/tensors.ts";
import { doublesRows, failsAtRun, identity, slow, stringIdentity } from "../../models/onnx/tiny.ts";
import { Random } from "../../models/random.ts";
import { unknownOperator } from "../support/broken-model.ts";
import {
  LEVEL,
  type LiveDaemon,
  type ModelFiles,
  startLiveDaemon,
  temporaryFolder,
  until,
  writeModelFiles,
} from "../support/live-daemon.ts";
import { floatTensor, loneSession } from "../support/onnx-session.ts";

const WIDTH = 64;

/** Two elements a row, extremes among them. */
const VALUES: Readonly<Record<Exclude<Datatype, "BYTES">, Tensor>> = {
  BOOL: tensor.bool([2, 2], [true, false, false, true]),
  UINT8: tensor.uint8([2, 2], Uint8Array.of(0, 1, 254, 255)),
  UINT16: tensor.uint16([2, 2], Uint16Array.of(0, 1, 65_534, 65_535)),
  UINT32: tensor.uint32([2, 2], Uint32Array.of(0, 1, 2, 4_294_967_295)),
  UINT64: tensor.uint64([2, 2], BigUint64Array.of(0n, 1n, 2n, 18_446_744_073_709_551_615n)),
  INT8: tensor.int8([2, 2], Int8Array.of(-128, -1, 0, 127)),
  INT16: tensor.int16([2, 2], Int16Array.of(-32_768, -1, 0, 32_767)),
  INT32: tensor.int32([2, 2], Int32Array.of(-2_147_483_648, -1, 0, 2_147_483_647)),
  INT64: tensor.int64([2, 2], BigInt64Array.of(-9_223_372_036_854_775_808n, -1n, 0n, 9_223_372_036_854_775_807n)),
  FP16: tensor.float16([2, 2], Uint16Array.of(0x3c00, 0xbc00, 0x0001, 0x7bff)),
  FP32: tensor.float32([2, 2], Float32Array.of(-1.5, 0, 3.4e38, 1e-38)),
  FP64: tensor.float64([2, 2], Float64Array.of(-1.5, 0, 1.7e308, 5e-324)),
};

function onCpu(model: Uint8Array, more: string = "replicas: 2"): ModelFiles {
  return {
    "1/model.onnx": model,
    "config.yaml": `device: cpu\nthreads: 1\nmax_batch_size: 4\nslo_ms: 60000\n${more}\n`,
  };
}

describe("CPU replicas", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    for (const datatype of Object.keys(VALUES) as (keyof typeof VALUES)[]) {
      writeModelFiles(repository.dir, datatype.toLowerCase(), onCpu(identity(datatype, 2), "replicas: 1"));
    }
    writeModelFiles(repository.dir, "strings", onCpu(stringIdentity()));
    writeModelFiles(repository.dir, "rotate", onCpu(slow({ layers: 3, width: WIDTH })));
    writeModelFiles(repository.dir, "fails", onCpu(failsAtRun()));
    writeModelFiles(repository.dir, "doubles", onCpu(doublesRows()));
    writeModelFiles(repository.dir, "broken", onCpu(unknownOperator()));
    const auto = "device: cpu\nreplicas: auto\nmax_batch_size: 2\nslo_ms: 60000\n";
    writeModelFiles(repository.dir, "auto", { "1/model.onnx": slow({ layers: 2, width: WIDTH }), "config.yaml": auto });
    live = await startLiveDaemon(repository.dir, ["--pool-cores", "2"]);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  for (const [datatype, input] of Object.entries(VALUES)) {
    test(`${datatype} passes through bit by bit`, async () => {
      const answer = await live.client.infer(datatype.toLowerCase(), { x: input }, { timings: true });
      assert.deepEqual(answer.outputs.y, { ...input });
      assert.equal(answer.timings!.lane, `cpu/${datatype.toLowerCase()}/1#0`);
    });
  }

  test("strings pass through, empty, long and of several rows", async () => {
    const texts = ["", "näht 🦆", "x".repeat(70_000)];
    const input = tensor.strings([3, 1], texts);
    const answer = await live.client.infer("strings", { text: input });
    assert.deepEqual(
      answer.output("same", "BYTES").data.map((bytes) => Buffer.from(bytes).toString()),
      texts,
    );
  });

  test("two replicas share a model's requests, and answer like a lone session", async () => {
    const random = new Random(5);
    const session = await loneSession(slow({ layers: 3, width: WIDTH }));
    const lanes = new Set<string>();
    const calls = Array.from({ length: 60 }, async () => {
      const items = 1 + random.below(3);
      const data = Float32Array.from({ length: items * WIDTH }, () => random.uniform());
      const answer = await live.client.infer("rotate", { x: tensor.float32([items, WIDTH], data) }, { timings: true });
      lanes.add(answer.timings!.lane);
      const alone = await session.run({ x: floatTensor([items, WIDTH], data) });
      assert.deepEqual(answer.output("y", "FP32").data, alone.y!.data);
    });
    await Promise.all(calls);
    await session.release();
    assert.deepEqual([...lanes].sort(), ["cpu/rotate/1#0", "cpu/rotate/1#1"]);
  });

  test("a model that can't be loaded says why, and the others are served", async () => {
    const index = await live.client.repositoryIndex();
    const broken = index.find(({ name }) => name === "broken")!;
    assert.equal(broken.state, "UNAVAILABLE");
    assert.match(broken.reason, /NoSuchOperator/);
    assert.ok(!broken.reason.includes(repository.dir), broken.reason);
    assert.ok(live.log.some(({ level, msg }) => level === LEVEL.error && msg.startsWith("broken/1 can't be served")));
    assert.equal(index.filter(({ state }) => state === "READY").length, index.length - 1);
  });

  test("replicas: auto says what it found", async () => {
    const { replicas, placement, lanes } = await live.modelStatus("auto");
    assert.match(replicas!, /^\d × \d threads? \(.* items\/s\), kept over \d × \d threads? \(.*\)$/);
    assert.equal(placement, "replica");
    assert.equal(lanes.length, Number(replicas![0]));
    assert.ok(live.log.some(({ msg, replicas: logged }) => msg === "auto/1 is ready" && logged === replicas));
  });

  test("an output that is no row of the batch makes the model run requests one by one, with a warning", async () => {
    assert.equal((await live.modelStatus("doubles")).max_batch, 1);
    const warning = /^doubles\/1: the first dimension of output 'y' is not the batch's/;
    assert.ok(live.log.some(({ level, msg }) => level === LEVEL.warn && warning.test(msg)));
    const answer = await live.client.infer("doubles", { x: tensor.float32([1, 4], Float32Array.of(1, 2, 3, 4)) });
    assert.deepEqual(answer.outputs.y!.shape, [2, 4]);
  });

  test("what fails while running is told without the host's paths, and the replica goes on", async () => {
    const ask = (index: bigint) => live.client.infer("fails", { index: tensor.int64([1, 1], BigInt64Array.of(index)) });
    const failure = await ask(9n).then(
      () => assert.fail("an index out of bounds was answered"),
      (error: unknown) => error as SlacklineError,
    );
    assert.equal(failure.code, "INTERNAL");
    assert.match(failure.message, /^model 'fails' failed while running: .*out of .*bounds/s);
    assert.ok(!failure.message.includes(repository.dir), failure.message);
    assert.deepEqual((await ask(3n)).output("value", "FP32").data, Float32Array.of(30));
  });

  test("killed under load, they come back; every request is answered or told that it may be tried again", async () => {
    const { pid } = (await live.status()).lanes.find(({ kind }) => kind === "replica")!;
    const ends: string[] = [];
    const ask = async (): Promise<void> => {
      const input = tensor.float32([1, WIDTH], new Float32Array(WIDTH).fill(1));
      try {
        await live.client.infer("rotate", { x: input }, { retry: false });
        ends.push("answered");
      } catch (error) {
        const { code, message } = error as SlacklineError;
        assert.equal(code, "UNAVAILABLE", message);
        assert.match(message, /tried again|restarting|try again/);
        ends.push("unavailable");
      }
    };
    let killed = false;
    const callers = Array.from({ length: 16 }, async () => {
      while (!killed) await ask();
      await ask();
    });
    await until("requests are being answered", () => ends.length > 50);
    process.kill(pid!, "SIGKILL");
    await until("the daemon notices", () =>
      live.log.some(({ msg }) => msg.startsWith("the CPU replicas' process was lost")),
    );
    killed = true;
    await Promise.all(callers);
    await until(
      "they are back",
      async () => (await live.client.modelReady("rotate")) && (await live.client.modelReady("auto")),
    );
    await ask();
    assert.equal(ends.at(-1), "answered");
    const back = (await live.status()).lanes.filter(({ lane }) => lane.startsWith("cpu/rotate/1#"));
    assert.deepEqual(
      back.map(({ restarts }) => restarts),
      [1, 1],
    );
    assert.notEqual(back[0]!.pid, pid);
    await until("all models are back", async () => {
      const { models } = await live.status();
      return models.every(({ name, lanes }) => name === "broken" || lanes.length > 0);
    });
    assert.equal((await live.modelStatus("rotate")).queued_items, 0);
  });
});
