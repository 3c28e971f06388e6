import assert from "node:assert/strict";
import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, it } from "node:test";
import { LoadError } from "../../daemon/device/load-error.ts";
import { ProfileCache } from "../../daemon/device/profile-cache.ts";
import type { AcceptedRequest } from "../../daemon/engine/ports.ts";
import type { ModelVersion } from "../../daemon/repository/model.ts";
import {
  addOne,
  declaresOneRow,
  doublesRows,
  dynamicDims,
  eachAgainstAll,
  passesThrough,
  scalarOutput,
  sharesOfColumns,
  slow,
} from "../../models/onnx/tiny.ts";
import { stopProcess } from "../support/stop-process.ts";
import { floats, floatsOf, LaneRig, TEST_PROVIDER, tensor } from "./lane-rig.ts";
import { lessMeansOfColumns, onlyIndexZero, onlyOfLength } from "./odd-models.ts";

const ON_GPU = TEST_PROVIDER.name !== "cpu";
const SHARES_MEMORY = process.platform === "linux";

/** One bucket, so that its load is short and its batch is not. */
const LONG = { name: "slow", maxBatchSize: 64, settings: { buckets: [64] } };

function one(rig: LaneRig, version: ModelVersion, value: number = 1): AcceptedRequest {
  return rig.request(version, [floats("x", [1, 4], Array<number>(4).fill(value))]);
}

async function serves(rig: LaneRig, version: ModelVersion): Promise<void> {
  const [output] = await rig.run(version, [one(rig, version, 41)], 2);
  assert.deepEqual(floatsOf(output!), Array(8).fill(42));
}

function rejectsAs(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof LoadError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\/tmp\//);
    return true;
  };
}

async function withLane(
  options: Parameters<typeof LaneRig.start>[0],
  test: (rig: LaneRig) => Promise<void>,
): Promise<void> {
  const rig = await LaneRig.start(options);
  try {
    await test(rig);
  } finally {
    await rig.close();
  }
}

