import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TrafficSplit } from "../../daemon/lifecycle/traffic.ts";

const allUp = (): boolean => true;

function counts(chosen: readonly (number | null)[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const version of chosen) found[String(version)] = (found[String(version)] ?? 0) + 1;
  return found;
}

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

describe("traffic among versions", () => {
  test("is shared out exactly, whatever the unit of shares, and evenly over time", () => {
    const split = new TrafficSplit("m", [
      { version: 2, share: 9 },
      { version: 3, share: 3 },
    ]);
    const chosen = times(120, () => split.choose(allUp, null));
    assert.deepEqual(counts(chosen), { 2: 90, 3: 30 });
    for (let at = 0; at < 120; at += 4) assert.deepEqual(counts(chosen.slice(at, at + 4)), { 2: 3, 3: 1 });
    const parts = (isEligible: (version: number) => boolean) => [2, 3, 4].map((one) => split.partOf(one, isEligible));
    assert.deepEqual(parts(allUp), [0.75, 0.25, 0]);
    const onlyThree = parts((version) => version === 3);
    assert.deepEqual(onlyThree, [0, 1, 0]);
  });

  test("goes to those that are up, and to none of no share", () => {
    const split = new TrafficSplit("m", [
      { version: 1, share: 0 },
      { version: 2, share: 1 },
      { version: 3, share: 2 },
      { version: 4, share: 1 },
    ]);
    const withoutThree = times(40, () => split.choose((version) => version !== 3, null));
    assert.deepEqual(counts(withoutThree), { 2: 20, 4: 20 });
    assert.equal(
      split.choose((version) => version === 1, null),
      null,
    );
    assert.deepEqual(counts(times(40, () => split.choose(allUp, null))), { 2: 10, 3: 20, 4: 10 });
  });

  test("of one key stays with one version, and keys move only to the version whose share grows", () => {
    const shares = (two: number, three: number) => [
      { version: 2, share: two },
      { version: 3, share: three },
    ];
    const before = new TrafficSplit("m", shares(0.9, 0.1));
    const after = new TrafficSplit("m", shares(0.7, 0.3));
    let onThree = 0;
    let moved = 0;
    for (let user = 0; user < 2000; user++) {
      const first = before.choose(allUp, `user ${user}`);
      assert.equal(before.choose(allUp, `user ${user}`), first);
      const second = after.choose(allUp, `user ${user}`);
      if (first === 3) assert.equal(second, 3);
      if (second === 3) onThree++;
      if (second !== first) moved++;
    }
    // A share of the keys, not of each 100: 600 and 400 expected, with deviations of 20 and 18.
    assert.ok(onThree > 500 && onThree < 700, `${onThree} of 2000 keys on a version with 30 %`);
    assert.ok(moved > 310 && moved < 490, `${moved} of 2000 keys moved for 20 %`);
  });

  test("without a version named, the one with the largest share speaks for the model", () => {
    const split = new TrafficSplit("m", [
      { version: 2, share: 0.9 },
      { version: 3, share: 0.1 },
    ]);
    assert.equal(split.main(allUp), 2);
    assert.equal(
      split.main((version) => version !== 2),
      3,
    );
    assert.equal(
      split.main(() => false),
      null,
    );
    const rolledBack = new TrafficSplit("m", [
      { version: 2, share: 1 },
      { version: 3, share: 0 },
    ]);
    const withoutTwo = rolledBack.main((version) => version === 3);
    assert.equal(withoutTwo, null);
  });
});
