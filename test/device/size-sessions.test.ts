import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import {
  changesAreCostly,
  kindsToSeparate,
  mayPlanAnew,
  modelBytes,
  sizesWithRoom,
} from "../../daemon/device/size-sessions.ts";
import type { TrialRun } from "../../daemon/device/warm-up.ts";
import { tempDir } from "../config/temp-dir.ts";

const SIZES = { buckets: [1, 4, 16], profiles: { "": [] } };

/** What takes `sameUs` after a batch of its own size, and `changeUs` more after another. */
function session(sameUs: number, changeUs: number): TrialRun {
  let last = 0;
  return async (_shape, bucket) => {
    const us = sameUs + (bucket === last ? 0 : changeUs);
    last = bucket;
    return us;
  };
}

test("changes of the batch size are costly where they take milliseconds, and more than the execution", async () => {
  assert.equal(await changesAreCostly(SIZES, session(700, 47_000)), true);
  assert.equal(await changesAreCostly(SIZES, session(700, 500)), false);
  assert.equal(await changesAreCostly(SIZES, session(20_000, 5_000)), false);
  assert.equal(await changesAreCostly({ ...SIZES, buckets: [8] }, session(700, 47_000)), false);
});

test("a hiccup is not taken for a cost", async () => {
  let runs = 0;
  const hiccups: TrialRun = async () => (++runs === 2 ? 50_000 : 700);
  assert.equal(await changesAreCostly(SIZES, hiccups), false);
});

test("all sizes but the last get a session", () => {
  const shapes = { buckets: [1, 2], profiles: { "x:8": [], "x:16": [] } };
  assert.deepEqual(
    kindsToSeparate(SIZES, 1e6).map(({ bucket }) => bucket),
    [1, 4],
  );
  assert.deepEqual(kindsToSeparate(shapes, 1e6), [
    { shape: "x:8", bucket: 1 },
    { shape: "x:8", bucket: 2 },
    { shape: "x:16", bucket: 1 },
  ]);
});

test("where there is no room for all sizes, some are left out, but never the smallest and the largest", () => {
  const buckets = [1, 2, 4, 8, 12, 16, 24, 32];
  const warmed = { buckets, profiles: { "": buckets.map((bucket) => ({ bucket, us: bucket * 100 })) } };
  const left = (modelBytes: number): readonly number[] => {
    const kept = sizesWithRoom(warmed, modelBytes);
    assert.deepEqual(
      kept.profiles[""]!.map(({ bucket }) => bucket),
      kept.buckets,
    );
    assert.equal(kindsToSeparate(kept, modelBytes).length, modelBytes > 2 ** 31 ? 0 : kept.buckets.length - 1);
    return kept.buckets;
  };
  assert.deepEqual(left(100e6), buckets);
  assert.deepEqual(left(500e6), [1, 4, 12, 16, 32]);
  assert.deepEqual(left(1e9), [1, 12, 32]);
  assert.deepEqual(left(2e9), [1, 32]);
  assert.deepEqual(left(3e9), buckets);
});

test("a model's bytes are those of all files beside it", (t) => {
  const folder = tempDir(t);
  mkdirSync(path.join(folder, "weights"));
  writeFileSync(path.join(folder, "model.onnx"), "12345");
  writeFileSync(path.join(folder, "weights", "w.bin"), "123");
  assert.equal(modelBytes(path.join(folder, "model.onnx")), 8);
});

test("only CUDA plans anew", () => {
  const asked = (["cuda", "webgpu", "cpu"] as const).map((name) => mayPlanAnew({ name, deviceId: 0 }));
  assert.deepEqual(asked, [true, false, false]);
});