describe("life of a lane", () => {
  it("comes back after its process was killed, with its models", { skip: !SHARES_MEMORY }, async () => {
    await withLane({}, async (rig) => {
      const first = await rig.version(addOne(), { name: "first" });
      const second = await rig.version(addOne(), { name: "second" });
      await rig.lane.load(first);
      const { profiles } = await rig.lane.load(second);
      const device = rig.lane.device;
      for (let life = 1; life <= 2; life++) {
        process.kill(rig.lane.pid!, "SIGKILL");
        await rig.until("lost", "SIGKILL", life);
        await rig.until("restarted", "", life);
        await rig.until("reloaded", "second/1", life);
        await rig.until("info", "is back", life);
        assert.notEqual(rig.lane.device, device);
        assert.equal(rig.lane.restarts, life);
        await serves(rig, first);
        await serves(rig, second);
        assert.deepEqual(rig.lane.profilesFor("second/1", ""), null);
        assert.deepEqual(rig.lane.profileFor("second/1", "")!.profile, profiles[""]);
      }
      const told = rig.happened.filter(([kind, text]) => kind === "info" && text.includes("is back"));
      for (const [, text] of told) assert.match(text, /^lane lane0 is back after [\d.]+ s: 2 models are loaded again$/);
    });
  });

  it("loads a model again where the process died before its profiles were kept", {
    skip: !SHARES_MEMORY,
  }, async (t) => {
    await withLane({ cacheFolder: "/nowhere" }, async (rig) => {
      const version = await rig.version(addOne(), { name: "unlucky" });
      const write = t.mock.method(ProfileCache.prototype, "write", async () => {
        if (write.mock.callCount() > 0) return;
        process.kill(rig.lane.pid!, "SIGKILL");
        await rig.until("lost");
      });
      await rig.lane.load(version);
      assert.equal(rig.lane.restarts, 1);
      await serves(rig, version);
    });
  });

  it("reports the batch it was executing as lost, by losing the lane and not by an end", {
    skip: !SHARES_MEMORY,
  }, async () => {
    await withLane({}, async (rig) => {
      const version = await rig.version(slow({ layers: 8, width: 512 }), LONG);
      await rig.lane.load(version);
      const input = floats("x", [64, 512], Array<number>(64 * 512).fill(1));
      // So that it can't have ended the batch when it is killed.
      await stopProcess(rig.lane.pid!);
      void rig.start(rig.execution(version, [rig.request(version, [input])], 64));
      process.kill(rig.lane.pid!, "SIGKILL");
      await rig.until("reloaded", "slow/1");
      const kinds = rig.happened.map(([kind]) => kind).filter((kind) => kind === "ended" || kind === "lost");
      assert.deepEqual(kinds, ["lost"]);
    });
  });

  it("drops a model that was executing each time its lane crashed, and keeps the others", {
    skip: !SHARES_MEMORY,
  }, async () => {
    await withLane({}, async (rig) => {
      const slowOne = await rig.version(slow({ layers: 8, width: 512 }), LONG);
      const good = await rig.version(addOne(), { name: "good" });
      await rig.lane.load(slowOne);
      await rig.lane.load(good);
      const input = floats("x", [64, 512], Array<number>(64 * 512).fill(1));
      for (let crash = 1; crash <= 3; crash++) {
        // So that it can't have ended the batch when it is killed.
        await stopProcess(rig.lane.pid!);
        void rig.start(rig.execution(slowOne, [rig.request(slowOne, [input])], 64));
        process.kill(rig.lane.pid!, "SIGKILL");
        await rig.until("reloaded", "good/1", crash);
      }
      const dropped = rig.happened.filter(([kind, text]) => kind === "dropped" && text.startsWith("slow/1: crashed"));
      assert.equal(dropped.length, 1, JSON.stringify(rig.happened));
      await serves(rig, good);
    });
  });

  it("gives up a model that fails its device, and not the one whose batch had begun when the process was gone", {
    skip: !SHARES_MEMORY || ON_GPU,
  }, async () => {
    await withLane({}, async (rig) => {
      const settings = { warmValues: { index: 0 } };
      const fatal = await rig.version(onlyIndexZero("CUDA failure 700"), { name: "fatal", maxBatchSize: 1, settings });
      const good = await rig.version(slow({ layers: 8, width: 512 }), LONG);
      await rig.lane.load(fatal);
      await rig.lane.load(good);
      const index = tensor("index", "INT64", [1, 1], BigInt64Array.of(1n));
      const input = floats("x", [64, 512], Array<number>(64 * 512).fill(1));
      for (let crash = 1; crash <= 3; crash++) {
        const failed = rig.start(rig.execution(fatal, [rig.request(fatal, [index])], 1));
        void rig.start(rig.execution(good, [rig.request(good, [input])], 64));
        const result = await failed;
        assert.match(result.ok ? "" : result.message, /CUDA failure 700/);
        await rig.until("reloaded", "slow/1", crash);
      }
      await rig.until("dropped", "fatal/1: crashed");
      await rig.run(good, [rig.request(good, [input])], 64);
      assert.equal(rig.happened.filter(([kind]) => kind === "dropped").length, 1);
    });
  });

  it("loads each model once where it is lost again while it loads them, and gives none up for that", {
    skip: !SHARES_MEMORY || ON_GPU,
  }, async () => {
    await withLane({}, async (rig) => {
      const first = await rig.version(addOne(), { name: "first" });
      const long = await rig.version(slow({ layers: 16, width: 512 }), { name: "slow", maxBatchSize: 64 });
      const last = await rig.version(addOne(), { name: "last" });
      for (const version of [first, long, last]) await rig.lane.load(version);
      process.kill(rig.lane.pid!, "SIGKILL");
      await rig.until("reloaded", "first/1");
      process.kill(rig.lane.pid!, "SIGKILL");
      await rig.until("info", "3 models are loaded again");
      const count = (kind: string, model: string): number =>
        rig.happened.filter(([one, text]) => one === kind && text.startsWith(model)).length;
      assert.deepEqual([count("reloaded", "first/1"), count("reloaded", "last/1"), count("dropped", "")], [2, 1, 0]);
      await serves(rig, first);
      await serves(rig, last);
    });
  });

  it("keeps its slots where smaller ones find no room beside them", { skip: !SHARES_MEMORY }, async () => {
    await withLane({ arenaBytesMax: 1 << 20 }, async (rig) => {
      const small = await rig.version(addOne(), { name: "small" });
      // Two slots of half a MiB each: 8 rows in and out.
      const large = await rig.version(addOne(8192), { name: "large" });
      await rig.lane.load(large);
      await rig.lane.load(small);
      assert.equal(rig.lane.sharedBytes, 1 << 20);
      await rig.lane.unload(large.key);
      await serves(rig, small);
      await rig.lane.unload(small.key);
      assert.equal(rig.lane.sharedBytes, 0);
    });
  });

  it("refuses models that are broken, missing, not as described or fail every trial, and serves the others", async () => {
    await withLane({}, async (rig) => {
      const good = await rig.version(addOne(), { name: "good" });
      await rig.lane.load(good);
      const broken = await rig.brokenVersion(Buffer.from("no model"), { name: "broken" });
      await assert.rejects(rig.lane.load(broken), rejectsAs("invalid", /model\.onnx/));
      await serves(rig, good);
      const missing = { ...good, key: "missing/1", path: path.join(rig.folder, "nowhere", "model.onnx") };
      await assert.rejects(rig.lane.load(missing), rejectsAs("invalid", /model\.onnx/));
      const misdescribed = { ...good, key: "other/1", inputs: [{ ...good.inputs[0]!, name: "z" }] };
      await assert.rejects(
        rig.lane.load(misdescribed),
        rejectsAs("mismatch", /input "z" should be float32 and is absent/),
      );
      const failing = await rig.version(onlyIndexZero(), { name: "failing" });
      await assert.rejects(rig.lane.load(failing), rejectsAs("warm-up", /Reshape node "failing" failed/));
      const badShape = await rig.version(dynamicDims(), {
        name: "shape",
        settings: { warmShapes: [{ x: [1, 2, 3] }] },
      });
      await assert.rejects(
        rig.lane.load(badShape),
        rejectsAs("warm-up", /warm shape \[1, 2, 3\] does not fit input "x"/),
      );
      await serves(rig, good);
      assert.deepEqual(
        rig.happened.filter(([kind]) => kind === "lost"),
        [],
      );
    });
  });

  it("refuses a model whose batches find no room, and serves the others", { skip: !SHARES_MEMORY }, async () => {
    await withLane({ arenaBytesMax: 1 << 20 }, async (rig) => {
      const good = await rig.version(addOne(), { name: "good" });
      await rig.lane.load(good);
      const large = await rig.version(addOne(100_000), { name: "large" });
      await assert.rejects(rig.lane.load(large), rejectsAs("memory", /two batches of 8 items find no room/));
      await serves(rig, good);
    });
  });

  it("executes small batches of a shape of which large ones find no room, and refuses those alone", {
    skip: !SHARES_MEMORY,
  }, async () => {
    await withLane({ arenaBytesMax: 1 << 20 }, async (rig) => {
      const settings = { warmShapes: [{ x: [64] }] };
      const version = await rig.version(dynamicDims(), { name: "long", maxBatchSize: 32, settings });
      await rig.lane.load(version);
      // A row of 64 KiB: its largest batch has 2 MiB of inputs.
      const length = 16_384;
      const row = Array.from({ length }, (_, index) => index % 100);
      const request = () => rig.request(version, [floats("x", [1, length], row)]);
      for (let time = 0; time < 3; time++) {
        const [y] = await rig.run(version, [request()], 1);
        assert.deepEqual(
          floatsOf(y!),
          row.map((value) => 2 * value),
        );
        const tooLarge = rig.execution(version, Array.from({ length: 32 }, request), 32);
        const result = await rig.start(tooLarge);
        assert.match(result.ok ? "" : result.message, /of shared memory wanted/);
      }
    });
  });

  it("executes batches while another model is being warmed up", async () => {
    await withLane({ profileBudgetMs: 300 }, async (rig) => {
      const quick = await rig.version(addOne(), { name: "quick" });
      await rig.lane.load(quick);
      const heavy = await rig.version(slow({ layers: 16, width: 512 }), { name: "heavy", maxBatchSize: 64 });
      let loaded = false;
      const loading = rig.lane.load(heavy).then(() => {
        loaded = true;
      });
      // It has begun with its first bucket: nearly all of its trial runs are still to come.
      await rig.until("progress", "heavy/1: bucket 1");
      for (let batch = 0; batch < 5; batch++) await serves(rig, quick);
      assert.equal(loaded, false);
      await loading;
      await serves(rig, quick);
    });
  });

  it("loads, executes and unloads again and again without keeping memory", async () => {
    await withLane({}, async (rig) => {
      const versions = await Promise.all(
        ["a", "b", "c"].map((name, index) => rig.version(addOne(4), { name, maxBatchSize: 2 ** (index + 1) })),
      );
      for (let round = 0; round < 3; round++) {
        await Promise.all(versions.map((version) => rig.lane.load(version)));
        for (const version of versions) await serves(rig, version);
        await Promise.all(versions.map((version) => rig.lane.unload(version.key)));
        assert.equal(rig.lane.sharedBytes, 0);
        assert.equal(rig.lane.profileFor("a/1", ""), null);
      }
    });
  });

  it("replaces a model that is loaded again under its key", async () => {
    await withLane({}, async (rig) => {
      const version = await rig.version(addOne(), { name: "again" });
      await rig.lane.load(version);
      const again = await rig.lane.load({ ...version, maxBatchSize: 2 });
      assert.deepEqual(again.buckets, [1, 2]);
      await serves(rig, version);
    });
  });

  it("reports outputs that batches cannot be split by", async () => {
    await withLane({}, async (rig) => {
      const scalar = await rig.version(scalarOutput(), { name: "scalar" });
      assert.deepEqual((await rig.lane.load(scalar)).unbatchedOutputs, ["mean"]);
      const doubled = await rig.version(doublesRows(), { name: "doubled" });
      assert.deepEqual((await rig.lane.load(doubled)).unbatchedOutputs, ["y"]);
      const whole = { ...scalar, batched: false, maxBatchSize: 1 };
      const loaded = await rig.lane.load(whole);
      assert.deepEqual(loaded.unbatchedOutputs, []);
      const request = rig.request(whole, [floats("x", [1, 4], [1, 2, 3, 6])]);
      assert.equal(request.shape, "x:1");
      const [y, mean] = await rig.run(whole, [request], 1);
      assert.deepEqual(floatsOf(y!), [1, 2, 3, 6]);
      assert.deepEqual(mean!.shape, []);
      assert.deepEqual(floatsOf(mean!), [3]);
    });
  });

  it("fills inputs of trial runs with the values that the model's settings name", async () => {
    await withLane({}, async (rig) => {
      const unnamed = await rig.version(onlyIndexZero(), { name: "unnamed" });
      await assert.rejects(rig.lane.load(unnamed), rejectsAs("warm-up", /`warm_shapes` or `warm_values`/));
      const version = await rig.version(onlyIndexZero(), { name: "named", settings: { warmValues: { index: 0 } } });
      const { profiles } = await rig.lane.load(version);
      assert.ok(profiles[""]!.length > 0);
    });
  });

  it("reports outputs in which items of a batch are answered otherwise than alone", async () => {
    await withLane({}, async (rig) => {
      const shares = await rig.version(sharesOfColumns(), { name: "shares" });
      assert.deepEqual((await rig.lane.load(shares)).mixedOutputs, ["y"]);
      const named = await rig.version(lessMeansOfColumns(), { name: "named", settings: { warmValues: { x: 5 } } });
      assert.deepEqual((await rig.lane.load(named)).mixedOutputs, ["y"], "in spite of values that make all rows alike");
      const all = await rig.version(eachAgainstAll(), { name: "all" });
      assert.deepEqual((await rig.lane.load(all)).mixedOutputs, ["scores"]);
      const plain = await rig.version(addOne(), { name: "plain" });
      assert.deepEqual((await rig.lane.load(plain)).mixedOutputs, []);
    });
  });

  it("answers an output that is an input with what was sent, and not with what lay in memory", async () => {
    await withLane({}, async (rig) => {
      const version = await rig.version(passesThrough(), { name: "passes" });
      await rig.lane.load(version);
      for (const base of [100, 1, 7]) {
        const row = [base, base + 1, base + 2, base + 3];
        const [x, y] = await rig.run(version, [rig.request(version, [floats("x", [1, 4], row)])], 1);
        assert.deepEqual(floatsOf(x!), row);
        assert.deepEqual(
          floatsOf(y!),
          row.map((value) => 2 * value),
        );
      }
    });
  });

  it("answers with outputs of other sizes than the file declares, however often", async () => {
    await withLane({}, async (rig) => {
      const version = await rig.version(declaresOneRow(), { name: "declares", batched: false });
      await rig.lane.load(version);
      for (let round = 0; round < 3; round++) {
        const [y] = await rig.run(version, [rig.request(version, [floats("x", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8])])], 1);
        assert.deepEqual(y!.shape, [2, 4]);
        assert.deepEqual(floatsOf(y!), [2, 4, 6, 8, 10, 12, 14, 16]);
      }
    });
  });

  it("keeps profiles on disk and measures anew only where something differs or it is told to", async () => {
    await withLane({}, async (files) => {
      const cacheFolder = path.join(files.folder, "profiles");
      const version = await files.version(addOne(), { name: "kept" });
      const load = async (
        options: Partial<Parameters<typeof LaneRig.start>[0]>,
        reprofile = false,
      ): Promise<boolean> => {
        let fromCache = false;
        await withLane({ cacheFolder, ...options }, async (rig) => {
          ({ fromCache } = await rig.lane.load(version, { reprofile }));
          await serves(rig, version);
        });
        return fromCache;
      };
      assert.equal(await load({}), false);
      assert.equal(await load({}), true);
      assert.equal(await load({ threads: 2 }), false);
      assert.equal(await load({ deviceName: "another" }), false);
      assert.equal(await load({}, true), false);
      const cached = await readdir(cacheFolder);
      assert.equal(cached.length, 3);
      for (const file of cached) await writeFile(path.join(cacheFolder, file), "{");
      assert.equal(await load({}), false);
      assert.equal(await load({}), true);
    });
  });

  it("announces each new shape once, with a profile in proportion to its size", { skip: ON_GPU }, async () => {
    await withLane({}, async (rig) => {
      const settings = { warmShapes: [{ x: [64] }, { x: [1024] }] };
      const version = await rig.version(dynamicDims(), { name: "shapes", settings });
      const { profiles } = await rig.lane.load(version);
      assert.deepEqual(Object.keys(profiles), ["x:64", "x:1024"]);
      assert.equal(rig.lane.profilesFor(version.key, "x:64"), null);
      const announced = rig.lane.profilesFor(version.key, "x:2048")!;
      assert.deepEqual(Object.keys(announced).sort(), ["*", "x:1024", "x:2048", "x:64"]);
      // Profiles that were there stay as they are, so that a receiver can tell what is new.
      assert.equal(announced["x:64"], profiles["x:64"]);
      assert.equal(announced["x:2048"]![0]!.us, 2 * profiles["x:1024"]![0]!.us);
      assert.equal(rig.lane.profilesFor(version.key, "x:2048"), null);
      assert.deepEqual(rig.lane.profileFor(version.key, "x:2048"), {
        profile: announced["x:2048"],
        measured: false,
        cold: false,
      });
      assert.equal(rig.lane.profilesFor("unknown/1", "x:1"), null);
    });
  });

  it("announces no shape that a GPU has not prepared for", { skip: !ON_GPU }, async () => {
    await withLane({}, async (rig) => {
      const version = await rig.version(dynamicDims(), { name: "cold", settings: { warmShapes: [{ x: [8] }] } });
      await rig.lane.load(version);
      assert.equal(rig.lane.profilesFor(version.key, "x:16"), null);
      assert.equal(rig.lane.profileFor(version.key, "x:16")!.cold, true);
      assert.deepEqual([rig.lane.isCold(version.key, "x:8"), rig.lane.isCold(version.key, "x:16")], [false, true]);
      const turns: number[] = [];
      const profiles = await rig.lane.warm(version.key, "x:16", async () => void turns.push(turns.length));
      assert.deepEqual(Object.keys(profiles), ["x:8", "x:16"]);
      assert.equal(turns.length, profiles["x:8"]!.length, "a turn for each batch size");
      assert.equal(rig.lane.isCold(version.key, "x:16"), false);
    });
  });

  it("warms a shape later, one batch size at a time, and executes batches in between", async () => {
    await withLane({}, async (rig) => {
      const settings = { warmShapes: [{ x: [8] }] };
      const version = await rig.version(dynamicDims(), { name: "later", settings });
      const { buckets } = await rig.lane.load(version);
      const request = (length: number) =>
        rig.request(version, [floats("x", [1, length], Array<number>(length).fill(3))]);
      let turns = 0;
      const profiles = await rig.lane.warm(version.key, "x:5", async () => {
        turns++;
        const [y] = await rig.run(version, [request(5)], 1);
        assert.deepEqual(floatsOf(y!), [6, 6, 6, 6, 6]);
      });
      assert.equal(turns, buckets.length);
      assert.deepEqual(Object.keys(profiles), ["x:8", "x:5"]);
      assert.deepEqual(
        profiles["x:5"]!.map(({ bucket }) => bucket),
        buckets,
      );
      assert.equal(rig.lane.profileFor(version.key, "x:5")!.measured, true);
    });
  });

  it("tells whoever waits for a shape why it can't be warmed", async () => {
    await withLane({}, async (rig) => {
      const version = await rig.version(dynamicDims(), { name: "gone" });
      const none = async (): Promise<void> => {};
      await assert.rejects(rig.lane.warm(version.key, "x:5", none), rejectsAs("closed", /gone\/1 is not loaded/));
      await rig.lane.load(version);
      const unloading = rig.lane.warm(version.key, "x:5", () => rig.lane.unload(version.key));
      await assert.rejects(unloading, rejectsAs("closed", /gone\/1 was unloaded/));
      const picky = await rig.version(onlyOfLength(4), { name: "picky", settings: { warmShapes: [{ x: [4] }] } });
      await rig.lane.load(picky);
      await assert.rejects(rig.lane.warm(picky.key, "x:5", none), rejectsAs("warm-up", /node .*failed/));
      if (!SHARES_MEMORY) return;
      const killed = rig.lane.warm(picky.key, "x:4", async () => {
        process.kill(rig.lane.pid!, "SIGKILL");
        await rig.until("lost");
      });
      await assert.rejects(killed, rejectsAs("crashed", /is restarting/));
    });
  });

  it("warms a model of varying shape with a guess where its settings name none", async () => {
    await withLane({}, async (rig) => {
      const version = await rig.version(dynamicDims(), { name: "guessed" });
      const loaded = await rig.lane.load(version);
      assert.deepEqual(Object.keys(loaded.profiles), ["x:64"]);
      assert.deepEqual(loaded.coldShapes, []);
    });
  });

  it("tells the loads that wait when it is closed", async () => {
    const rig = await LaneRig.start();
    const version = await rig.version(slow(), { name: "slow" });
    const loads = [rig.lane.load(version), rig.lane.load({ ...version, key: "slow/2" })];
    const rejected = Promise.all(loads.map((load) => assert.rejects(load, rejectsAs("closed", /was closed/))));
    await rig.until("progress", "slow/1");
    await rig.close();
    await rejected;
  });
});
