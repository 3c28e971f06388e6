/** Batches of strings, gathered. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Arena } from "../../daemon/device/arena.ts";
import { gatherStrings } from "../../daemon/device/gather.ts";
import { HANG_LIMITS } from "../../daemon/device/hang-limits.ts";
import { LaneDevice } from "../../daemon/device/lane-device.ts";
import { LayoutCache } from "../../daemon/device/layout.ts";
import type { ExecutionResult } from "../../daemon/engine/ports.ts";
import type { TensorSpec } from "../../daemon/engine/tensors.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { LaneRig, strings } from "./lane-rig.ts";

const TEXT: TensorSpec = { name: "text", datatype: "BYTES", shape: [-1, -1] };
const SLOT_BYTES = 1 << 16;

async function textModel(rig: LaneRig) {
  return { ...(await rig.brokenVersion(addOne(), { name: "text", maxBatchSize: 4 })), inputs: [TEXT], outputs: [] };
}

test("padding repeats the last row, however many strings an item has", async () => {
  const rig = await LaneRig.start({ transport: "threads" });
  try {
    const version = await textModel(rig);
    const count = 200_000;
    const row = Array.from({ length: count }, (_, index) => `${index % 7}`);
    const request = rig.request(version, [strings("text", [1, count], row)]);
    const gathered = gatherStrings(new LayoutCache(version).get(request.shape), 0, [request], 2);
    assert.equal(gathered.length, 2 * count);
    const texts = gathered.map((element) => Buffer.from(element).toString());
    assert.deepEqual(texts.slice(0, count), row);
    assert.deepEqual(texts.slice(count), row);
  } finally {
    await rig.close();
  }
});

test("a batch whose strings can't be gathered keeps no slot", { skip: process.platform !== "linux" }, async () => {
  const rig = await LaneRig.start({ transport: "threads" });
  const arena = Arena.open();
  try {
    const version = await textModel(rig);
    const device = new LaneDevice("lane0", "device", arena, HANG_LIMITS, {
      fatal: () => {},
      hung: () => {},
      occupied: () => false,
    });
    let told: (result: ExecutionResult) => void = () => {};
    device.attach({ ended: (_lane, _execution, result) => told(result), lost: () => {} });
    device.place(version, { send: () => {}, onMessage: () => {}, close: () => {} }, SLOT_BYTES, ["text:3"]);
    const reserved = arena.reservedBytes;
    for (let time = 0; time < 3; time++) {
      const request = rig.request(version, [{ ...strings("text", [1, 3], ["a", "b"]) }]);
      const execution = rig.execution(version, [request], 1);
      if (time === 2) device.stage(execution);
      const ended = new Promise<ExecutionResult>((resolve) => {
        told = resolve;
      });
      device.start(execution);
      const result = await ended;
      assert.match(result.ok ? "" : result.message, /input "text" holds 2 strings where its shape needs 3/);
    }
    assert.equal(arena.reservedBytes, reserved);
    device.remove(version.key);
    assert.equal(arena.reservedBytes, 0, "no slot is in use");
  } finally {
    arena.close();
    await rig.close();
  }
});
