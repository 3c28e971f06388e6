import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ShapeTable } from "../../daemon/device/shape-table.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { modelSpec } from "../support/engine-rig.ts";

const MODEL = {
  inputs: [{ name: "x", datatype: "FP32", shape: [-1, -1] }],
  outputs: [],
  batched: true,
  maxBatchSize: 4,
  sequence: null,
} as const;
const MEASURED = {
  "x:8": [{ bucket: 4, us: 1000 }],
  "x:16": [{ bucket: 4, us: 2000 }],
};

describe("profiles by shape", () => {
  it("guesses the time of a shape from the nearest that was measured, in proportion", () => {
    const table = new ShapeTable(MODEL, MEASURED);
    assert.deepEqual(table.get("x:4"), { profile: [{ bucket: 4, us: 500 }], measured: false });
    assert.deepEqual(table.get("x:16"), { profile: MEASURED["x:16"], measured: true });
  });

  it("forgets the oldest guesses, and has the slowest measured stand for what is in none", () => {
    const table = new ShapeTable(MODEL, MEASURED);
    for (let length = 100; length < 400; length++) table.get(`x:${length}`);
    const { profiles } = table;
    assert.equal(profiles["x:100"], undefined);
    assert.notEqual(profiles["x:399"], undefined);
    assert.equal(profiles["*"], MEASURED["x:16"]);
  });

  it("keeps requests before their deadlines, and not as fill, however many shapes wait on a CPU lane", () => {
    const table = new ShapeTable(MODEL, MEASURED);
    const scheduler = createScheduler();
    scheduler.step({ type: "lane-up", lane: "cpu", kind: "device" }, 0);
    scheduler.step({ type: "model-add", spec: modelSpec("m", { sloUs: 60_000_000 }) }, 0);
    for (let id = 1; id <= 600; id++) {
      const shape = `x:${id}`;
      table.get(shape);
      scheduler.step({ type: "loaded", lane: "cpu", model: "m", profiles: table.profiles }, 0);
      const deadlines = { deadlineUs: 60_000_000, explicit: false, expiresUs: null };
      const request = { id, model: "m", items: 1, bytes: 0, shape, tenant: "", ...deadlines };
      const effects = scheduler.step({ type: "arrive", request }, 0);
      assert.ok(!effects.some(({ type }) => type === "demote"), `request ${id}`);
    }
  });
});
