/** A daemon that may not run CPU replicas. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { addOne } from "../../models/onnx/tiny.ts";
import { LEVEL, startLiveDaemon, temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";

test("with pool_cores 0 nothing runs on CPU replicas, and what asked for them is told", async () => {
  const repository = temporaryFolder();
  const write = (name: string, config: string) =>
    writeModelFiles(repository.dir, name, { "1/model.onnx": addOne(4), "config.yaml": `max_batch_size: 2\n${config}` });
  write("plain", "");
  write("asks", "replicas: 1\n");
  write("needs", "device: cpu\n");
  const live = await startLiveDaemon(repository.dir, ["--pool-cores", "0"]);
  try {
    const { lanes } = await live.status();
    assert.deepEqual(
      lanes.map(({ kind }) => kind),
      ["device"],
    );
    const reason = /pool_cores is 0, which leaves no cores to CPU replicas: raise it, or/;
    const entries = new Map((await live.client.repositoryIndex()).map((entry) => [entry.name, entry]));
    assert.equal(entries.get("plain")!.state, "READY");
    assert.equal((await live.modelStatus("plain")).replicas, null);
    assert.equal(entries.get("asks")!.state, "READY");
    assert.match((await live.modelStatus("asks")).replicas!, reason);
    assert.equal(entries.get("needs")!.state, "UNAVAILABLE");
    assert.match(entries.get("needs")!.reason, reason);
    const complaints = live.log.filter(({ level, msg }) => level >= LEVEL.warn && reason.test(msg));
    assert.deepEqual(complaints.map(({ msg }) => msg.split(":")[0]).sort(), [
      "asks/1 has no CPU replicas",
      "needs/1 can't be served",
    ]);
  } finally {
    await live.stop();
    repository.remove();
  }
});
