import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { SlacklineClient, SlacklineError, type Tensor, tensor, toStrings } from "slackline-client";
import { FakeDaemon } from "./fake-daemon.ts";

const SAMPLES: Readonly<Record<string, Tensor>> = {
  bool: tensor.bool([3], [true, false, true]),
  boolBytes: tensor.bool([2], Uint8Array.of(0, 1)),
  uint8: tensor.uint8([2, 2], Uint8Array.of(0, 1, 254, 255)),
  uint16: tensor.uint16([3], Uint16Array.of(0, 1, 65535)),
  uint32: tensor.uint32([2], Uint32Array.of(1, 4294967295)),
  uint64: tensor.uint64([2], BigUint64Array.of(1n, 2n ** 64n - 1n)),
  int8: tensor.int8([3], Int8Array.of(-128, 0, 127)),
  int16: tensor.int16([2], Int16Array.of(-32768, 32767)),
  int32: tensor.int32([2], Int32Array.of(-2147483648, 2147483647)),
  int64: tensor.int64([3], BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n, 0n)),
  float16: tensor.float16([3], Uint16Array.of(0x3c00, 0xc000, 0x7bff)),
  bfloat16: tensor.bfloat16([2], Uint16Array.of(0x3f80, 0xc000)),
  float32: tensor.float32([1, 3], Float32Array.of(1.5, -Infinity, Number.NaN)),
  float64: tensor.float64([2], Float64Array.of(Math.PI, -0)),
  strings: tensor.strings([2, 2], ["", "plain", "grüße", "日本語"]),
  bytes: tensor.bytes([2], [Uint8Array.of(0, 255), new Uint8Array(300).fill(7)]),
  scalar: tensor.float32([], Float32Array.of(42)),
  empty: tensor.int64([0, 4], new BigInt64Array(0)),
};

function plain(of: Tensor): unknown {
  const data = of.datatype === "BYTES" ? of.data.map((element) => [...element]) : [...of.data];
  return { datatype: of.datatype, shape: of.shape, data };
}

