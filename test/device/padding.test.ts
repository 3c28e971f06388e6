/** Sequences of different lengths in one batch, on a device lane. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { AcceptedRequest } from "../../daemon/engine/ports.ts";
import { lengthsOfKeys, type SequencePadding } from "../../daemon/engine/sequence.ts";
import { cutBack, splitOutputs } from "../../daemon/engine/split.ts";
import type { Tensor } from "../../daemon/engine/tensors.ts";
import type { ModelVersion } from "../../daemon/repository/model.ts";
import { Graph } from "../../models/onnx/graph.ts";
import { integers, scalar } from "../../models/onnx/tensor.ts";
import { dynamicDims, MASKED_MEAN_VOCABULARY, maskedMean } from "../../models/onnx/tiny.ts";
import { writeModel } from "../../models/onnx/write-model.ts";
import { Random } from "../../models/random.ts";
import { floats, floatsOf, LaneRig, TEST_PROVIDER, tensor } from "./lane-rig.ts";

const SEQUENCE: SequencePadding = {
  lengths: [8, 16],
  lengthMax: 16,
  mask: "attention_mask",
  pad: {},
  outputAxes: {},
};

function tokens(random: Random, items: number, length: number): Tensor[] {
  const ids = BigInt64Array.from({ length: items * length }, () => BigInt(random.below(MASKED_MEAN_VOCABULARY)));
  const mask = BigInt64Array.from({ length: items * length }, () => BigInt(random.below(4) === 0 ? 0 : 1));
  return [tensor("input_ids", "INT64", [items, length], ids), tensor("attention_mask", "INT64", [items, length], mask)];
}

/** Each request's own part of a batch's outputs, as the engine gives it. */
function ownParts(outputs: readonly Tensor[], requests: readonly AcceptedRequest[], bucket: number): Tensor[][] {
  let offset = 0;
  return requests.map(({ items, padding }) => {
    const rows = splitOutputs(outputs, null, bucket, offset, items) as Tensor[];
    offset += items;
    return padding == null ? rows : rows.map((output) => cutBack(output, padding));
  });
}

/** On CUDA matrix products of FP32 are computed in TF32, and which kernel does it depends on the shape. */
const TOLERANCE = TEST_PROVIDER.name === "cuda" ? 1e-3 : 1e-5;

function assertClose(actual: readonly Tensor[], expected: readonly Tensor[]): void {
  for (const [index, output] of expected.entries()) {
    assert.deepEqual(actual[index]!.shape, output.shape, output.name);
    const values = floatsOf(actual[index]!);
    for (const [at, value] of floatsOf(output).entries()) {
      assert.ok(Math.abs(values[at]! - value) <= TOLERANCE, `${output.name}[${at}]: ${values[at]} instead of ${value}`);
    }
  }
}

