import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { HostedModel, type HostOptions } from "../../daemon/device/hosted-model.ts";
import type { LoadRequest } from "../../daemon/device/messages.ts";
import type { SizeCosts } from "../../daemon/device/size-sessions.ts";
import type { Turn } from "../../daemon/device/token.ts";
import type { TrialMemory } from "../../daemon/device/trial-memory.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { tempDir } from "../config/temp-dir.ts";

const atOnce: Turn = (use) => use();

function requestFor(t: TestContext, bytes: Uint8Array): LoadRequest {
  const file = path.join(tempDir(t), "model.onnx");
  writeFileSync(file, bytes);
  const spec = (name: string) => ({ name, datatype: "FP32", shape: [-1, 4] }) as const;
  return {
    model: "m/1",
    path: file,
    inputs: [spec("x")],
    outputs: [spec("y")],
    batched: true,
    tryBatching: true,
    maxBatchSize: 4,
    sequence: null,
    provider: { name: "cpu", deviceId: 0 },
    threads: 1,
    buckets: [1, 2, 4],
    warmShapes: { keys: [""], firstThatWorks: false },
    warmValues: [null],
    known: null,
    profileBudgetMs: 10,
  };
}

async function hosted(t: TestContext, options: HostOptions) {
  const sizes: string[] = [];
  const request = requestFor(t, addOne());
  const loaded = await HostedModel.load(request, atOnce, (activity) => void sizes.push(activity), options);
  t.after(() => loaded.model.release());
  return { ...loaded, sizes };
}

test("batches of all sizes are answered by sessions of their own", async (t) => {
  const {
    model,
    warmed: found,
    sizes,
  } = await hosted(t, { costs: { changeUs: async () => 9_000, hasRoomFor: () => true } });
  assert.deepEqual(found.separated, { sessions: 3, costUs: 9_000, dropped: [], problem: null });
  assert.deepEqual(sizes.slice(-2), ["session of its own for batches of 1", "session of its own for batches of 2"]);
  for (const bucket of [1, 4, 2, 4, 1, 2]) {
    const slot = new ArrayBuffer(4096);
    new Float32Array(slot).set(Array.from({ length: 4 * bucket }, (_, i) => i + bucket));
    const { outputs } = await model.execute(slot, "", bucket, new Uint8Array(), atOnce);
    const { offset } = outputs[0]!;
    const answer = [...new Float32Array(slot, offset, 4 * bucket)];
    assert.deepEqual(
      answer,
      Array.from({ length: 4 * bucket }, (_, i) => i + bucket + 1),
    );
  }
});

test("where the device has no room a model is served by the sessions that there are, and says so", async (t) => {
  let rooms = 1;
  const costs: SizeCosts = { changeUs: async () => 9_000, hasRoomFor: () => rooms-- > 0 };
  const { warmed: found } = await hosted(t, { costs });
  assert.deepEqual(found.separated, {
    sessions: 2,
    costUs: 9_000,
    dropped: [],
    problem: "the device has no memory to spare",
  });
  assert.deepEqual(found.buckets, [1, 2, 4]);
});

test("where a change costs nothing one session does", async (t) => {
  const { warmed: found } = await hosted(t, { costs: { changeUs: async () => 0, hasRoomFor: () => true } });
  assert.equal(found.separated, null);
});

/** Remembers what was taken and not yet given back, and all that was ever taken. */
class WatchedMemory implements TrialMemory {
  readonly out = new Set<ArrayBuffer>();
  readonly taken: ArrayBuffer[] = [];

  take(bytes: number): ArrayBuffer {
    const buffer = new ArrayBuffer(bytes);
    this.out.add(buffer);
    this.taken.push(buffer);
    return buffer;
  }

  giveBack(buffer: ArrayBuffer): void {
    assert.ok(this.out.delete(buffer), "what was taken, once");
  }
}

test("trial runs read and write the memory that they are given, which is given back", async (t) => {
  const trialMemory = new WatchedMemory();
  const { model, warmed: found } = await hosted(t, { trialMemory });
  assert.equal(trialMemory.out.size, 0);
  const last = trialMemory.taken.at(-1)!;
  assert.equal(last.byteLength, found.slotBytes, "of the largest batch, outputs included");
  const inputs = new Float32Array(last, 0, 16);
  const outputs = new Float32Array(last, last.byteLength - 64, 16);
  assert.deepEqual(
    [...outputs],
    [...inputs].map((x) => Math.fround(x + 1)),
  );
  assert.notEqual(inputs[0], inputs[1], "made up");

  assert.ok((await model.warm({ type: "warm", model: "m/1", shape: "", bucket: 3, budgetMs: 1 })) > 0);
  assert.equal(trialMemory.out.size, 0);
});

test("where no trial run succeeds their memory is given back as well", async (t) => {
  const trialMemory = new WatchedMemory();
  const request = { ...requestFor(t, addOne()), warmShapes: { keys: ["x:5"], firstThatWorks: true } };
  await assert.rejects(
    HostedModel.load(request, atOnce, () => {}, { trialMemory }),
    /no trial run succeeded/,
  );
  assert.equal(trialMemory.out.size, 0);
});
