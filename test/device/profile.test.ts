import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { bucketsToAdd, monotoneProfile, powerOfTwoBuckets, scaledProfile } from "../../daemon/device/profile.ts";
import { CPU_PROVIDER } from "../../daemon/device/provider.ts";
import { warmUp } from "../../daemon/device/warm-up.ts";

const REQUEST = {
  inputs: [],
  batched: true,
  sequence: null,
  maxBatchSize: 32,
  buckets: null,
  warmShapes: { keys: [""], firstThatWorks: false },
  known: null,
  profileBudgetMs: 100,
  provider: CPU_PROVIDER,
};

describe("profile", () => {
  it("is ascending in bucket and time whatever was measured", () => {
    const points = fc.uniqueArray(
      fc.record({ bucket: fc.integer({ min: 1, max: 64 }), us: fc.integer({ min: 0, max: 1e6 }) }),
      { minLength: 1, selector: ({ bucket }) => bucket },
    );
    fc.assert(
      fc.property(points, (measured) => {
        const profile = monotoneProfile(measured);
        assert.equal(profile.length, measured.length);
        for (const [index, point] of profile.entries()) {
          assert.ok(Number.isInteger(point.us) && point.us > (profile[index - 1]?.us ?? 0));
          assert.ok(point.bucket > (profile[index - 1]?.bucket ?? 0));
        }
      }),
    );
  });

  it("evens out a larger batch that seemed cheaper, and keeps the rest", () => {
    const measured = [10, 30, 20, 50].map((us, index) => ({ bucket: 2 ** index, us: us * 100 }));
    const us = monotoneProfile(measured).map((point) => point.us);
    assert.deepEqual(us, [1000, 2500, 2501, 5000]);
  });

  it("keeps ascending when scaled", () => {
    const profile = [1, 2, 4].map((bucket) => ({ bucket, us: 100 * bucket }));
    assert.deepEqual(
      scaledProfile(profile, 0.001).map(({ us }) => us),
      [1, 2, 3],
    );
  });
});

describe("buckets", () => {
  it("are powers of two and the largest batch", () => {
    assert.deepEqual(powerOfTwoBuckets(1), [1]);
    assert.deepEqual(powerOfTwoBuckets(8), [1, 2, 4, 8]);
    assert.deepEqual(powerOfTwoBuckets(12), [1, 2, 4, 8, 12]);
  });

  it("are added in the middle of steps where time grows with the batch", () => {
    const steep = [1, 2, 4, 8].map((bucket) => ({ bucket, us: 1000 * bucket }));
    assert.deepEqual(bucketsToAdd(steep), [3, 6]);
    const flat = [1, 2, 4, 8].map((bucket) => ({ bucket, us: 1000 + bucket }));
    assert.deepEqual(bucketsToAdd(flat), []);
  });
});

describe("warm-up", () => {
  it("measures every bucket, adding those that save padding", async () => {
    const seen = new Set<number>();
    const { buckets, profiles, coldShapes } = await warmUp(REQUEST, async (_shape, bucket) => {
      seen.add(bucket);
      return bucket < 8 ? 1000 + bucket : 500 * bucket;
    });
    assert.deepEqual(buckets, [1, 2, 4, 6, 8, 12, 16, 24, 32]);
    assert.deepEqual(
      [...seen].sort((a, b) => a - b),
      buckets,
    );
    assert.deepEqual(profiles[""]!.at(-1), { bucket: 32, us: 16_000 });
    assert.deepEqual(coldShapes, []);
  });

  it("takes the buckets it is given, and profiles that are known without measuring", async () => {
    const given = await warmUp({ ...REQUEST, buckets: [1, 5, 32] }, async (_shape, bucket) => bucket);
    assert.deepEqual(given.buckets, [1, 5, 32]);
    const known = {
      buckets: [1, 32],
      profiles: {
        "": [
          { bucket: 1, us: 7 },
          { bucket: 32, us: 70 },
        ],
      },
    };
    for (const [provider, runsWanted] of [
      [CPU_PROVIDER, 2],
      [{ name: "cuda", deviceId: 0 }, 4],
    ] as const) {
      let runs = 0;
      const warmed = await warmUp({ ...REQUEST, known, provider }, async () => ++runs);
      assert.deepEqual(warmed.profiles, known.profiles);
      assert.equal(runs, runsWanted);
    }
  });

  it("runs long batches few times", async () => {
    let runs = 0;
    await warmUp({ ...REQUEST, buckets: [32] }, async () => {
      runs++;
      return 2_000_000;
    });
    assert.equal(runs, 2);
  });

  it("names the shapes that fail, and goes on with the others", async () => {
    const warmShapes = { keys: ["x:1", "x:2", "x:3"], firstThatWorks: false };
    const result = await warmUp({ ...REQUEST, warmShapes }, async (shape) => {
      if (shape === "x:2") throw new Error("no such size");
      return 1000;
    });
    assert.deepEqual(Object.keys(result.profiles), ["x:1", "x:3"]);
    assert.deepEqual(result.coldShapes, [{ shape: "x:2", message: "no such size" }]);
  });

  it("stops at the first guess that works, and rejects where none does", async () => {
    const warmShapes = { keys: ["x:1", "x:2", "x:3"], firstThatWorks: true };
    const result = await warmUp({ ...REQUEST, warmShapes }, async (shape) => {
      if (shape === "x:1") throw new Error("too small");
      return 1000;
    });
    assert.deepEqual(Object.keys(result.profiles), ["x:2"]);
    await assert.rejects(
      warmUp({ ...REQUEST, warmShapes }, async (shape) => {
        throw new Error(`not ${shape}`);
      }),
      /not x:3/,
    );
  });
});