describe("padding of sequences on a lane", () => {
  let rig: LaneRig;

  before(async () => {
    rig = await LaneRig.start();
  });
  after(async () => {
    await rig.close();
  });

  /** The version as it is served once the lane has loaded it: padded where the lane's trial allows it. */
  async function served(version: ModelVersion): Promise<{ version: ModelVersion; reason: string | null }> {
    const { padding, profiles } = await rig.lane.load(version);
    assert.ok(padding !== null);
    if (!padding.ok) return { version: { ...version, sequence: null }, reason: padding.reason };
    const lengths = lengthsOfKeys(version, Object.keys(profiles));
    const sequence = { ...version.sequence!, lengths, outputAxes: padding.outputAxes };
    return { version: { ...version, sequence }, reason: null };
  }

  it("answers requests of different lengths in one batch as each alone and unpadded", async () => {
    const random = new Random(11);
    const { version } = await served(await rig.version(maskedMean(), { name: "masked", sequence: SEQUENCE }));
    assert.deepEqual(version.sequence!.outputAxes, { states: [1] });
    const exact = { ...version, sequence: null };
    for (const lengths of [
      [1, 5, 8, 3],
      [9, 16, 12],
    ]) {
      const inputs = lengths.map((length, index) => tokens(random, 1 + (index % 2), length));
      const requests = inputs.map((input) => rig.request(version, input));
      assert.equal(new Set(requests.map(({ shape }) => shape)).size, 1);
      const parts = ownParts(await rig.run(version, requests, 8), requests, 8);
      for (const [index, input] of inputs.entries()) {
        const alone = rig.request(exact, input);
        const [own] = ownParts(await rig.run(exact, [alone], alone.items), [alone], alone.items);
        assertClose(parts[index]!, own!);
      }
    }
  });

  it("keeps padding that was staged when the batch grows, and pads rows that fill up the bucket", async () => {
    const random = new Random(12);
    const { version } = await served(await rig.version(maskedMean(), { name: "staged", sequence: SEQUENCE }));
    const requests = [3, 7, 2].map((length) => rig.request(version, tokens(random, 1, length)));
    const whole = rig.execution(version, requests, 4);
    const first = rig.execution(version, requests.slice(0, 2), 2);
    rig.lane.device.stage(first);
    const result = await rig.start(whole);
    assert.ok(result.ok);
    const staged = ownParts(result.outputs, requests, 4).map((outputs) => outputs.map(floatsOf));
    rig.lane.device.release(whole);
    const again = ownParts(await rig.run(version, requests, 4), requests, 4);
    assert.deepEqual(
      staged,
      again.map((outputs) => outputs.map(floatsOf)),
    );
  });

  it("runs a request longer than the longest length in its own shape", async () => {
    const { version } = await served(await rig.version(maskedMean(), { name: "long", sequence: SEQUENCE }));
    const request = rig.request(version, tokens(new Random(13), 1, 17));
    assert.equal(request.shape, "input_ids:17;attention_mask:17");
    assert.equal(request.padding, null);
    const [pooled, states] = await rig.run(version, [request], 1);
    assert.deepEqual(
      [pooled!.shape, states!.shape],
      [
        [1, 4],
        [1, 17, 4],
      ],
    );
  });

  it("refuses to pad where the model ignores its mask, and says which output differs", async () => {
    const ignoring = await rig.version(maskedMean({ ignoresMask: true }), { name: "ignoring", sequence: SEQUENCE });
    const { reason } = await served(ignoring);
    assert.match(reason!, /^output 'pooled' of an item of length \d+, padded to \d+, differs by .* %/);
  });

  it("refuses to pad a model without a mask whose answers depend on all elements", async () => {
    const sequence = { ...SEQUENCE, mask: null, pad: { x: 1 } };
    const { reason } = await served(await rig.version(dynamicDims(), { name: "sums", sequence }));
    assert.match(reason!, /^output 'total' .* differs by/);
  });

  it("pads a model without a mask where the padding adds nothing", async () => {
    const sequence = { ...SEQUENCE, mask: null };
    const { version } = await served(await rig.version(dynamicDims(), { name: "adds-nothing", sequence }));
    assert.deepEqual(version.sequence!.outputAxes, { y: [1] });
    const requests = [[1, 2, 3], [4]].map((x) => rig.request(version, [floats("x", [1, x.length], x)]));
    const parts = ownParts(await rig.run(version, requests, 2), requests, 2);
    assert.deepEqual(
      parts.map((outputs) => outputs.map(floatsOf)),
      [
        [[2, 4, 6], [6]],
        [[8], [4]],
      ],
    );
  });

  it("refuses to pad where an output can't be cut back", async () => {
    const graph = new Graph("one_longer");
    graph.input("x", "FP32", ["batch", "sequence"]);
    graph.output("y", "FP32", ["batch", "longer"]);
    graph.node(
      "Pad",
      ["x", graph.constant("pads", integers([0, 0, 0, 1])), graph.constant("zero", scalar(0))],
      {},
      "y",
    );
    const sequence = { ...SEQUENCE, mask: null };
    const { reason } = await served(await rig.version(writeModel(graph), { name: "longer", sequence }));
    assert.match(reason!, /^output 'y' is \[\d+,7\] at length 6 and \[\d+,9\] at length 8: it can't be cut back/);
  });

  it("chooses lengths by measuring, warms them all, and finds the same again in the cache", async () => {
    const sequence = { ...SEQUENCE, lengths: null, lengthMax: 64 };
    const options = { cacheFolder: `${rig.folder}/profiles` };
    const version = await rig.version(maskedMean(), { name: "measured", sequence });
    const loads: string[][] = [];
    for (const fromCache of [false, true]) {
      const other = await LaneRig.start(options);
      try {
        const loaded = await other.lane.load(version);
        assert.equal(loaded.fromCache, fromCache);
        assert.ok(loaded.padding?.ok);
        loads.push(Object.keys(loaded.profiles));
      } finally {
        await other.close();
      }
    }
    assert.deepEqual(loads[1], loads[0]);
    assert.equal(lengthsOfKeys(version, loads[0]!).at(-1), 64);
  });
});
