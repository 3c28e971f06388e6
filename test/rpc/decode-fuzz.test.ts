import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { joinStrings } from "../../daemon/engine/tensors.ts";
import { Arrivals } from "../../daemon/rpc/arrivals.ts";
import { ByteBudget } from "../../daemon/rpc/byte-budget.ts";
import { loadCodec } from "../../daemon/rpc/codec.ts";
import { rawTensorData } from "../../daemon/rpc/decode/raw-contents.ts";
import { InferenceGateway } from "../../daemon/rpc/inference-gateway.ts";
import { Peer } from "../../daemon/rpc/peer.ts";
import { DEFAULT_RPC_SETTINGS } from "../../daemon/rpc/settings.ts";
import { SharedMemoryRegions } from "../../daemon/rpc/shared-memory.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import { floats, protocol, vectorRequest } from "./harness.ts";
import { FakeCatalog } from "./models.ts";
import { PuppetInference } from "./puppet-inference.ts";

const SEED = Date.now() % 2 ** 31;
console.log(`seed ${SEED}`);

const NO_LIMIT = { takeBytes() {}, takeStrings() {} };

const encode = protocol.inference.GRPCInferenceService.service.ModelInfer.requestSerialize;

/** The way of requests without sockets: each submission's answers, as words. */
function gateway() {
  const unforeseen: unknown[] = [];
  const logger = { debug() {}, info() {}, warn() {}, error: (details: object) => unforeseen.push(details) };
  const budget = new ByteBudget(DEFAULT_RPC_SETTINGS.inflightBytesMax);
  const inference = new PuppetInference();
  const subject = new InferenceGateway({
    inference,
    catalog: new FakeCatalog(),
    codec: loadCodec(),
    budget,
    regions: new SharedMemoryRegions(),
    arrivals: new Arrivals(
      () => inference.nowUs(),
      () => 0,
    ),
    settings: DEFAULT_RPC_SETTINGS,
    logger,
    observer: null,
  });
  const submit = (bytes: Uint8Array): string[] => {
    const answers: string[] = [];
    const ticket = subject.submit(
      bytes,
      { deadline: { atUs: null, stream: true }, tenant: "", peer: new Peer({ getPeer: () => "127.0.0.1:5000" }) },
      {
        answered: () => answers.push("answered"),
        refused: (error) => answers.push(error.code),
        cancels: () => answers.push("cancels"),
      },
    );
    assert.equal(ticket, null, "the puppet answers at once");
    return answers;
  };
  return { submit, unforeseen, budget };
}

const GOOD: readonly ModelInferRequest[] = [
  vectorRequest({ parameters: { deadline_ms: { double_param: 20.5 }, slackline_timings: { bool_param: true } } }),
  {
    model_name: "words",
    id: "w",
    inputs: [{ name: "text", datatype: "BYTES", shape: [1, 2] }],
    raw_input_contents: [joinStrings([Buffer.from("ab"), Buffer.from("c")])],
  },
  {
    model_name: "pair",
    inputs: [
      { name: "a", datatype: "FP32", shape: [2, 2], contents: { fp32_contents: [1, 2, 3, 4] } },
      { name: "b", datatype: "INT64", shape: [2, 1], contents: { int64_contents: ["1", "-2"] } },
    ],
    outputs: [{ name: "out_b" }],
  },
];

describe("messages nobody meant", () => {
  it("answers each exactly once, and none as an error of its own", () => {
    const { submit, unforeseen, budget } = gateway();
    const mutation = fc.record({
      message: fc.constantFrom(...GOOD),
      changes: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
      cut: fc.option(fc.nat()),
    });
    fc.assert(
      fc.property(mutation, ({ message, changes, cut }) => {
        let bytes = encode(message);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        if (cut !== null) bytes = bytes.subarray(0, cut % (bytes.length + 1));
        const answers = submit(bytes);
        assert.equal(answers.length, 1);
        assert.deepEqual(unforeseen, []);
        assert.equal(budget.held, 0);
      }),
      { seed: SEED, numRuns: 5_000 },
    );
  });

  it("takes any shape, however large", () => {
    const { submit, unforeseen } = gateway();
    const dimension = fc.oneof(
      fc.integer({ min: -3, max: 9 }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
    );
    const name = fc.constantFrom("vector", "flat", "tokens", "words", "image");
    fc.assert(
      fc.property(name, fc.array(dimension, { maxLength: 5 }), (model_name, shape) => {
        const input = { vector: "x", flat: "x", tokens: "ids", words: "text", image: "image" }[model_name];
        const datatype = { vector: "FP32", flat: "FP32", tokens: "INT64", words: "BYTES", image: "FP32" }[model_name];
        const request = { model_name, inputs: [{ name: input, datatype, shape }], raw_input_contents: [floats(1)] };
        assert.deepEqual(submit(encode(request as ModelInferRequest)), ["INVALID_ARGUMENT"]);
        assert.deepEqual(unforeseen, []);
      }),
      { seed: SEED, numRuns: 2_000 },
    );
  });

  it("reads back any texts that were written", () => {
    const spec = { name: "text", datatype: "BYTES", shape: [-1] } as const;
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "grapheme", maxLength: 20 }), { maxLength: 10 }), (texts) => {
        const strings = texts.map((text) => Buffer.from(text.replaceAll("\0", "")));
        const read = rawTensorData(spec, strings.length, joinStrings(strings), NO_LIMIT, "m") as readonly Uint8Array[];
        assert.deepEqual(
          read.map((element) => Buffer.from(element)),
          strings,
        );
      }),
      { seed: SEED },
    );
  });
});
