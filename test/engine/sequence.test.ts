import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { gatherRows } from "../../daemon/device/gather.ts";
import { batchLayout } from "../../daemon/device/layout.ts";
import { bucketedShape, elementOf, keyOfLength, lengthsOfKeys } from "../../daemon/engine/sequence.ts";
import { cutBack } from "../../daemon/engine/split.ts";
import type { Datatype, InputTensor, Tensor, TensorSpec } from "../../daemon/engine/tensors.ts";

const IDS: TensorSpec = { name: "ids", datatype: "INT64", shape: [-1, -1] };
const MASK: TensorSpec = { name: "mask", datatype: "UINT8", shape: [-1, -1] };
const STYLE: TensorSpec = { name: "style", datatype: "FP32", shape: [-1, 3] };

function model(inputs: readonly TensorSpec[], lengths: readonly number[] | null, pad: Record<string, number> = {}) {
  const sequence = { lengths, lengthMax: 64, mask: null, pad, outputAxes: { states: [1] } };
  return { inputs, batched: true, maxBatchSize: 4, sequence };
}

describe("where a request of some length belongs", () => {
  const padded = model([IDS, MASK, STYLE], [4, 8]);
  const shapes = (ids: number, mask: number = ids) => [
    [2, ids],
    [2, mask],
    [2, 3],
  ];

  it("is the next length that holds it, its own among them", () => {
    const { outputAxes } = padded.sequence;
    const shape = "ids:8;mask:8";
    assert.deepEqual(bucketedShape(padded, shapes(5)), { shape, padding: { length: 5, paddedLength: 8, outputAxes } });
    assert.deepEqual(bucketedShape(padded, shapes(8)), { shape, padding: null });
    assert.equal(bucketedShape(padded, shapes(1)).shape, "ids:4;mask:4");
  });

  it("is its own shape where it is too long, empty, of unequal lengths, or nothing is padded", () => {
    assert.deepEqual(bucketedShape(padded, shapes(9)), { shape: "ids:9;mask:9", padding: null });
    assert.deepEqual(bucketedShape(padded, shapes(0)), { shape: "ids:0;mask:0", padding: null });
    assert.deepEqual(bucketedShape(padded, shapes(5, 6)), { shape: "ids:5;mask:6", padding: null });
    assert.equal(bucketedShape({ ...padded, sequence: null }, shapes(5)).shape, "ids:5;mask:5");
    assert.equal(bucketedShape(model([IDS, MASK, STYLE], null), shapes(5)).shape, "ids:5;mask:5");
  });

  it("can be read back from keys", () => {
    const keys = [8, 4].map((length) => keyOfLength(padded, length));
    assert.deepEqual(lengthsOfKeys(padded, [...keys, "ids:5;mask:6"]), [4, 8]);
  });
});

describe("an element of padding", () => {
  const cases: readonly (readonly [Datatype, number, readonly number[] | null])[] = [
    ["INT64", -2, [0xfe, 255, 255, 255, 255, 255, 255, 255]],
    ["INT32", 258, [2, 1, 0, 0]],
    ["UINT8", 255, [255]],
    ["UINT8", 256, null],
    ["UINT8", -1, null],
    ["INT8", 128, null],
    ["INT64", 0.5, null],
    ["BOOL", 2, null],
    ["FP16", 1, [0, 0x3c]],
    ["FP16", 3, [0, 0x42]],
    ["FP16", 70_000, null],
    ["FP32", 1e39, null],
    ["FP32", 1, [0, 0, 0x80, 0x3f]],
    ["BYTES", 0, null],
  ];
  for (const [datatype, value, bytes] of cases) {
    it(`${datatype} ${value} is ${bytes === null ? "refused" : `[${bytes}]`}`, () => {
      const element = elementOf(datatype, value);
      assert.deepEqual(element === null ? null : [...element], bytes);
    });
  }
});