describe("tensors on the wire", () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start();
  });
  after(() => daemon.kill());

  for (const transport of ["stream", "unary"] as const) {
    it(`come back as they were sent, in one request and in one each (${transport})`, async () => {
      const client = new SlacklineClient({ target: daemon.target, transport });
      try {
        const together = await client.infer("m", SAMPLES, { version: 3 });
        assert.equal(together.model, "m");
        assert.equal(together.version, "3");
        for (const [name, sent] of Object.entries(SAMPLES)) {
          assert.deepEqual(plain(together.outputs[name]!), plain(sent), name);
          assert.equal(together.outputs[name]!.data.constructor, sent.data.constructor, name);
          const alone = await client.infer("m", { [name]: sent });
          assert.deepEqual(plain(alone.outputs[name]!), plain(sent), name);
        }
        assert.deepEqual(toStrings(together.output("strings", "BYTES")), ["", "plain", "grüße", "日本語"]);
      } finally {
        client.close();
      }
    });

    it(`are read at any alignment (${transport})`, async () => {
      const client = new SlacklineClient({ target: daemon.target, transport });
      const data = Float64Array.from({ length: 50 }, (_, i) => i / 3);
      try {
        for (let length = 1; length <= 16; length++) {
          const name = "n".repeat(length);
          const { outputs } = await client.infer("m", { [name]: tensor.float64([50], data) });
          assert.deepEqual(outputs[name]!.data, data);
        }
      } finally {
        client.close();
      }
    });

    it(`of several megabytes pass (${transport})`, async () => {
      const client = new SlacklineClient({ target: daemon.target, transport });
      const data = Uint32Array.from({ length: 3_000_000 }, (_, i) => i);
      try {
        const { outputs } = await client.infer("m", { x: tensor.uint32([data.length], data) });
        assert.deepEqual(outputs.x!.data, data);
      } finally {
        client.close();
      }
    });
  }

  it("carry names, many dimensions and parameters of every kind", async () => {
    const client = new SlacklineClient({ target: daemon.target });
    const name = "é".repeat(200);
    const shape = [1, 2, 1, 300, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    const parameters = {
      yes: true,
      no: false,
      text: "",
      int: 5_000_000_000,
      negative: -7,
      real: 0.25,
      big: -(2n ** 63n),
      unsigned: 2n ** 64n - 1n,
    };
    try {
      daemon.behave = (request) => ({ type: "echo", parameters: request.parameters });
      const result = await client.infer(
        "m",
        { [name]: tensor.uint8(shape, new Uint8Array(600)) },
        { parameters, priority: 3, outputs: [name] },
      );
      const { request } = daemon.arrivals.at(-1)!;
      assert.deepEqual(request.parameters.int, { int64_param: "5000000000", parameter_choice: "int64_param" });
      assert.deepEqual(request.parameters.priority, { uint64_param: "3", parameter_choice: "uint64_param" });
      assert.deepEqual(request.parameters.text, { string_param: "", parameter_choice: "string_param" });
      assert.deepEqual(request.parameters.real, { double_param: 0.25, parameter_choice: "double_param" });
      assert.deepEqual(request.parameters.no, { bool_param: false, parameter_choice: "bool_param" });
      assert.deepEqual(
        request.outputs.map((output) => output.name),
        [name],
      );
      assert.deepEqual(result.outputs[name]!.shape, shape);
      const { priority, ...echoed } = result.parameters;
      assert.equal(priority, 3);
      assert.deepEqual(echoed, parameters);
    } finally {
      daemon.behave = () => ({ type: "echo" });
      client.close();
    }
  });

  it("are read from typed contents too, which other servers send", async () => {
    const client = new SlacklineClient({ target: daemon.target });
    const output = (name: string, datatype: string, contents: object): object => ({
      name,
      datatype,
      shape: [2],
      contents,
    });
    daemon.behave = () => ({
      type: "answer",
      response: {
        outputs: [
          output("f", "FP32", { fp32_contents: [0.5, -2] }),
          output("d", "FP64", { fp64_contents: [1e300, 0] }),
          output("l", "INT64", { int64_contents: ["-9223372036854775808", "5"] }),
          output("ul", "UINT64", { uint64_contents: ["18446744073709551615", "5"] }),
          output("i", "INT8", { int_contents: [-1, 127] }),
          output("u", "UINT16", { uint_contents: [0, 65535] }),
          output("b", "BOOL", { bool_contents: [true, false] }),
          output("s", "BYTES", { bytes_contents: [Buffer.from("a"), Buffer.from("")] }),
        ],
      },
    });
    try {
      const result = await client.infer("m", {});
      assert.deepEqual(result.output("f", "FP32").data, Float32Array.of(0.5, -2));
      assert.deepEqual(result.output("d", "FP64").data, Float64Array.of(1e300, 0));
      assert.deepEqual(result.output("l", "INT64").data, BigInt64Array.of(-(2n ** 63n), 5n));
      assert.deepEqual(result.output("ul", "UINT64").data, BigUint64Array.of(2n ** 64n - 1n, 5n));
      assert.deepEqual(result.output("i", "INT8").data, Int8Array.of(-1, 127));
      assert.deepEqual(result.output("u", "UINT16").data, Uint16Array.of(0, 65535));
      assert.deepEqual(result.output("b", "BOOL").data, Uint8Array.of(1, 0));
      assert.deepEqual(toStrings(result.output("s", "BYTES")), ["a", ""]);
    } finally {
      daemon.behave = () => ({ type: "echo" });
      client.close();
    }
  });

  for (const transport of ["stream", "unary"] as const) {
    it(`that don't fit their shape fail that request alone (${transport})`, async () => {
      const client = new SlacklineClient({ target: daemon.target, transport });
      daemon.behave = (request) =>
        request.model_name === "bad"
          ? {
              type: "answer",
              response: {
                outputs: [{ name: "x", datatype: "FP32", shape: [2] }],
                raw_output_contents: [Buffer.alloc(7)],
              },
            }
          : { type: "echo" };
      try {
        const good = { x: tensor.float32([1], Float32Array.of(1)) };
        const [bad, fine] = await Promise.allSettled([client.infer("bad", good), client.infer("good", good)]);
        assert.equal(bad.status, "rejected");
        assert.ok(bad.reason instanceof SlacklineError);
        assert.equal(bad.reason.code, "INTERNAL");
        assert.match(bad.reason.message, /'x' of shape \[2\] needs 8 bytes, got 7/);
        assert.equal(fine.status, "fulfilled");
      } finally {
        daemon.behave = () => ({ type: "echo" });
        client.close();
      }
    });
  }
});

