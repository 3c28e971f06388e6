import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Tensor } from "onnxruntime-node";
import type { Datatype } from "../../daemon/engine/tensors.ts";
import * as tiny from "../../models/onnx/tiny.ts";
import { floatTensor, loneSession, OnnxTensor } from "../support/onnx-session.ts";

type Values = readonly (number | bigint | string | boolean)[];

async function run(model: Uint8Array, feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
  const session = await loneSession(model);
  const outputs = await session.run(feeds);
  await session.release();
  return outputs;
}

function valuesOf(tensor: Tensor | undefined): Values {
  return [...(tensor!.data as Iterable<number | bigint | string | boolean>)];
}

const SAMPLES: Readonly<Record<Datatype, () => Tensor>> = {
  BOOL: () => new OnnxTensor("bool", [true, false, true, true], [2, 2]),
  UINT8: () => new OnnxTensor("uint8", Uint8Array.of(0, 1, 254, 255), [2, 2]),
  UINT16: () => new OnnxTensor("uint16", Uint16Array.of(0, 1, 65534, 65535), [2, 2]),
  UINT32: () => new OnnxTensor("uint32", Uint32Array.of(0, 1, 2, 2 ** 32 - 1), [2, 2]),
  UINT64: () => new OnnxTensor("uint64", BigUint64Array.of(0n, 1n, 2n, 2n ** 64n - 1n), [2, 2]),
  INT8: () => new OnnxTensor("int8", Int8Array.of(-128, -1, 0, 127), [2, 2]),
  INT16: () => new OnnxTensor("int16", Int16Array.of(-32768, -1, 0, 32767), [2, 2]),
  INT32: () => new OnnxTensor("int32", Int32Array.of(-(2 ** 31), -1, 0, 2 ** 31 - 1), [2, 2]),
  INT64: () => new OnnxTensor("int64", BigInt64Array.of(-(2n ** 63n), -1n, 0n, 2n ** 63n - 1n), [2, 2]),
  FP16: () => new OnnxTensor("float16", Uint16Array.of(0, 0x3c00, 0xbc00, 0x7bff), [2, 2]),
  FP32: () => floatTensor([2, 2], [0, 1.5, -2, 1e30]),
  FP64: () => new OnnxTensor("float64", Float64Array.of(0, 1.5, -2, 1e300), [2, 2]),
  BYTES: () => new OnnxTensor("string", ["", "a", "ä€", "long ".repeat(100)], [2, 2]),
};

describe("identity", () => {
  for (const [datatype, sample] of Object.entries(SAMPLES)) {
    test(datatype, async () => {
      const x = sample();
      const { y } = await run(tiny.identity(datatype as Datatype, 2), { x });
      assert.deepEqual(y!.dims, [2, 2]);
      assert.deepEqual(valuesOf(y), valuesOf(x));
      const open = await run(tiny.identity(datatype as Datatype, null), { x });
      assert.deepEqual(valuesOf(open.y), valuesOf(x));
    });
  }

  test("strings", async () => {
    const text = new OnnxTensor("string", ["one", "two"], [2, 1]);
    assert.deepEqual(valuesOf((await run(tiny.stringIdentity(), { text })).same), ["one", "two"]);
  });
});

test("noop and add-one", async () => {
  const x = floatTensor([2, 2], [1, 2, 3, 4]);
  assert.deepEqual(valuesOf((await run(tiny.noop(2), { x })).y), [1, 2, 3, 4]);
  assert.deepEqual(valuesOf((await run(tiny.addOne(2), { x })).y), [2, 3, 4, 5]);
});

test("two inputs, two outputs", async () => {
  const a = floatTensor([2, 3], [1, 2, 3, 4, 5, 6]);
  const b = floatTensor([2, 3], [1, 1, 1, 2, 2, 2]);
  const outputs = await run(tiny.twoInputsTwoOutputs(), { a, b });
  assert.deepEqual(valuesOf(outputs.sum), [2, 3, 4, 6, 7, 8]);
  assert.deepEqual(valuesOf(outputs.product), [6, 30]);
});

test("a model of a fixed shape", async () => {
  const { y } = await run(tiny.noBatchDim(), { x: floatTensor([2, 3], [1, 2, 3, 4, 5, 6]) });
  assert.deepEqual(valuesOf(y), [2, 4, 6, 8, 10, 12]);
});

test("a model whose rows vary in length", async () => {
  const outputs = await run(tiny.dynamicDims(), { x: floatTensor([2, 2], [1, 2, 3, 4]) });
  assert.deepEqual(valuesOf(outputs.y), [2, 4, 6, 8]);
  assert.deepEqual(valuesOf(outputs.total), [3, 7]);
});

test("outputs whose first dimension is not the batch's", async () => {
  const x = floatTensor([2, 4], [1, 2, 3, 4, 5, 6, 7, 8]);
  const outputs = await run(tiny.scalarOutput(), { x });
  assert.deepEqual(outputs.mean!.dims, []);
  assert.deepEqual(valuesOf(outputs.mean), [4.5]);
  assert.deepEqual((await run(tiny.doublesRows(), { x })).y!.dims, [4, 4]);
});

test("a run that fails depending on its data", async () => {
  const index = (value: bigint): Tensor => new OnnxTensor("int64", BigInt64Array.of(value), [1, 1]);
  assert.deepEqual(valuesOf((await run(tiny.failsAtRun(), { index: index(2n) })).value), [20]);
  await assert.rejects(run(tiny.failsAtRun(), { index: index(9n) }), /out of (data )?bounds/);
});

test("a model of a given cost computes what it says", async () => {
  const { y } = await run(tiny.slow({ layers: 3, width: 4 }), { x: floatTensor([1, 4], [1, 2, 3, 4]) });
  assert.deepEqual(valuesOf(y), [2, 3, 4, 1]);
});
