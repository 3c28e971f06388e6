import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import protobuf from "protobufjs";
import type { Datatype } from "../../daemon/engine/tensors.ts";
import { typedTensorData } from "../../daemon/rpc/decode/typed-contents.ts";

const SEED = Date.now() % 2 ** 31;
console.log(`seed ${SEED}`);

const NO_LIMIT = { takeBytes() {}, takeStrings() {} };

function read(datatype: Datatype, count: number, contents: Uint8Array) {
  return typedTensorData({ name: "x", datatype, shape: [-1] }, count, contents, NO_LIMIT, "m");
}

/** Numbers of a field, some packed together and some each by itself, as writers may send them. */
function written<T>(
  field: number,
  wireType: number,
  values: readonly (readonly T[])[],
  write: (writer: protobuf.Writer, value: T) => void,
) {
  const writer = protobuf.Writer.create();
  for (const run of values) {
    if (run.length === 1) {
      write(writer.uint32((field << 3) | wireType), run[0]!);
      continue;
    }
    writer.uint32((field << 3) | 2).fork();
    for (const value of run) write(writer, value);
    writer.ldelim();
  }
  return writer.finish();
}

function bytesOf(array: NodeJS.TypedArray): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

describe("typed contents", () => {
  it("reads integers of 64 bits, packed or not", () => {
    const value = fc.oneof(fc.bigInt({ min: -300n, max: 300n }), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
    fc.assert(
      fc.property(fc.array(fc.array(value, { maxLength: 5 }), { maxLength: 5 }), (runs) => {
        const flat = runs.flat();
        const signed = written(3, 0, runs, (writer, item) => writer.int64(String(item)));
        assert.deepEqual(
          Buffer.from(read("INT64", flat.length, signed) as Uint8Array),
          bytesOf(BigInt64Array.from(flat)),
        );
        const unsigned = written(5, 0, runs, (writer, item) => writer.uint64(String(BigInt.asUintN(64, item))));
        assert.deepEqual(read("UINT64", flat.length, unsigned), read("INT64", flat.length, signed));
      }),
      { seed: SEED, numRuns: 1_000 },
    );
  });

  it("reads integers of 32 bits, packed or not", () => {
    const value = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    fc.assert(
      fc.property(fc.array(fc.array(value, { maxLength: 5 }), { maxLength: 5 }), (runs) => {
        const flat = runs.flat();
        const signed = written(2, 0, runs, (writer, item) => writer.int32(item));
        assert.deepEqual(Buffer.from(read("INT32", flat.length, signed) as Uint8Array), bytesOf(Int32Array.from(flat)));
        const unsigned = written(4, 0, runs, (writer, item) => writer.uint32(item >>> 0));
        assert.deepEqual(read("UINT32", flat.length, unsigned), read("INT32", flat.length, signed));
      }),
      { seed: SEED, numRuns: 1_000 },
    );
  });

  it("reads floats, packed or not", () => {
    const value = fc.double();
    fc.assert(
      fc.property(fc.array(fc.array(value, { maxLength: 5 }), { maxLength: 5 }), (runs) => {
        const flat = runs.flat();
        const doubles = written(7, 1, runs, (writer, item) => writer.double(item));
        assert.deepEqual(
          Buffer.from(read("FP64", flat.length, doubles) as Uint8Array),
          bytesOf(Float64Array.from(flat)),
        );
        const floats = written(6, 5, runs, (writer, item) => writer.float(item));
        assert.deepEqual(
          Buffer.from(read("FP32", flat.length, floats) as Uint8Array),
          bytesOf(Float32Array.from(flat)),
        );
      }),
      { seed: SEED, numRuns: 1_000 },
    );
  });

  it("reads contents without copying them where they are as a tensor is", () => {
    const contents = written(6, 5, [[1, 2, 3]], (writer, item) => writer.float(item));
    const data = read("FP32", 3, contents) as Uint8Array;
    assert.equal(data.buffer, contents.buffer);
  });

  const malformed = { code: "INVALID_ARGUMENT", message: "the message is not a valid ModelInferRequest" };
  for (const [what, bytes] of [
    ["a varint that does not end", [0x1a, 1, 0x80]],
    ["a varint of more than ten bytes", [0x1a, 11, ...new Array(10).fill(0x80), 0]],
    ["a run longer than what is left", [0x1a, 9, 0]],
    ["half a float", [0x32, 6, 0, 0, 0, 0, 0, 0]],
    ["an element of another wire type", [0x1d, 0, 0, 0, 0]],
  ] as const) {
    it(`refuses ${what}`, () => {
      assert.throws(() => read("INT64", 1, Buffer.from(bytes)), malformed);
    });
  }
});
