import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { chooseLengths } from "../../daemon/device/lengths.ts";

describe("choosing lengths to pad to", () => {
  it("halves the steps at which time grows with the length", async () => {
    const measured: number[] = [];
    const lengths = await chooseLengths(64, async (length) => {
      measured.push(length);
      return 1000 * length;
    });
    assert.deepEqual(lengths, [16, 24, 32, 48, 64]);
    assert.deepEqual(measured, [16, 32, 64, 24, 48]);
  });

  it("leaves out lengths whose padding to the next is as good as free", async () => {
    const us = new Map([
      [16, 1000],
      [32, 1050],
      [64, 1080],
      [128, 1400],
      [200, 1900],
    ]);
    assert.deepEqual(await chooseLengths(200, async (length) => us.get(length)!), [64, 128, 200]);
  });

  it("passes over lengths at which the model fails, and rejects where it fails at all", async () => {
    const upTo = (longest: number) => async (length: number) => {
      if (length > longest) throw new Error(`no position ${longest}`);
      return 1000 * length;
    };
    assert.deepEqual(await chooseLengths(512, upTo(40)), [16, 24, 32]);
    await assert.rejects(chooseLengths(512, upTo(4)), /no position 4/);
  });
});
