import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { EngineRig, modelSpec } from "../support/engine-rig.ts";

const REQUESTS = 20_000;
const BYTES_MAX = 2048;

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

function heapUsed(): number {
  collectGarbage();
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

test("a queued request takes no more than 2 KiB beside its tensors, in engine and scheduler together", () => {
  const rig = new EngineRig({ scheduler: createScheduler() });
  rig.engine.addModel(modelSpec("m", { queueItemsMax: REQUESTS * 2, queueBytesMax: Number.MAX_SAFE_INTEGER }));
  rig.submit({ deadlineUs: 1e12 });
  const data = new Uint8Array(64);
  const before = heapUsed();
  for (let i = 0; i < REQUESTS; i++) {
    rig.submit({ deadlineUs: 1e12 + i, inputs: [{ name: "x", datatype: "FP32", shape: [1, 16], data }] });
  }
  const each = (heapUsed() - before) / REQUESTS;
  assert.ok(rig.engine.snapshot().models[0]!.queuedRequests >= REQUESTS - 1);
  assert.ok(each <= BYTES_MAX, `${Math.round(each)} bytes each`);
});