describe("gathering shorter tensors and cutting outputs back", () => {
  /** Elements of `rows` × `length` × `inner`, told apart by their numbers. */
  function numbered(name: string, shape: readonly number[], from: number): Tensor {
    const count = shape.reduce((product, size) => product * size, 1);
    const data = new Uint8Array(Int16Array.from({ length: count }, (_, index) => from + index).buffer);
    return { name, datatype: "INT16", shape, data };
  }

  /** The same tensor with its bytes left where they are until they are gathered. */
  function outside({ data, ...tensor }: Tensor): InputTensor {
    const bytes = data as Uint8Array;
    return { ...tensor, data: { byteLength: bytes.byteLength, copyTo: (target) => target.set(bytes) } };
  }

  it("are each other's inverse, whatever dimensions stand around, with padding between", () => {
    const sizes = fc.record({
      outer: fc.integer({ min: 1, max: 3 }),
      inner: fc.integer({ min: 1, max: 3 }),
      paddedLength: fc.integer({ min: 1, max: 6 }),
      requests: fc.array(fc.record({ items: fc.integer({ min: 1, max: 2 }), length: fc.integer({ min: 1, max: 6 }) }), {
        minLength: 1,
        maxLength: 2,
      }),
    });
    fc.assert(
      fc.property(sizes, ({ outer, inner, paddedLength, requests }) => {
        const x: TensorSpec = { name: "x", datatype: "INT16", shape: [-1, outer, -1, inner] };
        const padded = model([x], [paddedLength], { x: -7 });
        const layout = batchLayout(padded, keyOfLength(padded, paddedLength));
        const target = new Uint8Array(layout.inputsBytes).fill(0xaa);
        const own = requests.map(({ items, length }, index) => {
          const shape = [items, outer, Math.min(length, paddedLength), inner];
          return { id: index, items, inputs: [numbered("x", shape, 1000 * index)] };
        });
        // Every other request's bytes stay outside until they are gathered.
        const sent = own.map((request, index) =>
          index % 2 === 0 ? request : { ...request, inputs: request.inputs.map(outside) },
        );
        gatherRows(target, layout, sent, 4, 0, new Map());
        const elements = new Int16Array(target.buffer, 0, 4 * outer * paddedLength * inner);
        const itemBytes = layout.inputs[0]!.itemBytes;
        let position = 0;
        let paddings = 0;
        for (const { items, inputs } of own) {
          const length = inputs[0]!.shape[2]!;
          const data = target.subarray(position, position + items * itemBytes);
          const shape = [items, outer, paddedLength, inner];
          const whole: Tensor = { name: "states", datatype: "INT16", shape, data };
          const cut = cutBack(whole, { length, paddedLength, outputAxes: { states: [2] } });
          assert.deepEqual(cut.shape, inputs[0]!.shape);
          assert.deepEqual([...(cut.data as Uint8Array)], [...(inputs[0]!.data as Uint8Array)]);
          position += items * itemBytes;
          paddings += items * outer * (paddedLength - length) * inner;
        }
        const written = [...elements.subarray(0, position / 2)];
        assert.equal(written.filter((value) => value === -7).length, paddings);
        // Rows that fill up the bucket repeat the last one.
        const last = [...target.subarray(position - itemBytes, position)];
        for (let row = position; row < 4 * itemBytes; row += itemBytes) {
          assert.deepEqual([...target.subarray(row, row + itemBytes)], last);
        }
      }),
    );
  });

  it("cut both dimensions of scores between tokens, and strings one by one", () => {
    const padding = { length: 2, paddedLength: 3, outputAxes: { scores: [1, 2], words: [1] } };
    const scores: Tensor = {
      name: "scores",
      datatype: "UINT8",
      shape: [1, 3, 3],
      data: Uint8Array.of(1, 2, 0, 3, 4, 0, 0, 0, 0),
    };
    const cut = cutBack(scores, padding);
    assert.deepEqual(
      [cut.shape, [...(cut.data as Uint8Array)]],
      [
        [1, 2, 2],
        [1, 2, 3, 4],
      ],
    );
    const texts = ["a", "b", "-", "c", "d", "-"].map((text) => Buffer.from(text));
    const words = cutBack({ name: "words", datatype: "BYTES", shape: [2, 3], data: texts }, padding);
    assert.deepEqual(words.shape, [2, 2]);
    assert.deepEqual(
      (words.data as readonly Uint8Array[]).map((text) => String(text)),
      ["a", "b", "c", "d"],
    );
    const pooled: Tensor = { name: "pooled", datatype: "UINT8", shape: [1, 3], data: Uint8Array.of(1, 2, 3) };
    assert.deepEqual(cutBack(pooled, padding), pooled);
  });
});
