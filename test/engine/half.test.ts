import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHalf, toHalf } from "../../daemon/engine/half.ts";

test("every finite half is what its number is turned into", () => {
  for (let bits = 0; bits < 2 ** 16; bits++) {
    const value = fromHalf(bits);
    if (!Number.isFinite(value) || Object.is(value, -0)) continue;
    assert.equal(toHalf(value), bits);
  }
});

test("numbers between two halves become the nearest, and what is larger than all becomes none", () => {
  assert.equal(fromHalf(toHalf(0.1)!), 0.0999755859375);
  assert.equal(fromHalf(toHalf(-2047.6)!), -2048);
  assert.equal(fromHalf(toHalf(1e-9)!), 0);
  assert.deepEqual([toHalf(65_504), toHalf(65_505), toHalf(Number.POSITIVE_INFINITY)], [0x7bff, null, null]);
});
