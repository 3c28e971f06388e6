/** The device's process dies under load: no request is lost, and it comes back. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { tensor } from "slackline-client";
import { addOne, slow } from "../../models/onnx/tiny.ts";
import { boulderFiles, roll } from "../support/boulder.ts";
import {
  LEVEL,
  type LiveDaemon,
  startLiveDaemon,
  temporaryFolder,
  until,
  writeModelFiles,
} from "../support/live-daemon.ts";

const WIDTH = 128;
const MODELS = ["first", "second"];

describe("a lane that crashes", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    for (const name of MODELS) {
      writeModelFiles(repository.dir, name, {
        "1/model.onnx": slow({ layers: 20, width: WIDTH }),
        "config.yaml": "max_batch_size: 8\nbuckets: [1, 8]\nslo_ms: 60000\n",
      });
    }
    live = await startLiveDaemon(repository.dir);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  async function ask(model: string): Promise<void> {
    const data = Float32Array.from({ length: WIDTH }, (_, at) => at);
    const x = tensor.float32([1, WIDTH], data);
    const answer = await live.client.infer(model, { x }, { deadlineMs: 60_000 });
    assert.equal(answer.output("y", "FP32").data[0], WIDTH - 20);
  }

  for (const round of [1, 2]) {
    test(`killed under load (${round}), it restarts and serves all its models again`, async () => {
      const { pid } = (await live.status()).lanes[0]!;
      let answers = 0;
      let loaded = true;
      const callers = Array.from({ length: 32 }, async (_, index) => {
        for (; loaded; answers++) await ask(MODELS[index % 2]!);
      });
      await until("requests are being answered", () => answers > 100);
      process.kill(pid!, "SIGKILL");
      await until("it has restarted", async () => (await live.status()).lanes[0]!.restarts === round);
      for (const name of MODELS) await until(`${name} is back`, () => live.client.modelReady(name));
      const before = answers;
      await until("requests are answered again", () => answers > before + 100);
      loaded = false;
      await Promise.all(callers);

      const { lanes, models } = await live.status();
      assert.equal(lanes[0]!.restarts, round);
      assert.notEqual(lanes[0]!.pid, pid);
      for (const { counts, queued_items, state } of models) {
        assert.equal(queued_items, 0);
        assert.equal(state, "READY");
        assert.equal(counts.requests, counts.on_time + counts.late + counts.failed, "each request has one end");
      }
      assert.ok(live.log.some(({ level, msg }) => level === LEVEL.warn && /lane cpu was lost: .*SIGKILL/.test(msg)));
    });
  }
});

test("a version that is executing each time its lane crashes is given up, and the one before takes over", async () => {
  const repository = temporaryFolder();
  writeModelFiles(repository.dir, "boulder", { "1/model.onnx": addOne(4) });
  writeModelFiles(repository.dir, "bystander", { "1/model.onnx": addOne(4), "config.yaml": "slo_ms: 60000\n" });
  const { "1/model.onnx": model, "config.yaml": config } = boulderFiles(200);
  writeModelFiles(repository.dir, "boulder", { "2/model.onnx": model!, "config.yaml": config! });
  const live = await startLiveDaemon(repository.dir, ["--model-control", "explicit", "--load-models", "bystander"]);
  try {
    await live.client.loadModel("boulder");
    const ready = (version: number) => live.client.modelReady("boulder", { version });
    // An execution that ends just before the kill does not count against it: then it takes another round.
    for (let kills = 1; ; kills++) {
      await until("one of them is there", async () => (await ready(2)) || (await ready(1)));
      if (await ready(1)) break;
      const boulder = await roll(live);
      process.kill((await live.status()).lanes[0]!.pid!, "SIGKILL");
      await boulder.done;
      await until("the lane is back", async () => (await live.status()).lanes[0]!.restarts === kills);
    }
    const x = tensor.float32([1, 4], new Float32Array(4));
    assert.equal((await live.client.infer("boulder", { x })).version, "1");
    assert.equal((await live.client.infer("bystander", { x })).version, "1");
    const given = (await live.client.repositoryIndex()).find(
      ({ name, version }) => name === "boulder" && version === "2",
    )!;
    assert.equal(given.state, "UNAVAILABLE");
    assert.match(given.reason, /it was executing or loading each of the last 3 times when lane cpu crashed/);
  } finally {
    await live.stop();
    repository.remove();
  }
});
