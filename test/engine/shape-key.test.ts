import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hasVaryingShape, shapeKey, shapesOfKey } from "../../daemon/engine/shape-key.ts";
import type { TensorSpec } from "../../daemon/engine/tensors.ts";

function input(name: string, shape: readonly number[]): TensorSpec {
  return { name, datatype: "FP32", shape };
}

describe("shape key", () => {
  it("is empty where only the batch dimension varies", () => {
    const model = { inputs: [input("x", [-1, 3, 8]), input("y", [-1])], batched: true };
    assert.equal(hasVaryingShape(model), false);
    const shapes = [[4, 3, 8], [4]];
    assert.equal(shapeKey(model, shapes), "");
    assert.deepEqual(shapesOfKey(model, "", 4), shapes);
  });

  it("names each varying input in order and leaves out the others", () => {
    const inputs = [input("ids", [-1, -1]), input("scale", [-1, 1]), input("image:0", [-1, 3, -1, -1])];
    const model = { inputs, batched: true };
    const shapes = [
      [2, 128],
      [2, 1],
      [2, 3, 224, 320],
    ];
    const key = shapeKey(model, shapes);
    assert.equal(key, "ids:128;image:0:224,320");
    assert.deepEqual(shapesOfKey(model, key, 2), shapes);
  });

  it("counts the first dimension where the model is not batched", () => {
    const model = { inputs: [input("x", [-1, 4])], batched: false };
    assert.equal(shapeKey(model, [[7, 4]]), "x:7");
    assert.deepEqual(shapesOfKey(model, "x:7", 1), [[7, 4]]);
  });

  it("refuses keys of another model", () => {
    const model = { inputs: [input("x", [-1, -1])], batched: true };
    for (const key of ["", "y:1", "x:1,2", "x:1;y:2", "x:"])
      assert.throws(() => shapesOfKey(model, key, 1), /shape key/);
  });
});
