import assert from "node:assert/strict";
import { test } from "node:test";
import { divideCores, replicasByDefault, usesReplicas } from "../../daemon/cores.ts";
import { mergeWarmed } from "../../daemon/cpu/merge-warmed.ts";
import { bestSplit, candidateSplits, describeSplits, type MeasuredSplit } from "../../daemon/cpu/splits.ts";
import type { WarmedModel } from "../../daemon/device/messages.ts";
import type { ModelVersion } from "../../daemon/repository/model.ts";

const text = (splits: readonly { replicas: number; threads: number }[]) =>
  splits.map(({ replicas, threads }) => `${replicas}×${threads}`);

test("cores are divided into many replicas of one thread down to one of all threads", () => {
  assert.deepEqual(text(candidateSplits(1, null)), ["1×1"]);
  assert.deepEqual(text(candidateSplits(2, null)), ["2×1", "1×2"]);
  assert.deepEqual(text(candidateSplits(6, null)), ["6×1", "3×2", "1×4", "1×6"]);
  assert.deepEqual(text(candidateSplits(64, null)), ["64×1", "32×2", "16×4", "1×64"]);
  assert.deepEqual(text(candidateSplits(8, 3)), ["2×3"]);
  assert.deepEqual(text(candidateSplits(2, 4)), ["1×4"]);
});

function measured(replicas: number, threads: number, ...profile: [bucket: number, ms: number][]): MeasuredSplit {
  return { split: { replicas, threads }, profile: profile.map(([bucket, ms]) => ({ bucket, us: ms * 1000 })) };
}

test("the split with the most items a second within the SLO is kept, and what it was kept over is told", () => {
  const many = measured(4, 1, [1, 40], [8, 200]);
  const one = measured(1, 4, [1, 12], [8, 60]);
  assert.equal(bestSplit([many, one], null), many);
  assert.equal(bestSplit([many, one], 1000_000), many);
  assert.equal(bestSplit([many, one], 130_000), one);
  assert.equal(bestSplit([many, one], 1_000), one, "none meets it: the quickest single item");
  assert.equal(
    describeSplits([many, one], one, 130_000),
    "1 × 4 threads (133 items/s), kept over 4 × 1 thread (100 items/s)",
  );
  assert.match(describeSplits([many, one], one, 1_000), /misses the SLO.*misses the SLO/);
});

test("what replicas measured side by side becomes one profile: the median of each bucket that all have", () => {
  const warmed = (slotBytes: number, ...profile: [number, number][]): WarmedModel => ({
    buckets: profile.map(([bucket]) => bucket),
    profiles: { "": profile.map(([bucket, us]) => ({ bucket, us })) },
    coldShapes: [],
    padding: null,
    unbatchedOutputs: [],
    mixedOutputs: [],
    separated: null,
    slotBytes,
    createUs: 1,
    warmUpUs: 1,
  });
  const merged = mergeWarmed([
    warmed(64, [1, 10], [2, 18], [4, 30]),
    warmed(128, [1, 12], [4, 34]),
    warmed(64, [1, 20], [4, 32]),
  ]);
  assert.deepEqual(merged.buckets, [1, 4]);
  assert.deepEqual(merged.profiles[""], [
    { bucket: 1, us: 12 },
    { bucket: 4, us: 32 },
  ]);
  assert.equal(merged.slotBytes, 128);
});

test("one core is left to the event loop; the rest is divided between lane and pool", () => {
  const auto = { laneThreads: null, poolCores: null };
  const cpuLane = { onCpu: true, needed: true };
  assert.deepEqual(divideCores(auto, cpuLane, false, 8), { laneThreads: 7, poolCores: 0 });
  assert.deepEqual(divideCores(auto, cpuLane, true, 8), { laneThreads: 4, poolCores: 3 });
  assert.deepEqual(divideCores(auto, cpuLane, true, 2), { laneThreads: 1, poolCores: 1 });
  assert.deepEqual(divideCores(auto, { onCpu: true, needed: false }, true, 8), { laneThreads: 1, poolCores: 7 });
  assert.deepEqual(divideCores(auto, { onCpu: false, needed: true }, true, 8), { laneThreads: 1, poolCores: 7 });
  assert.deepEqual(divideCores(auto, cpuLane, false, 1), { laneThreads: 1, poolCores: 0 });
  assert.deepEqual(divideCores({ laneThreads: 3, poolCores: 2 }, cpuLane, true, 8), { laneThreads: 3, poolCores: 2 });
});

test("models get replicas for spill-over where the pool has cores of its own, or where they ask for some", () => {
  const version = (device: string, replicas: number | "auto") => ({ settings: { device, replicas } }) as ModelVersion;
  const uses = (poolCores: number | null, deviceIsCpu: boolean) => {
    const byDefault = replicasByDefault({ laneThreads: null, poolCores }, deviceIsCpu);
    const asked = [version("auto", "auto"), version("auto", 2), version("cpu", "auto"), version("gpu", 2)];
    return asked.map((one) => usesReplicas(one, byDefault));
  };
  assert.deepEqual(uses(null, false), [true, true, true, false]);
  assert.deepEqual(uses(4, false), [true, true, true, false]);
  assert.deepEqual(uses(4, true), [false, true, true, false]);
  assert.deepEqual(uses(0, false), [false, true, true, false]);
});
