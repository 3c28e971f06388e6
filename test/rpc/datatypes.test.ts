import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Datatype } from "../../daemon/engine/tensors.ts";
import { joinStrings } from "../../daemon/engine/tensors.ts";
import { answered, type Harness, infer, startServer } from "./harness.ts";
import { DATATYPES } from "./models.ts";

/** Two elements of each type, at the ends of its range: as raw bytes and as typed contents. */
const SAMPLES: Readonly<Record<Datatype, { readonly raw: Uint8Array; readonly typed: object | null }>> = {
  BOOL: { raw: Buffer.from([1, 0]), typed: { bool_contents: [true, false] } },
  UINT8: { raw: Buffer.from([0, 255]), typed: { uint_contents: [0, 255] } },
  UINT16: { raw: bytes(Uint16Array.of(1, 65_535)), typed: { uint_contents: [1, 65_535] } },
  UINT32: { raw: bytes(Uint32Array.of(1, 4_294_967_295)), typed: { uint_contents: [1, 4_294_967_295] } },
  UINT64: {
    raw: bytes(BigUint64Array.of(1n, 18_446_744_073_709_551_615n)),
    typed: { uint64_contents: ["1", "18446744073709551615"] },
  },
  INT8: { raw: bytes(Int8Array.of(-128, 127)), typed: { int_contents: [-128, 127] } },
  INT16: { raw: bytes(Int16Array.of(-32_768, 32_767)), typed: { int_contents: [-32_768, 32_767] } },
  INT32: { raw: bytes(Int32Array.of(-2_147_483_648, 5)), typed: { int_contents: [-2_147_483_648, 5] } },
  INT64: {
    raw: bytes(BigInt64Array.of(-9_223_372_036_854_775_808n, -1n)),
    typed: { int64_contents: ["-9223372036854775808", "-1"] },
  },
  FP16: { raw: bytes(Uint16Array.of(0x3c00, 0xfbff)), typed: null },
  FP32: { raw: bytes(Float32Array.of(-1.5, 3.25)), typed: { fp32_contents: [-1.5, 3.25] } },
  FP64: { raw: bytes(Float64Array.of(-Math.PI, 1e300)), typed: { fp64_contents: [-Math.PI, 1e300] } },
  BYTES: {
    raw: joinStrings([Buffer.from("grüße"), Buffer.alloc(0)]),
    typed: { bytes_contents: [Buffer.from("grüße"), Buffer.alloc(0)] },
  },
};

function bytes(array: NodeJS.TypedArray): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

describe("datatypes", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer();
  });
  after(() => harness.stop());

  for (const datatype of DATATYPES) {
    const { raw, typed } = SAMPLES[datatype];
    const request = { model_name: `t_${datatype}`, inputs: [{ name: "x", datatype, shape: [1, 2] }] };

    it(`takes ${datatype} raw and answers it raw`, async () => {
      const response = answered(await infer(harness.client, { ...request, raw_input_contents: [raw] }));
      assert.deepEqual(response.raw_output_contents, [Buffer.from(raw)]);
      const [output] = response.outputs;
      assert.deepEqual([output?.name, output?.datatype, output?.shape], ["out_x", datatype, ["1", "2"]]);
      assert.equal(output?.contents, null);
    });

    if (typed === null) continue;
    it(`takes ${datatype} as typed contents and answers it raw`, async () => {
      const inputs = [{ name: "x", datatype, shape: [1, 2], contents: typed }];
      const response = answered(await infer(harness.client, { ...request, inputs }));
      assert.deepEqual(response.raw_output_contents, [Buffer.from(raw)]);
    });
  }

  it("hands the engine inputs in the model's order, with items and shape key", async () => {
    const ids = Buffer.alloc(2 * 5 * 8, 1);
    const mask = Buffer.alloc(2 * 5 * 8, 2);
    answered(
      await infer(harness.client, {
        model_name: "tokens",
        inputs: [
          { name: "mask", datatype: "INT64", shape: [2, 5] },
          { name: "ids", datatype: "INT64", shape: [2, 5] },
        ],
        raw_input_contents: [mask, ids],
      }),
    );
    const request = harness.inference.last();
    assert.equal(request.model, "tokens/1");
    assert.equal(request.items, 2);
    assert.equal(request.shape, "ids:5;mask:5");
    assert.deepEqual(
      request.inputs.map(({ name, shape, data }) => [name, shape, Buffer.from(data as Uint8Array)]),
      [
        ["ids", [2, 5], ids],
        ["mask", [2, 5], mask],
      ],
    );
  });

  it("takes a model without a batch dimension as one item", async () => {
    const inputs = [{ name: "x", datatype: "FP32", shape: [2, 3] }];
    const response = answered(
      await infer(harness.client, { model_name: "flat", inputs, raw_input_contents: [Buffer.alloc(24)] }),
    );
    assert.deepEqual(response.outputs[0]?.shape, ["2", "3"]);
    assert.equal(harness.inference.last().items, 1);
    assert.equal(harness.inference.last().shape, "x:3");
  });

  it("answers only the outputs asked for, in that order and each once", async () => {
    const response = answered(
      await infer(harness.client, {
        model_name: "pair",
        inputs: [
          { name: "a", datatype: "FP32", shape: [1, 2] },
          { name: "b", datatype: "INT64", shape: [1, 1] },
        ],
        outputs: [{ name: "out_b" }, { name: "out_a" }, { name: "out_b" }],
        raw_input_contents: [Buffer.alloc(8, 1), Buffer.alloc(8, 2)],
      }),
    );
    assert.deepEqual(
      response.outputs.map((output) => output.name),
      ["out_b", "out_a"],
    );
    assert.deepEqual(response.raw_output_contents, [Buffer.alloc(8, 2), Buffer.alloc(8, 1)]);
  });
});
