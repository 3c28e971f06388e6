import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { addOne } from "../../models/onnx/tiny.ts";
import { floats, floatsOf, LaneRig } from "./lane-rig.ts";

describe("lane", () => {
  it("loads, executes, releases", async () => {
    const rig = await LaneRig.start();
    try {
      const version = await rig.version(addOne());
      console.log(rig.lane.transport, await rig.lane.load(version));
      const out = await rig.run(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])], 2);
      console.log(floatsOf(out[0]!), out);
      assert.deepEqual(floatsOf(out[0]!).slice(0, 4), [2, 3, 4, 5]);
    } finally {
      await rig.close();
    }
  });
});
