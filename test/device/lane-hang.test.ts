/** Lanes that stand still: their process is stopped, so that it neither works nor dies. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { describe, it } from "node:test";
import { executionLimitMs, HANG_LIMITS } from "../../daemon/device/hang-limits.ts";
import { LoadError } from "../../daemon/device/load-error.ts";
import { addOne, slow } from "../../models/onnx/tiny.ts";
import { ManualTimers } from "../support/manual-timers.ts";
import { stopProcess } from "../support/stop-process.ts";
import { floats, floatsOf, LaneRig } from "./lane-rig.ts";

const EXECUTION_MS = 10_000;
const LOAD_MS = 60_000;
/** Only a process of its own can be stopped. */
const skip = process.platform !== "linux";

async function withLane(test: (rig: LaneRig, timers: ManualTimers) => Promise<void>): Promise<void> {
  const timers = new ManualTimers();
  const hangLimits = { executionMs: EXECUTION_MS, loadMs: LOAD_MS, startTimer: timers.start };
  const rig = await LaneRig.start({ hangLimits });
  try {
    await test(rig, timers);
  } finally {
    await rig.close();
  }
}

/** A model file that nobody ever finishes to read. */
function replaceByFifo(file: string): void {
  rmSync(file);
  execFileSync("mkfifo", [file]);
}

describe("a lane that stands still", () => {
  it("is started again when a batch does not end in time, and says so to those that waited", { skip }, async () => {
    await withLane(async (rig, timers) => {
      const version = await rig.version(addOne(), { name: "still" });
      await rig.lane.load(version);
      const request = () => rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])]);
      await rig.run(version, [request()], 1);
      assert.deepEqual(timers.running, [], "nothing is watched while nothing executes");
      await stopProcess(rig.lane.pid!);
      void rig.start(rig.execution(version, [request()], 1));
      assert.deepEqual(timers.running, [EXECUTION_MS]);
      timers.advance(EXECUTION_MS - 1);
      assert.ok(!rig.happened.some(([kind]) => kind === "lost"));
      timers.advance(1);
      await rig.until("reloaded", "still/1");
      const [, reason] = rig.happened.find(([kind]) => kind === "lost")!;
      assert.match(
        reason,
        /^lane lane0 was lost: a batch of still\/1 did not end within 10000 ms \(predicted were 1 ms\)/,
      );
      const [output] = await rig.run(version, [request()], 1);
      assert.deepEqual(floatsOf(output!), [2, 3, 4, 5]);
    });
  });

  it("is started again when it falls silent while it loads; that load fails, others go on", { skip }, async () => {
    await withLane(async (rig, timers) => {
      const good = await rig.version(addOne(), { name: "good" });
      const silent = await rig.version(slow({ layers: 8, width: 512 }), { name: "silent" });
      const loading = rig.lane.load(silent);
      const rejected = assert.rejects(loading, (error) => {
        assert.ok(error instanceof LoadError);
        assert.equal(error.code, "crashed");
        assert.match(error.message, /it gave no sign of life for 60000 ms while loading silent\/1/);
        return true;
      });
      await rig.until("progress", "silent/1");
      process.kill(rig.lane.pid!, "SIGSTOP");
      // What it had told before it was stopped may still be on its way, and counts as life.
      while (!rig.happened.some(([kind]) => kind === "lost")) {
        timers.advance(LOAD_MS);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await rejected;
      await rig.lane.load(good);
      const [output] = await rig.run(good, [rig.request(good, [floats("x", [1, 4], [0, 0, 0, 0])])], 1);
      assert.deepEqual(floatsOf(output!), [1, 1, 1, 1]);
    });
  });

  it("is started again when one load hangs while batches of other models go on", { skip }, async () => {
    await withLane(async (rig, timers) => {
      const busy = await rig.version(addOne(), { name: "busy" });
      const hung = await rig.version(addOne(), { name: "hung" });
      replaceByFifo(hung.path);
      await rig.lane.load(busy);
      let failure = "";
      rig.lane.load(hung).catch((error: Error) => {
        failure = error.message;
      });
      // Its thread starts within one limit or the other, and then loads for longer than that.
      let halves = 0;
      do {
        await rig.run(busy, [rig.request(busy, [floats("x", [1, 4], [1, 2, 3, 4])])], 1);
        timers.advance(LOAD_MS / 2);
      } while (++halves < 8 && timers.running.length > 0);
      assert.deepEqual(timers.running, [], "the load hangs unnoticed");
      await rig.until("lost", "it gave no sign of life for 60000 ms while loading hung/1");
      // Where its thread had not started yet the load is tried once more.
      while (failure === "") {
        timers.advance(LOAD_MS);
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.match(failure, /while loading hung\/1/);
    });
  });

  it("is given time for a batch that may have to wait for a trial run of a load", { skip }, async () => {
    await withLane(async (rig, timers) => {
      const quick = await rig.version(addOne(), { name: "quick" });
      const heavy = await rig.version(slow({ layers: 16, width: 512 }), { name: "heavy", maxBatchSize: 64 });
      await rig.lane.load(quick);
      const loading = rig.lane.load(heavy);
      await rig.until("progress", "heavy/1");
      const ended = rig.start(rig.execution(quick, [rig.request(quick, [floats("x", [1, 4], [1, 1, 1, 1])])], 1));
      timers.advance(EXECUTION_MS);
      assert.ok((await ended).ok);
      await loading;
      assert.ok(!rig.happened.some(([kind]) => kind === "lost"));
      assert.deepEqual(timers.running, []);
    });
  });

  it("has more time where more was predicted", () => {
    assert.equal(executionLimitMs(HANG_LIMITS, 1_000), 10_000);
    assert.equal(executionLimitMs(HANG_LIMITS, 2_000_000), 40_000);
  });
});
