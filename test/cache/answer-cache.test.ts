import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerCache } from "../../daemon/cache/answer-cache.ts";
import { joinStrings, type Tensor } from "../../daemon/engine/tensors.ts";

const BYTES_MAX = 1024 * 1024;

function answer(byteLength: number, fill = 0): Tensor[] {
  return [{ name: "y", datatype: "UINT8", shape: [1, byteLength], data: new Uint8Array(byteLength).fill(fill) }];
}

test("what is kept is a copy", () => {
  const cache = new AnswerCache(BYTES_MAX);
  const outputs = answer(4, 7);
  cache.keep("k", outputs);
  (outputs[0]!.data as Uint8Array).fill(9);
  assert.deepEqual(cache.find("k"), answer(4, 7));
  assert.equal(cache.find("other"), null);
});

test("a copy takes the memory of its own bytes, not of the buffer that they lie in", () => {
  const cache = new AnswerCache(BYTES_MAX);
  const data = Buffer.alloc(100_000).subarray(10, 14);
  cache.keep("k", [{ name: "y", datatype: "UINT8", shape: [4], data }]);
  cache.keep("strings", [{ name: "y", datatype: "BYTES", shape: [1], data: [Buffer.from("ab")] }]);
  for (const key of ["k", "strings"]) {
    const kept = cache.find(key)![0]!.data as Uint8Array;
    assert.equal(kept.buffer.byteLength, kept.byteLength);
  }
});

test("strings are kept as they travel", () => {
  const cache = new AnswerCache(BYTES_MAX);
  const strings = ["one", "", "zwölf"].map((text) => Buffer.from(text));
  cache.keep("k", [{ name: "y", datatype: "BYTES", shape: [3], data: strings }]);
  assert.deepEqual(cache.find("k")![0]!.data, new Uint8Array(joinStrings(strings)));
});

test("the least recently used leave first, and all together stay within the bound", () => {
  const cache = new AnswerCache(BYTES_MAX);
  // Ten fit, what keeping them takes included; eleven don't.
  const size = Math.floor(BYTES_MAX / 10) - 2_000;
  for (let key = 0; key < 10; key++) cache.keep(String(key), answer(size, key));
  assert.deepEqual([cache.figures.entries, cache.figures.evictions], [10, 0]);
  cache.find("0");
  cache.keep("10", answer(size));
  assert.deepEqual([cache.find("1"), cache.find("0")], [null, answer(size, 0)]);
  assert.deepEqual([cache.figures.entries, cache.figures.evictions], [10, 1]);
  assert.ok(cache.figures.bytes > 10 * size && cache.figures.bytes <= BYTES_MAX);
});

test("small answers count with what keeping them takes", () => {
  const cache = new AnswerCache(BYTES_MAX);
  for (let key = 0; key < 5_000; key++) cache.keep(String(key), answer(4));
  assert.ok(cache.figures.entries < BYTES_MAX / 500, `${cache.figures.entries} answers of 4 bytes in ${BYTES_MAX}`);
});

test("an answer of more than an eighth of the cache is not kept, and drives nothing out", () => {
  const cache = new AnswerCache(BYTES_MAX);
  cache.keep("small", answer(4));
  cache.keep("large", answer(BYTES_MAX / 8));
  assert.equal(cache.find("large"), null);
  assert.deepEqual([cache.figures.entries, cache.figures.evictions], [1, 0]);
});

test("an answer that comes twice is kept once", () => {
  const cache = new AnswerCache(BYTES_MAX);
  cache.keep("k", answer(4, 1));
  const once = cache.figures;
  cache.keep("k", answer(4, 1));
  assert.deepEqual(cache.figures, once);
});
