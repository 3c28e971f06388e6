import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { ProfileCache, type ProfileIdentity } from "../../daemon/device/profile-cache.ts";
import { tempDir } from "../config/temp-dir.ts";

const IDENTITY: ProfileIdentity = {
  modelHash: "0",
  runtimeVersion: "1",
  device: "cpu",
  threads: 1,
  maxBatchSize: 4,
  buckets: null,
  batched: true,
  lengthMax: null,
  warmValues: {},
};
const PROFILES = { buckets: [1, 4], profiles: { "": [1, 4].map((bucket) => ({ bucket, us: 100 * bucket })) } };

test("what was written is read again, from a folder that is made for it", async (t) => {
  const cache = new ProfileCache(path.join(tempDir(t), "made", "for", "it"));
  assert.equal(await cache.read(IDENTITY), null);
  await Promise.all([cache.write(IDENTITY, PROFILES), cache.write({ ...IDENTITY, threads: 2 }, PROFILES)]);
  assert.deepEqual(await cache.read(IDENTITY), PROFILES);
  assert.equal(await cache.read({ ...IDENTITY, threads: 3 }), null);
  assert.equal(await cache.read({ ...IDENTITY, warmValues: { steps: 50 } }), null);
});

test("where no folder can be made, writing rejects and does not wait for ever", {
  skip: !existsSync("/proc/self"),
  timeout: 20_000,
}, async () => {
  for (const folder of ["/proc/none", "/proc/none/below"]) {
    await assert.rejects(new ProfileCache(folder).write(IDENTITY, PROFILES), { code: "ENOENT" });
  }
});
