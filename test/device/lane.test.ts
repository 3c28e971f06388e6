import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import type { Transport } from "../../daemon/device/lane-options.ts";
import { type Datatype, ELEMENT_BYTES, type Tensor } from "../../daemon/engine/tensors.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import {
  addOne,
  dynamicDims,
  failsAtRun,
  identity,
  noBatchDim,
  stringIdentity,
  twoInputsTwoOutputs,
} from "../../models/onnx/tiny.ts";
import { loneSession, OnnxTensor } from "../support/onnx-session.ts";
import { floats, floatsOf, LaneRig, outside, strings, TEST_PROVIDER, tensor } from "./lane-rig.ts";
import { repeatsByData } from "./odd-models.ts";

const TRANSPORTS: readonly Transport[] = process.platform === "linux" ? ["memfd", "shm", "threads"] : ["threads"];

for (const transport of TRANSPORTS) {
  describe(`lane, tensors by ${transport}`, () => {
    let rig: LaneRig;

    before(async () => {
      rig = await LaneRig.start({ transport });
    });

    after(async () => {
      await rig.close();
    });

    it("carries every datatype unchanged, as a lone session does", async () => {
      for (const datatype of Object.keys(ELEMENT_BYTES) as Datatype[]) {
        if (datatype === "BYTES") continue;
        const version = await rig.version(identity(datatype), { name: `identity-${datatype}` });
        await rig.lane.load(version);
        const inputs = [1, 2].map((rows) => tensor("x", datatype, [rows, 4], elements(datatype, rows * 4)));
        const [output] = await rig.run(
          version,
          inputs.map((input) => rig.request(version, [input])),
          4,
        );
        const sent = Buffer.concat(inputs.map(({ data }) => data as Uint8Array));
        assert.deepEqual(output!.shape, [4, 4], datatype);
        const received = Buffer.from(output!.data as Uint8Array);
        assert.deepEqual(received.subarray(0, sent.length), sent, datatype);
        // The padding row is the last one again.
        assert.deepEqual(received.subarray(sent.length), sent.subarray(sent.length - sent.length / 3), datatype);
        await rig.lane.unload(version.key);
      }
    });

    it("carries strings, empty and long ones too", async () => {
      const version = await rig.version(stringIdentity(), { name: "strings" });
      await rig.lane.load(version);
      const values = ["", "grüß dich", "x".repeat(200_000)];
      const requests = values.map((value) => rig.request(version, [strings("text", [1, 1], [value])]));
      const [output] = await rig.run(version, requests, 4);
      const texts = (output!.data as Uint8Array[]).map((element) => Buffer.from(element).toString());
      assert.deepEqual(texts, [...values, values[2]]);
    });

    it("gives each row of a mixed, padded batch what a lone session gives", async () => {
      const bytes = twoInputsTwoOutputs();
      const version = await rig.version(bytes, { name: "two" });
      await rig.lane.load(version);
      const rows = [1, 3, 1].map((items, index) => {
        const values = (offset: number): number[] =>
          Array.from({ length: items * 3 }, (_, i) => offset + index * 10 + i);
        return rig.request(version, [floats("a", [items, 3], values(0.5)), floats("b", [items, 3], values(-2))]);
      });
      const outputs = await rig.run(version, rows, 8);
      assert.deepEqual(
        outputs.map(({ name, shape }) => [name, shape]),
        [
          ["sum", [8, 3]],
          ["product", [8, 1]],
        ],
      );
      const lone = await loneSession(bytes);
      const feeds = Object.fromEntries(
        ["a", "b"].map((name, input) => {
          const joined = rows.flatMap((request) => floatsOf(request.inputs[input]!));
          return [name, new OnnxTensor("float32", Float32Array.from(joined), [5, 3])];
        }),
      );
      const expected = await lone.run(feeds);
      for (const output of outputs) {
        const wanted = [...(expected[output.name]!.data as Float32Array)];
        assert.deepEqual(floatsOf(output).slice(0, wanted.length), wanted);
      }
      await lone.release();
    });

    it("executes a model without a batch dimension", async () => {
      const version = await rig.version(noBatchDim(), { name: "unbatched", batched: false });
      const loaded = await rig.lane.load(version);
      assert.deepEqual(loaded.buckets, [1]);
      const [output] = await rig.run(version, [rig.request(version, [floats("x", [2, 3], [1, 2, 3, 4, 5, 6])])]);
      assert.deepEqual(output!.shape, [2, 3]);
      assert.deepEqual(floatsOf(output!), [2, 4, 6, 8, 10, 12]);
    });

    it("executes shapes that were warmed, larger ones, and none at all", async () => {
      const settings = { warmShapes: [{ x: [16] }] };
      const version = await rig.version(dynamicDims(), { name: "dynamic", settings });
      const loaded = await rig.lane.load(version);
      assert.deepEqual(Object.keys(loaded.profiles), ["x:16"]);
      for (const length of [16, 3, 70_000, 16, 0, 70_000]) {
        const values = Array.from({ length: 2 * length }, (_, i) => i % 7);
        // Twice, since outputs are written in place only once their shape is known.
        for (let time = 0; time < 2; time++) {
          const [y, total] = await rig.run(version, [rig.request(version, [floats("x", [2, length], values)])], 2);
          assert.deepEqual(y!.shape, [2, length]);
          assert.deepEqual(
            floatsOf(y!),
            values.map((value) => 2 * value),
          );
          const sums = [values.slice(0, length), values.slice(length)].map((row) => row.reduce((sum, v) => sum + v, 0));
          assert.deepEqual(floatsOf(total!), sums);
        }
      }
    });

    it("copies outputs whose shape depends on the data, into the slot or past it", async () => {
      const version = await rig.version(repeatsByData(), { name: "repeats" });
      await rig.lane.load(version);
      for (const times of [1, 3, 100_000, 2]) {
        const request = rig.request(version, [
          floats("x", [1, 4], [1, 2, 3, 4]),
          tensor("times", "INT64", [1, 1], BigInt64Array.of(BigInt(times))),
        ]);
        const [y] = await rig.run(version, [request], 2);
        assert.deepEqual(y!.shape, [2, 4 * times]);
        assert.deepEqual(floatsOf(y!).slice(0, 4), [1, 2, 3, 4]);
        assert.deepEqual(floatsOf(y!).slice(-4), [1, 2, 3, 4]);
      }
    });

    it("copes with a model whose declared output shape does not hold", async () => {
      const settings = { warmShapes: [{ x: [4] }] };
      const version = await rig.version(repeatsByData({ lies: true }), { name: "lies", settings });
      await rig.lane.load(version);
      for (const times of [1, 3, 1]) {
        const request = rig.request(version, [
          floats("x", [1, 4], [5, 6, 7, 8]),
          tensor("times", "INT64", [1, 1], BigInt64Array.of(BigInt(times))),
        ]);
        const [y] = await rig.run(version, [request], 1);
        assert.deepEqual(y!.shape, [1, 4 * times]);
        assert.deepEqual(floatsOf(y!).slice(-4), [5, 6, 7, 8]);
      }
    });

    it("gathers the next batch while one executes, and starts it grown, shrunk or replaced", async () => {
      const version = await rig.version(addOne(), { name: "add" });
      await rig.lane.load(version);
      const requests = Array.from({ length: 6 }, (_, i) =>
        rig.request(version, [floats("x", [1, 4], [i, i * 10, i * 100, i * 1000])]),
      );
      const expected = (indexes: number[]): number[] =>
        indexes.flatMap((i) => [i + 1, i * 10 + 1, i * 100 + 1, i * 1000 + 1]);
      // What was staged, and what then starts.
      const cases: readonly (readonly [number[], number[]])[] = [
        [
          [0, 1],
          [0, 1],
        ],
        [
          [0, 1],
          [0, 1, 2, 3, 4],
        ],
        [[0, 1, 2, 3], [0]],
        [
          [0, 1, 2],
          [0, 2, 1],
        ],
        [
          [4, 5],
          [1, 2, 3],
        ],
      ];
      for (const [staged, started] of cases) {
        const first = rig.execution(version, [requests[5]!], 1);
        const running = rig.start(first);
        const pick = (indexes: number[]): typeof requests => indexes.map((i) => requests[i]!);
        rig.lane.device.stage(rig.execution(version, pick(staged), 4));
        const result = await running;
        assert.ok(result.ok);
        assert.deepEqual(floatsOf(result.outputs[0]!), expected([5]));
        rig.lane.device.release(first);
        const [output] = await rig.run(version, pick(started), 8);
        const padded = [...started, ...new Array<number>(8 - started.length).fill(started.at(-1)!)];
        assert.deepEqual(floatsOf(output!), expected(padded));
      }
    });

    it("copies inputs of every datatype from outside the daemon", async () => {
      for (const datatype of Object.keys(ELEMENT_BYTES) as Datatype[]) {
        if (datatype === "BYTES") continue;
        const version = await rig.version(identity(datatype), { name: `outside-${datatype}` });
        await rig.lane.load(version);
        const inputs = [2, 1].map((rows) => tensor("x", datatype, [rows, 4], elements(datatype, rows * 4)));
        const requests = [rig.request(version, [outside(inputs[0]!)]), rig.request(version, [inputs[1]!])];
        const [output] = await rig.run(version, requests, 3);
        const sent = Buffer.concat(inputs.map(({ data }) => data as Uint8Array));
        assert.deepEqual(Buffer.from(output!.data as Uint8Array), sent, datatype);
        await rig.lane.unload(version.key);
      }
    });

    it("executes a batch without the requests that can't be read, wherever they stand in it", async () => {
      // An index out of bounds would fail the whole batch, on a CPU at least.
      const version = await rig.version(failsAtRun(), { name: "unreadable" });
      await rig.lane.load(version);
      const request = (index: number, error: Error | null = null): ReturnType<typeof rig.request> => {
        const data = tensor("index", "INT64", [1, 1], BigInt64Array.of(BigInt(index)));
        return rig.request(version, [error === null ? data : outside(data, () => error)]);
      };
      const gone = new Error("gone");
      for (const at of [0, 1, 2, 3]) {
        const requests = [1, 2, 3].map((index) => request(index));
        requests.splice(at, 0, request(2 ** 40, gone));
        const execution = rig.execution(version, requests, 8);
        const result = await rig.start(execution);
        assert.ok(result.ok, result.ok ? "" : result.message);
        assert.deepEqual([...result.unreadable!], [[requests[at]!.id, gone]]);
        const values = floatsOf(result.outputs[0]!).slice(0, 4);
        assert.deepEqual(values.toSpliced(at, 1), [10, 20, 30]);
        rig.lane.device.release(execution);
      }
      const alone = rig.execution(version, [request(1, gone), request(2, gone)], 2);
      const result = await rig.start(alone);
      assert.ok(!result.ok);
      assert.equal(result.unreadable?.size, 2);
      assert.equal(result.timings, null);
      rig.lane.device.release(alone);
      const [output] = await rig.run(version, [request(3)], 1);
      assert.deepEqual(floatsOf(output!), [30]);
    });

    it("reads what is outside once where a batch starts as it was staged, and again where it was replaced", async () => {
      const version = await rig.version(addOne(), { name: "staged-outside" });
      await rig.lane.load(version);
      const reads = new Map<number, number>();
      const gone = new Set<number>();
      const requests = Array.from({ length: 5 }, (_, i) => {
        const data = outside(floats("x", [1, 4], [i, i, i, i]), () => {
          reads.set(i, (reads.get(i) ?? 0) + 1);
          return gone.has(i) ? new Error(`${i} is gone`) : null;
        });
        return rig.request(version, [data]);
      });
      const plain = rig.request(version, [floats("x", [1, 4], [9, 9, 9, 9])]);
      /** Stages a batch while another runs, then starts one; which of its members could not be read, and their outputs. */
      const run = async (staged: number[], started: number[]): Promise<[string[], number[]]> => {
        reads.clear();
        const first = rig.execution(version, [plain], 1);
        const running = rig.start(first);
        const pick = (indexes: number[]): typeof requests => indexes.map((i) => requests[i]!);
        rig.lane.device.stage(rig.execution(version, pick(staged), 8));
        await running;
        rig.lane.device.release(first);
        const execution = rig.execution(version, pick(started), 8);
        const result = await rig.start(execution);
        assert.ok(result.ok, result.ok ? "" : result.message);
        const outputs = floatsOf(result.outputs[0]!).filter((_, at) => at % 4 === 0);
        rig.lane.device.release(execution);
        return [[...(result.unreadable?.values() ?? [])].map(({ message }) => message), outputs];
      };
      assert.deepEqual(await run([0, 1], [0, 1]), [[], [1, 2, 2, 2, 2, 2, 2, 2]]);
      assert.deepEqual(
        [...reads],
        [
          [0, 1],
          [1, 1],
        ],
      );
      assert.deepEqual(await run([0, 1], [0, 2]), [[], [1, 3, 3, 3, 3, 3, 3, 3]]);
      assert.deepEqual(
        [...reads],
        [
          [0, 1],
          [1, 1],
          [2, 1],
        ],
      );
      assert.deepEqual(await run([0, 1], [1, 0]), [[], [2, 1, 1, 1, 1, 1, 1, 1]]);
      assert.deepEqual(
        [...reads],
        [
          [0, 2],
          [1, 2],
        ],
      );
      gone.add(0).add(1);
      // Nothing of what was staged could be read: what joins it is executed all the same.
      assert.deepEqual(await run([0, 1], [0, 1, 3, 4]), [
        ["0 is gone", "1 is gone"],
        [4, 4, 4, 5, 5, 5, 5, 5],
      ]);
      assert.deepEqual(await run([0, 3], [3, 4]), [[], [4, 5, 5, 5, 5, 5, 5, 5]]);
    });

    it("keeps outputs readable until they are released, whatever runs meanwhile", async () => {
      const version = await rig.version(addOne(), { name: "add-held" });
      await rig.lane.load(version);
      const held: { output: Tensor; value: number; release: () => void }[] = [];
      for (let value = 0; value < 5; value++) {
        const execution = rig.execution(
          version,
          [rig.request(version, [floats("x", [1, 4], Array(4).fill(value))])],
          8,
        );
        const result = await rig.start(execution);
        assert.ok(result.ok);
        held.push({ output: result.outputs[0]!, value, release: () => rig.lane.device.release(execution) });
      }
      for (const { output, value, release } of held) {
        assert.deepEqual(floatsOf(output), Array(32).fill(value + 1));
        release();
      }
    });

    // GPUs do not check bounds.
    const skip = TEST_PROVIDER.name !== "cpu";
    it("ends a batch that fails with the runtime's reason and without the host's paths", { skip }, async () => {
      const version = await rig.version(failsAtRun(), { name: "fails" });
      await rig.lane.load(version);
      const request = (index: number): ReturnType<typeof rig.request> =>
        rig.request(version, [tensor("index", "INT64", [1, 1], BigInt64Array.of(BigInt(index)))]);
      const execution = rig.execution(version, [request(9)], 1);
      const result = await rig.start(execution);
      assert.ok(!result.ok);
      assert.match(result.message, /^Gather node failed: .*idx=9/);
      assert.doesNotMatch(result.message, /\/tmp|onnxruntime_src|\/home/);
      assert.ok(!result.message.includes(PACKAGE_ROOT), result.message);
      rig.lane.device.release(execution);
      const [output] = await rig.run(version, [request(2)], 1);
      assert.deepEqual(floatsOf(output!), [20]);
    });

    it("ends a batch whose bytes do not fit its shape, and one of an unloaded model", async () => {
      const version = await rig.version(addOne(), { name: "add-checked" });
      const unloaded = await rig.start(
        rig.execution(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])]),
      );
      assert.ok(!unloaded.ok);
      assert.match(unloaded.message, /not loaded/);
      await rig.lane.load(version);
      const short = { ...floats("x", [1, 4], [1, 2, 3]), shape: [1, 4] };
      const failed = await rig.start(rig.execution(version, [rig.request(version, [short])]));
      assert.ok(!failed.ok);
      assert.match(failed.message, /holds 12 bytes where its shape needs 16/);
      const [output] = await rig.run(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])], 1);
      assert.deepEqual(floatsOf(output!), [2, 3, 4, 5]);
    });

    it("tells how long the parts of an execution took", async () => {
      const version = await rig.version(addOne(), { name: "add-timed" });
      await rig.lane.load(version);
      const execution = rig.execution(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])], 1);
      const result = await rig.start(execution);
      assert.ok(result.ok);
      for (const us of Object.values(result.timings)) assert.ok(Number.isInteger(us) && us >= 0);
      assert.ok(result.timings.executeUs > 0);
      rig.lane.device.release(execution);
    });
  });
}

/** Bytes that are valid for the datatype: any bit pattern but for booleans, and no NaN among floats. */
function elements(datatype: Datatype, count: number): Uint8Array {
  const bytes = randomBytes(count * ELEMENT_BYTES[datatype]!);
  if (datatype === "BOOL") return bytes.map((byte) => byte & 1);
  if (datatype.startsWith("FP")) {
    const width = ELEMENT_BYTES[datatype]!;
    // The highest bit of the exponent is cleared.
    for (let i = width - 1; i < bytes.length; i += width) bytes[i]! &= 0xbf;
  }
  return bytes;
}
