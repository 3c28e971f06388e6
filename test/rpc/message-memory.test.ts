/** What messages take in memory when they are decoded, which must not be many times their size unnoticed. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { joinStrings } from "../../daemon/engine/tensors.ts";
import { loadCodec } from "../../daemon/rpc/codec.ts";
import { DESCRIPTION_BYTES_MAX } from "../../daemon/rpc/decode/description.ts";
import { answered, failed, type Harness, infer, protocol, startServer } from "./harness.ts";
import { model } from "./models.ts";

const encode = protocol.inference.GRPCInferenceService.service.ModelInfer.requestSerialize;
const codec = loadCodec();

/** A field's tag (length-delimited), length and bytes. */
function field(number: number, bytes: Uint8Array): Buffer {
  const length: number[] = [];
  let rest = bytes.length;
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) length.push((rest % 0x80) | 0x80);
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, rest]), bytes]);
}

function filled(bytes: number, ...pattern: number[]): Buffer {
  return Buffer.alloc(bytes, Buffer.from(pattern));
}

const TOO_MUCH = {
  code: "INVALID_ARGUMENT",
  message: `what describes the request's tensors (their names, shapes and parameters, and how many there are) takes more than ${DESCRIPTION_BYTES_MAX} bytes: tensor data belongs into raw_input_contents or contents`,
};

describe("messages of many small parts", () => {
  const cases: readonly (readonly [string, (bytes: number) => Buffer])[] = [
    ["inputs", (bytes) => filled(bytes, 0x2a, 0)],
    ["requested outputs", (bytes) => filled(bytes, 0x32, 0)],
    ["raw contents", (bytes) => filled(bytes, 0x3a, 0)],
    ["parameters", (bytes) => filled(bytes, 0x22, 0)],
    ["fields that nobody knows", (bytes) => filled(bytes, 0x78, 0)],
    ["dimensions of an input", (bytes) => field(5, field(3, filled(bytes - 8, 1)))],
    ["contents of one input", (bytes) => field(5, filled(bytes - 4, 0x2a, 0))],
  ];
  for (const [what, message] of cases) {
    it(`refuses too many ${what}, and does not decode them`, () => {
      codec.decodeRequest(message(DESCRIPTION_BYTES_MAX));
      assert.throws(() => codec.decodeRequest(message(DESCRIPTION_BYTES_MAX + 2)), TOO_MUCH);
    });
  }

  it("does not count tensor data, raw or typed", () => {
    const contents = field(6, Buffer.alloc(2 * DESCRIPTION_BYTES_MAX));
    const raw = field(7, Buffer.alloc(2 * DESCRIPTION_BYTES_MAX));
    const { inputs, raw_input_contents } = codec.decodeRequest(Buffer.concat([field(5, field(5, contents)), raw, raw]));
    assert.equal(inputs[0]!.contents.length, contents.length);
    assert.deepEqual(
      raw_input_contents.map(({ byteLength }) => byteLength),
      [2 * DESCRIPTION_BYTES_MAX, 2 * DESCRIPTION_BYTES_MAX],
    );
  });

  it("is not led to take for tensor data what the decoder takes for inputs", () => {
    const inputs = filled(2 * DESCRIPTION_BYTES_MAX, 0x2a, 0);
    // By its wire type the first is a number, followed by one input with all else as its contents; by its declared type it is
    // raw contents of as many bytes as hold the beginnings of the two.
    const contents = field(5, inputs);
    const hidden = field(5, contents);
    const begin = hidden.length - inputs.length;
    assert.throws(() => codec.decodeRequest(Buffer.concat([Buffer.from([0x38, begin]), hidden])), {
      message: "the message is not a valid ModelInferRequest",
    });
  });

  it("says so on the wire", async () => {
    const harness = await startServer();
    const { path, responseDeserialize } = protocol.inference.GRPCInferenceService.service.ModelInfer;
    const message = Buffer.concat([field(3, Buffer.from("r9")), filled(2 * DESCRIPTION_BYTES_MAX, 0x2a, 0)]);
    const failure = await new Promise<{ code: number; details: string } | null>((resolve) => {
      harness.client.makeUnaryRequest(path, (bytes: Buffer) => bytes, responseDeserialize, message, resolve);
    });
    await harness.stop();
    assert.equal(failure?.code, 3);
    assert.equal(failure?.details, TOO_MUCH.message);
  });
});

describe("memory besides the message", () => {
  let harness: Harness;
  beforeEach(async () => {
    harness = await startServer({ inflightBytesMax: 1_000_000 });
    harness.catalog.models.push(model("texts", [{ name: "text", datatype: "BYTES", shape: [-1, -1] }]));
  });
  afterEach(async () => {
    assert.equal(harness.server.load().bytes, 0);
    await harness.stop();
  });

  const texts = (count: number, contents?: object) => [
    { name: "text", datatype: "BYTES", shape: [1, count], ...(contents === undefined ? {} : { contents }) },
  ];

  it("counts each string, raw or typed", async () => {
    const count = 10_000;
    const strings = Array.from({ length: count }, () => Buffer.alloc(0));
    const raw = { model_name: "texts", inputs: texts(count), raw_input_contents: [joinStrings(strings)] };
    const typed = { model_name: "texts", inputs: texts(count, { bytes_contents: strings }) };
    for (const request of [raw, typed]) {
      assert.ok(encode(request).length < 100_000);
      const failure = failed(await infer(harness.client, request));
      assert.equal(failure.code, "RESOURCE_EXHAUSTED");
      assert.match(
        failure.message,
        /^10000 strings of input 'text', 160 bytes each besides their own, do not fit: inflight_bytes_max is 1000000, of which \d+ are in use$/,
      );
    }
    harness.inference.immediate = false;
    const fits = infer(harness.client, {
      model_name: "texts",
      inputs: texts(100),
      raw_input_contents: [joinStrings(strings.slice(0, 100))],
    });
    await harness.inference.until(() => harness.inference.held.size === 1);
    assert.ok(harness.server.load().bytes > 100 * 160);
    harness.inference.end(harness.inference.last().id);
    answered(await fits);
  });

  it("counts what typed integers take once they are read", async () => {
    const count = 100_000;
    const zeros = { int64_contents: new Array<number>(count).fill(0) };
    const inputs = ["ids", "mask"].map((name) => ({ name, datatype: "INT64", shape: [1, count], contents: zeros }));
    const request = { model_name: "tokens", inputs };
    assert.ok(encode(request).length < 250_000);
    assert.equal(failed(await infer(harness.client, request)).code, "RESOURCE_EXHAUSTED");
  });

  it("takes none for floats that come as a tensor holds them", async () => {
    const count = 100_000;
    const inputs = [
      { name: "x", datatype: "FP32", shape: [2, count], contents: { fp32_contents: new Array(2 * count).fill(1) } },
    ];
    harness.inference.immediate = false;
    const result = infer(harness.client, { model_name: "flat", inputs });
    await harness.inference.until(() => harness.inference.held.size === 1);
    assert.ok(harness.server.load().bytes < 4 * 2 * count + 100);
    harness.inference.end(harness.inference.last().id);
    answered(await result);
  });
});
