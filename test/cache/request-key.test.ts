import assert from "node:assert/strict";
import { test } from "node:test";
import { requestKey } from "../../daemon/cache/request-key.ts";
import type { InferenceRequest } from "../../daemon/engine/ports.ts";
import type { InputTensor } from "../../daemon/engine/tensors.ts";
import { request } from "../support/engine-rig.ts";

function input(overrides: Partial<InputTensor> = {}): InputTensor {
  return { name: "x", datatype: "UINT8", shape: [1, 2], data: Buffer.of(1, 2), ...overrides };
}

function texts(...strings: string[]): InputTensor {
  const data = strings.map((text) => Buffer.from(text));
  return input({ datatype: "BYTES", shape: [strings.length], data });
}

const BASE: Partial<InferenceRequest> = { cacheAs: "m", inputs: [input()] };

/** Each differs from all others in what decides about the answer, many of them only in where one part ends and the next begins. */
const DIFFERENT: readonly Partial<InferenceRequest>[] = [
  BASE,
  { ...BASE, cacheAs: "n" },
  { ...BASE, outputs: [] },
  { ...BASE, outputs: ["a"] },
  { ...BASE, outputs: ["a", "b"] },
  { ...BASE, outputs: ["b", "a"] },
  { ...BASE, outputs: ['a","b'] },
  { ...BASE, inputs: [] },
  { ...BASE, inputs: [input({ name: "y" })] },
  { ...BASE, inputs: [input({ datatype: "INT8" })] },
  { ...BASE, inputs: [input({ shape: [2, 1] })] },
  { ...BASE, inputs: [input({ shape: [2] })] },
  { ...BASE, inputs: [input({ data: Buffer.of(1, 3) })] },
  { ...BASE, inputs: [input(), input({ name: "y" })] },
  { ...BASE, inputs: [input({ name: "y" }), input()] },
  { ...BASE, inputs: [input({ shape: [1], data: Buffer.of(1) }), input({ shape: [1], data: Buffer.of(2) })] },
  { ...BASE, inputs: [texts("ab", "c")] },
  { ...BASE, inputs: [texts("a", "bc")] },
  { ...BASE, inputs: [texts("abc", "")] },
  { ...BASE, inputs: [texts("abc")] },
  { ...BASE, inputs: [texts("a"), texts("bc")] },
];

test("requests that differ in anything that decides about their answer have different keys", () => {
  const keys = DIFFERENT.map((one) => requestKey(request(one)));
  assert.equal(new Set(keys).size, DIFFERENT.length);
});

test("deadline, tenant and where the bytes come from make no difference", () => {
  const bytes = Uint8Array.of(0, 1, 2, 3);
  const others: readonly Partial<InferenceRequest>[] = [
    { inputs: [input({ data: bytes.subarray(1, 3) })] },
    { deadlineUs: null, explicit: false, tenant: "someone", expiresUs: 5 },
  ];
  for (const other of others) {
    assert.equal(requestKey(request({ ...BASE, ...other })), requestKey(request(BASE)));
  }
});

test("bytes that others can still change are no part of a key", () => {
  const data = { byteLength: 2, copyTo: () => {} };
  assert.throws(() => requestKey(request({ ...BASE, inputs: [input({ data })] })), /input 'x' is not in memory/);
});
