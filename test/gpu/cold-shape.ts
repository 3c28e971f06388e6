/** A shape that was never warmed, through the whole daemon on a GPU: run by run.ts, which says through which provider. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { tensor } from "slackline-client";
import type { Recorder } from "../../daemon/engine/recording.ts";
import type { StartReason } from "../../daemon/scheduler/types.ts";
import { dynamicDims } from "../../models/onnx/tiny.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder, until, writeModelFiles } from "../support/live-daemon.ts";
import { PROVIDER } from "./provider.ts";

const repository = temporaryFolder();
/** Why each batch was started, in order. */
const reasons: StartReason[] = [];
let live: LiveDaemon;

before(async () => {
  const config = "max_batch_size: 2\nbuckets: [1, 2]\nreplicas: 0\nwarm_shapes: [{ x: [8] }]\n";
  writeModelFiles(repository.dir, "doubles", { "1/model.onnx": dynamicDims(), "config.yaml": config });
  const recorder: Recorder = (_event, _nowUs, effects) => {
    for (const effect of effects) if (effect.type === "start") reasons.push(effect.plan.reason);
  };
  live = await startLiveDaemon(repository.dir, ["--device", PROVIDER, "--allow-software-gpu"], { recorder });
});
after(async () => {
  await live?.stop();
  repository.remove();
});

async function ask(length: number): Promise<StartReason> {
  const x = tensor.float32([1, length], new Float32Array(length).fill(3));
  const answer = await live.client.infer("doubles", { x }, { deadlineMs: 60_000 });
  assert.deepEqual(answer.output("y", "FP32").data, new Float32Array(length).fill(6));
  return reasons.at(-1)!;
}

test("it runs as fill until the lane was idle and is prepared for it, then before deadlines", async () => {
  assert.equal(await ask(8), "deadline");
  assert.equal(await ask(5), "fill");
  await until("the lane is warm for the shape", () =>
    live.log.some(({ msg }) => msg === "doubles/1 is warm for shape x:5"),
  );
  assert.equal(await ask(5), "deadline");
  assert.equal(await ask(8), "deadline");
});