describe("the client checks before it sends", () => {
  const wrong: [string, () => unknown, RegExp][] = [
    [
      "too few elements",
      () => tensor.float32([2, 3], new Float32Array(5)),
      /shape \[2,3\] needs 6 elements \(24 bytes\), data has 5/,
    ],
    ["a negative dimension", () => tensor.int8([-1], new Int8Array(1)), /holds -1/],
    ["a fraction of a dimension", () => tensor.int8([1.5], new Int8Array(1)), /holds 1.5/],
    [
      "another array class",
      () => tensor.int64([1], new Float64Array(1) as never),
      /must be a BigInt64Array, got Float64Array/,
    ],
    ["strings that are none", () => tensor.bytes([1], "x" as never), /array of Uint8Array/],
    [
      "strings in place of bytes",
      () => tensor.bytes([2], [new Uint8Array(1), "text" as never]),
      /data\[1\] must be a Uint8Array, got string \(tensor.strings takes strings\)/,
    ],
    ["no shape", () => tensor.int8(undefined as never, new Int8Array(1)), /shape must be an array of numbers/],
  ];
  for (const [what, make, message] of wrong) {
    it(what, () => {
      assert.throws(
        make,
        (error) => error instanceof SlacklineError && error.code === "INVALID_ARGUMENT" && message.test(error.message),
      );
    });
  }

  it("names of model, inputs and outputs", async () => {
    const client = new SlacklineClient({ target: "127.0.0.1:1" });
    const invalid = (infer: Promise<unknown>, message: RegExp) =>
      assert.rejects(
        infer,
        (error) => error instanceof SlacklineError && error.code === "INVALID_ARGUMENT" && message.test(error.message),
      );
    try {
      await invalid(client.infer(undefined as never, {}), /model must be a model's name, got undefined/);
      await invalid(client.infer("m", undefined as never), /inputs must be an object .*, got undefined/);
      await invalid(client.infer("m", { x: undefined as never }), /input 'x' must be a tensor, .* got undefined/);
      await invalid(client.infer("m", {}, { outputs: "scores" as never }), /outputs must be an array of names/);
      await invalid(client.infer("m", {}, { outputs: [7 as never] }), /outputs must be an array of names/);
    } finally {
      client.close();
    }
  });

  it("names the input", async () => {
    const client = new SlacklineClient({ target: "127.0.0.1:1" });
    try {
      const bad = { datatype: "FP32", shape: [3], data: new Float32Array(2) } as const;
      await assert.rejects(client.infer("m", { pixels: bad }), /input 'pixels' \(FP32\)/);
      const unknown = { datatype: "FP8", shape: [1], data: new Uint8Array(1) } as never;
      await assert.rejects(client.infer("m", { pixels: unknown }), /unknown datatype/);
      await assert.rejects(client.infer("m", {}, { deadlineMs: -1 }), /deadlineMs must be/);
      await assert.rejects(client.infer("m", {}, { parameters: { timeout: 1 } }), /option of its own/);
      await assert.rejects(client.infer("m", {}, { priority: 0.5 }), /priority must be/);
    } finally {
      client.close();
    }
  });

  it("tenants and metadata, of the client and of a request", async () => {
    const invalid = (message: RegExp) => (error: unknown) =>
      error instanceof SlacklineError && error.code === "INVALID_ARGUMENT" && message.test(error.message);
    const value = /metadata "x-user" must be a string of printable ASCII characters$/;
    const wrong: [{ tenant?: string; metadata?: Record<string, string> }, RegExp][] = [
      [{ tenant: "Zoë" }, /tenant must be a string of printable ASCII characters, got "Zoë"/],
      [{ tenant: 7 as never }, /tenant must be .*, got number/],
      [{ metadata: { "x-user": "Zoë" } }, value],
      [{ metadata: { "x-user": 7 as never } }, value],
      [{ metadata: { "x user": "zoe" } }, /metadata key "x user" can't be sent: keys must be made of a to z/],
      [{ metadata: { "x-user-bin": "zoe" } }, /metadata key "x-user-bin" can't be sent: .* not end with "-bin"/],
    ];
    const client = new SlacklineClient({ target: "127.0.0.1:1" });
    try {
      for (const [options, message] of wrong) {
        assert.throws(() => new SlacklineClient({ target: "127.0.0.1:1", ...options }), invalid(message));
        await assert.rejects(client.infer("m", {}, options), invalid(message));
      }
    } finally {
      client.close();
    }
  });

  it("options too", () => {
    assert.throws(() => new SlacklineClient({}), /needs `target`/);
    assert.throws(() => new SlacklineClient({ target: "x:1", streams: 0 }), /streams must be/);
    assert.throws(
      () => new SlacklineClient({ target: "x:1", transport: "carrier-pigeon" as never }),
      /transport must be/,
    );
    assert.throws(() => new SlacklineClient({ target: "x:1", graceMs: -1 }), /graceMs must be/);
  });
});
