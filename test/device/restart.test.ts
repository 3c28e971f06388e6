/** Lanes whose process can't be started again at once. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Arena } from "../../daemon/device/arena.ts";
import { startProcessHost } from "../../daemon/device/lane-host.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { temporaryFolder } from "../support/live-daemon.ts";
import { floats, floatsOf, LaneRig } from "./lane-rig.ts";

describe("a lane that is started again", { skip: process.platform !== "linux" }, () => {
  it("is not lost by a process that dies before it was there", async () => {
    const folder = temporaryFolder();
    const arena = Arena.open();
    const entry = path.join(folder.dir, "dies.mjs");
    writeFileSync(entry, "console.error('no driver'); process.exitCode = 3; process.disconnect();\n");
    const lost: string[] = [];
    const starting = startProcessHost(
      arena,
      { lost: (reason) => lost.push(reason), output: () => {} },
      pathToFileURL(entry),
    );
    await assert.rejects(starting, /the lane did not start: its process exited with code 3/);
    assert.deepEqual(lost, []);
    arena.close();
    folder.remove();
  });

  it("tries again when the process in its place dies too, and comes back once", async () => {
    const folder = temporaryFolder();
    const flag = path.join(folder.dir, "dies-once");
    const hook = path.join(folder.dir, "hook.cjs");
    writeFileSync(hook, `try { require("node:fs").unlinkSync(${JSON.stringify(flag)}); process.exit(3); } catch {}\n`);
    const rig = await LaneRig.start();
    const { NODE_OPTIONS } = process.env;
    try {
      const version = await rig.version(addOne(), { name: "kept" });
      await rig.lane.load(version);
      writeFileSync(flag, "");
      process.env.NODE_OPTIONS = `${NODE_OPTIONS ?? ""} --require ${hook}`;
      process.kill(rig.lane.pid!, "SIGKILL");
      await rig.until("reloaded", "kept/1");
      const [output] = await rig.run(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])], 1);
      assert.deepEqual(floatsOf(output!), [2, 3, 4, 5]);
      const kinds = rig.happened.map(([kind]) => kind).filter((kind) => /lost|restarted|warn/.test(kind));
      assert.deepEqual(kinds, ["warn", "lost", "warn", "restarted"]);
      const [first, second] = rig.happened.filter(([kind]) => kind === "warn").map(([, text]) => text);
      assert.match(first!, /^lane lane0 was lost: its process was ended by SIGKILL/);
      assert.match(
        second!,
        /^lane lane0 could not be restarted: the lane did not start: its process exited with code 3/,
      );
      assert.equal(rig.lane.restarts, 1);
    } finally {
      if (NODE_OPTIONS === undefined) delete process.env.NODE_OPTIONS;
      else process.env.NODE_OPTIONS = NODE_OPTIONS;
      await rig.close();
      folder.remove();
    }
  });

  it("tries again when there are no descriptors for a process, and leaves nothing that listens", async () => {
    // With a limit of its own, low enough to use up.
    const script = fileURLToPath(new URL("./few-descriptors.js", import.meta.url));
    const command = 'ulimit -n 128 && exec "$0" "$1"';
    const { stdout } = await promisify(execFile)("sh", ["-c", command, process.execPath, script]);
    const told = JSON.parse(stdout) as { restart: string[]; failures: number; listening: boolean };
    assert.match(told.restart[1]!, /^warn lane lane0 could not be restarted: .*EMFILE/);
    assert.ok(told.restart.includes("restarted"));
    assert.ok(told.failures > 0);
    assert.equal(told.listening, false);
  });
});
