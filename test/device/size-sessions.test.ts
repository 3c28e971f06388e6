import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { KnownProfiles } from "../../daemon/device/messages.ts";
import { changeUs, hasRoomFor, modelBytes, planSessions, withoutSizes } from "../../daemon/device/size-sessions.ts";
import type { TrialRun } from "../../daemon/device/warm-up.ts";
import { tempDir } from "../config/temp-dir.ts";

/** Sizes of one shape, that take 0.1 ms an item. */
function warmed(buckets: readonly number[], shapes: readonly string[] = [""]): KnownProfiles {
  const profile = buckets.map((bucket) => ({ bucket, us: 100 * bucket }));
  return { buckets, profiles: Object.fromEntries(shapes.map((shape) => [shape, profile])) };
}

/** What takes `sameUs` after a batch of its own kind, and `costUs` more after another. */
function session(sameUs: number, costUs: number): TrialRun {
  let last = "";
  return async (shape, bucket) => {
    const kind = `${shape} ${bucket}`;
    const us = sameUs + (kind === last ? 0 : costUs);
    last = kind;
    return us;
  };
}

test("a change costs something where it takes milliseconds, and more than the execution", async () => {
  assert.equal(await changeUs(warmed([1, 4, 16]), session(700, 47_000)), 47_000);
  assert.equal(await changeUs(warmed([1, 4, 16]), session(700, 500)), 0);
  assert.equal(await changeUs(warmed([1, 4, 16]), session(20_000, 5_000)), 0);
  assert.equal(await changeUs(warmed([8]), session(700, 47_000)), 0);
  assert.equal(await changeUs(warmed([1], ["x:8", "x:16"]), session(700, 47_000)), 47_000, "of the shape alone");
});

test("a hiccup is not taken for a cost", async () => {
  let runs = 0;
  assert.equal(await changeUs(warmed([1, 16]), async () => (++runs === 2 ? 50_000 : 700)), 0);
});

const MIB = 2 ** 20;

test("where there is room for all, all kinds but the last get a session", () => {
  const how = { modelBytes: 100 * MIB, costUs: 40_000, mayDrop: true };
  assert.deepEqual(planSessions(warmed([1, 4, 16]), how), {
    separate: [
      { shape: "", bucket: 1 },
      { shape: "", bucket: 4 },
    ],
    dropped: [],
  });
  assert.deepEqual(planSessions(warmed([1, 2], ["x:8", "x:16"]), how).separate, [
    { shape: "x:8", bucket: 1 },
    { shape: "x:8", bucket: 2 },
    { shape: "x:16", bucket: 1 },
  ]);
});

test("where there is not, sizes are dropped if to pad takes less than to change, and share a session if not", () => {
  const buckets = [1, 2, 4, 8, 12, 16, 24, 32];
  const plan = (modelMib: number, costUs: number, mayDrop = true): [number[], readonly number[]] => {
    const { separate, dropped } = planSessions(warmed(buckets), { modelBytes: modelMib * MIB, costUs, mayDrop });
    return [separate.map(({ bucket }) => bucket), dropped];
  };
  assert.deepEqual(plan(500, 40_000), [
    [1, 4, 12, 16],
    [2, 8, 24],
  ]);
  assert.deepEqual(plan(1000, 2_050), [
    [1, 12],
    [2, 4, 8, 16, 24],
  ]);
  // 12 items padded to 32 take 2 ms longer.
  assert.deepEqual(plan(2000, 1_900), [[1], [16, 24]]);
  assert.deepEqual(plan(2000, 1_900, false), [[1], []]);
  // One session for all sizes would change with nearly every batch.
  assert.deepEqual(plan(5000, 40_000), [[], [1, 2, 4, 8, 12, 16, 24]]);
  assert.deepEqual(plan(5000, 1_000), [[], [24]]);
});

test("of what was warmed the dropped sizes go", () => {
  const left = withoutSizes(warmed([1, 2, 4], ["a", "b"]), [2]);
  assert.deepEqual(left, warmed([1, 4], ["a", "b"]));
});

test("a copy has room where it leaves a quarter of the device", () => {
  const memory = (freeBytes: number) => () => ({ freeBytes, totalBytes: 100 });
  assert.equal(hasRoomFor(10, memory(35)), true);
  assert.equal(hasRoomFor(10, memory(34)), false);
  assert.equal(
    hasRoomFor(10, () => {
      throw new Error("no driver");
    }),
    false,
  );
});

test("a model's bytes are those of all files beside it, also behind links", (t) => {
  const folder = tempDir(t);
  const version = path.join(folder, "1");
  mkdirSync(path.join(version, "weights"), { recursive: true });
  writeFileSync(path.join(folder, "shared.onnx"), "12345");
  symlinkSync("../shared.onnx", path.join(version, "model.onnx"));
  writeFileSync(path.join(version, "weights", "w.bin"), "123");
  assert.equal(modelBytes(path.join(version, "model.onnx")), 8);
  assert.equal(modelBytes(path.join(folder, "none", "model.onnx")), Number.POSITIVE_INFINITY);
});
