import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { test } from "node:test";
import { CpuReplicas } from "../../daemon/cpu/cpu-replicas.ts";
import type { Device } from "../../daemon/engine/ports.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { floats, LaneRig } from "../device/lane-rig.ts";
import { ManualTimers } from "../support/manual-timers.ts";
import { stopProcess } from "../support/stop-process.ts";

const EXECUTION_MS = 10_000;
const LOAD_MS = 60_000;

test("replicas that stand still are started again, and say so to those that waited", {
  skip: process.platform !== "linux",
}, async () => {
  const timers = new ManualTimers();
  const rig = await LaneRig.start();
  let restored: (device: Device) => void = () => {};
  const pool = new CpuReplicas({
    cores: 1,
    cacheFolder: null,
    profileBudgetMs: 20,
    hangLimits: { executionMs: EXECUTION_MS, loadMs: LOAD_MS, startTimer: timers.start },
    events: {
      restored: (_model, device) => restored(device),
      dropped: (model, _lane, error) => assert.fail(`${model} was dropped: ${error.message}`),
      log: () => {},
    },
  });
  try {
    const version = await rig.version(addOne(), { name: "still", settings: { replicas: 1 } });
    const { devices } = await pool.load(version, null, { reprofile: false });
    const lost = new Promise<string>((resolve) => {
      devices[0]!.attach({ ended: () => assert.fail("it ended"), lost: (_lane, reason) => resolve(reason) });
    });
    const back = new Promise<Device>((resolve) => {
      restored = resolve;
    });
    await stopProcess(pool.pid!);
    devices[0]!.start(rig.execution(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])], 1));
    assert.deepEqual(timers.running, [EXECUTION_MS]);
    timers.advance(EXECUTION_MS);
    assert.match(await lost, /process was lost: a batch of still\/1 did not end within 10000 ms/);
    const device = await back;
    const ended = new Promise<boolean>((resolve) => {
      device.attach({ ended: (_lane, _execution, { ok }) => resolve(ok), lost: () => resolve(false) });
    });
    device.start(rig.execution(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])], 1));
    assert.equal(await ended, true);
  } finally {
    await pool.close();
    await rig.close();
  }
});

test("replicas whose load hangs are noticed while those of another model execute", {
  skip: process.platform !== "linux",
}, async () => {
  const timers = new ManualTimers();
  const rig = await LaneRig.start();
  const pool = new CpuReplicas({
    cores: 1,
    cacheFolder: null,
    profileBudgetMs: 20,
    hangLimits: { executionMs: EXECUTION_MS, loadMs: LOAD_MS, startTimer: timers.start },
    events: { restored: () => {}, dropped: () => {}, log: () => {} },
  });
  try {
    const busy = await rig.version(addOne(), { name: "busy", settings: { replicas: 1 } });
    const hung = await rig.version(addOne(), { name: "hung", settings: { replicas: 1 } });
    rmSync(hung.path);
    // Nobody ever writes to it.
    execFileSync("mkfifo", [hung.path]);
    const { devices } = await pool.load(busy, null, { reprofile: false });
    let ended: () => void = () => {};
    let lost = "";
    devices[0]!.attach({
      ended: () => ended(),
      lost: (_lane, reason) => {
        lost = reason;
        ended();
      },
    });
    let failure = "";
    pool.load(hung, null, { reprofile: false }).catch((error: Error) => {
      failure = error.message;
    });
    // Its thread starts within one limit or the other, and then loads for longer than that.
    for (let half = 0; half < 10 && lost === ""; half++) {
      const end = new Promise<void>((resolve) => {
        ended = resolve;
      });
      const execution = rig.execution(busy, [rig.request(busy, [floats("x", [1, 4], [1, 2, 3, 4])])], 1);
      devices[0]!.start(execution);
      await end;
      devices[0]!.release(execution);
      timers.advance(LOAD_MS / 2);
    }
    assert.match(lost, /it gave no sign of life for 60000 ms while (?:starting|loading) replicas of hung\/1/);
    // Where its thread had not started yet the load is tried once more.
    while (failure === "") {
      timers.advance(LOAD_MS);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.match(failure, /hung\/1/);
  } finally {
    await pool.close();
    await rig.close();
  }
});
