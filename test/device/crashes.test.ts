import assert from "node:assert/strict";
import { test } from "node:test";
import { CRASHES_MAX, CrashedBeside, loadInSpiteOfOthers } from "../../daemon/device/crashes.ts";
import { LoadError } from "../../daemon/device/load-error.ts";

test("a model is loaded in spite of as many crashes by another as that one is given", async () => {
  let left = CRASHES_MAX;
  const loaded = await loadInSpiteOfOthers(async () => {
    if (left-- > 0) throw new CrashedBeside("crashed", "the lane's process died");
    return "loaded";
  });
  assert.equal(loaded, "loaded");
});

test("a load that crashes without end, or by itself, fails", async () => {
  let tries = 0;
  const beside = loadInSpiteOfOthers(async () => {
    tries++;
    throw new CrashedBeside("crashed", "the lane's process died");
  });
  await assert.rejects(beside, CrashedBeside);
  assert.equal(tries, CRASHES_MAX + 1);
  const alone = loadInSpiteOfOthers(async () => {
    tries++;
    throw new LoadError("crashed", "the lane's process died");
  });
  await assert.rejects(alone, /the lane's process died/);
  assert.equal(tries, CRASHES_MAX + 2);
});
