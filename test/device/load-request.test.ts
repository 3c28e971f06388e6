import assert from "node:assert/strict";
import { test } from "node:test";
import { loadRequest } from "../../daemon/device/load-request.ts";
import type { ModelVersion } from "../../daemon/repository/model.ts";

const HOW = {
  provider: { name: "cpu", deviceId: 0 },
  threads: 1,
  warmShapes: { keys: [""], firstThatWorks: false },
  known: null,
  profileBudgetMs: 1,
} as const;

const SEQUENCE = { lengths: [8], lengthMax: 8, mask: null, pad: {}, outputAxes: {} };

function version(batched: boolean, batchedAsserted: boolean): ModelVersion {
  const inputs = ["x", "constructor"].map((name) => ({ name, datatype: "FP32", shape: [-1, 2] }));
  const settings = { buckets: null, warmValues: { x: 7 } };
  return { key: "m/1", inputs, outputs: [], batched, batchedAsserted, sequence: SEQUENCE, settings } as never;
}

test("batching and padding are tried when a model is first loaded, and batching only where nobody has asserted it", () => {
  const first = loadRequest(version(true, false), false, HOW);
  assert.deepEqual([first.tryBatching, first.sequence], [true, SEQUENCE]);
  assert.equal(loadRequest(version(true, true), false, HOW).tryBatching, false);
  assert.equal(loadRequest(version(false, false), false, HOW).tryBatching, false);
  const again = loadRequest(version(true, false), true, HOW);
  assert.deepEqual([again.tryBatching, again.sequence], [false, null]);
});

test("values of trial runs are those that are named, by input", () => {
  assert.deepEqual(loadRequest(version(true, false), false, HOW).warmValues, [7, null]);
});
