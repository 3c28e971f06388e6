import assert from "node:assert/strict";
import { test } from "node:test";
import { LanePlan } from "../../daemon/scheduler/group.ts";
import { largestWithin, ProfileTable } from "../../daemon/scheduler/profiles.ts";
import { ArrivalRate } from "../../daemon/scheduler/rates.ts";

const steps = [
  { bucket: 1, us: 1000 },
  { bucket: 4, us: 1600 },
  { bucket: 16, us: 4000 },
];

test("items cost what the bucket that holds them costs", () => {
  const table = new ProfileTable(steps, 16);
  assert.deepEqual(
    [1, 2, 4, 5, 16].map((items) => table.us[items]),
    [1000, 1600, 1600, 4000, 4000],
  );
  assert.deepEqual(
    [1, 2, 5].map((items) => table.bucket[items]),
    [1, 4, 16],
  );
});

test("a batch never exceeds the model's largest, nor the largest bucket", () => {
  assert.equal(new ProfileTable(steps, 10).cap, 10);
  assert.equal(new ProfileTable(steps, 99).cap, 16);
});

test("padding that wastes more than waiting is avoided: five items run as four", () => {
  const table = new ProfileTable(steps, 16);
  assert.equal(table.best[5], 4);
  assert.equal(table.best[4], 4);
  assert.equal(table.best[16], 16);
  assert.equal(table.best[11], 11, "eleven in sixteen cost less each than four in four");
});

test("the largest batch within a time is found on a staircase", () => {
  const { us } = new ProfileTable(steps, 16);
  assert.deepEqual(
    [999, 1000, 1599, 1600, 3999, 4000].map((room) => largestWithin(us, 16, room)),
    [0, 1, 1, 4, 4, 16],
  );
  assert.equal(largestWithin(us, 3, 10_000), 3);
  assert.equal(largestWithin(us, 0, 10_000), 0);
});

test("exact executions leave the profile as it was, without a margin", () => {
  const table = new ProfileTable(steps, 16);
  for (let i = 0; i < 200; i++) for (const { bucket, us } of steps) table.observe(bucket, us, 0);
  for (const { bucket, us } of steps) {
    assert.ok(Math.abs(table.us[bucket]! - us) < 0.01);
    assert.equal(table.safeUs[bucket], table.us[bucket]);
  }
});

test("a profile that was wrong is learnt from what executions take", () => {
  const table = new ProfileTable(steps, 16);
  for (let i = 0; i < 100; i++) table.observe(4, 2400, 0);
  assert.ok(Math.abs(table.us[4]! - 2400) < 60, `bucket 4: ${table.us[4]}`);
  assert.ok(table.us[16]! > 5000, "what was never seen follows the others of its table");
  assert.ok(table.us[1]! <= table.us[4]! && table.us[4]! <= table.us[16]!);
});

test("the margin grows with noise and fades when it is gone", () => {
  const table = new ProfileTable(steps, 16);
  const margin = (): number => table.safeUs[4]! / table.us[4]! - 1;
  for (let i = 0; i < 300; i++) table.observe(4, i % 2 === 0 ? 1760 : 1440, 0);
  assert.ok(margin() > 0.08 && margin() < 0.2, `${margin()}`);
  for (let i = 0; i < 300; i++) table.observe(4, 1600, 0);
  assert.ok(margin() < 0.01, `${margin()}`);
});

test("what was learnt is doubted where it shuts out what the given profile lets in, after a while without executions", () => {
  const table = new ProfileTable(steps, 16);
  for (let i = 0; i < 100; i++) table.observe(4, 4800, 0);
  const learnt = table.us[4]!;
  assert.ok(learnt > 4500);
  assert.equal(table.doubt(4, 2000, 999_999), false, "too soon");
  assert.equal(table.doubt(4, 1500, 5_000_000), false, "the given profile takes longer as well");
  assert.equal(table.doubt(4, 5000, 5_000_000), false, "it is not shut out");
  assert.equal(table.us[4], learnt);
  assert.equal(table.doubt(4, 2000, 5_000_000), true);
  assert.equal(table.us[4], 1600);
  // Where it was right, a few executions say so again, and it takes longer until the next doubt.
  for (let i = 0; i < 4; i++) table.observe(4, 4800, 5_000_000);
  assert.ok(table.us[4]! > 4000, `${table.us[4]}`);
  assert.equal(table.doubt(4, 2000, 6_500_000), false);
  assert.equal(table.doubt(4, 2000, 7_000_000), true);
});

test("one hiccup moves a profile little", () => {
  const table = new ProfileTable(steps, 16);
  for (let i = 0; i < 50; i++) table.observe(4, 1600, 0);
  table.observe(4, 1_000_000, 0);
  assert.ok(table.us[4]! < 1.2 * 1600);
});

test("the target is the largest batch whose items arrive in time", () => {
  const plan = new LanePlan(
    new ProfileTable(
      Array.from({ length: 64 }, (_, i) => ({ bucket: i + 1, us: 1000 * (i + 1) + 5000 })),
      64,
    ),
    false,
  );
  plan.aim(0.0001, 50_000);
  assert.equal(plan.target, 5, "5 items: 10 ms to run, 40 ms to arrive");
  plan.aim(0, 50_000);
  assert.equal(plan.target, 1);
  plan.aim(1, 1_000_000);
  assert.equal(plan.target, 64);
});

test("arrival rates settle at the true rate and decay when arrivals stop", () => {
  const rate = new ArrivalRate();
  for (let t = 0; t < 10_000_000; t += 10_000) rate.observe(2, t);
  assert.ok(Math.abs(rate.read(10_000_000) * 1e6 - 200) < 4);
  assert.ok(rate.read(20_000_000) * 1e6 < 2);
});

test("a rate is usable soon after the first arrivals", () => {
  const rate = new ArrivalRate();
  for (let t = 0; t <= 300_000; t += 10_000) rate.observe(1, t);
  assert.ok(Math.abs(rate.read(300_000) * 1e6 - 100) < 20, `${rate.read(300_000) * 1e6}`);
});
