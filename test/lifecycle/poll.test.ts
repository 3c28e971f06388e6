/** Model control `poll`: the repository changes while requests keep coming. */
import assert from "node:assert/strict";
import { cpSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { type InferOptions, tensor } from "slackline-client";
import { addOne, identity } from "../../models/onnx/tiny.ts";
import { unknownOperator } from "../support/broken-model.ts";
import {
  LEVEL,
  type LiveDaemon,
  startLiveDaemon,
  temporaryFolder,
  until,
  writeModelFiles,
} from "../support/live-daemon.ts";
import { startTraffic } from "../support/traffic.ts";

const CONFIG = "max_batch_size: 4\nslo_ms: 60000\n";

describe("poll", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    writeModelFiles(repository.dir, "m", { "1/model.onnx": addOne(4), "config.yaml": CONFIG });
    live = await startLiveDaemon(repository.dir, ["--model-control", "poll", "--repository-poll-ms", "100"]);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  async function state(name: string, version: string): Promise<string | undefined> {
    return (await live.client.repositoryIndex()).find((entry) => entry.name === name && entry.version === version)
      ?.state;
  }

  test("a new version takes over without losing a request, and the old one goes", async () => {
    const traffic = startTraffic(live, "m");
    await traffic.answeredBy("1");
    writeModelFiles(repository.dir, "m", { "2/model.onnx": identity("FP32", 4) });
    await traffic.answeredBy("2");
    await until("the old version is gone", () => live.log.some(({ msg }) => msg === "m/1 is unloaded"));
    await traffic.more(20);
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
    assert.deepEqual([await state("m", "1"), await state("m", "2")], [undefined, "READY"]);
    assert.ok(!live.log.some(({ level }) => level >= LEVEL.error));
  });

  test("a new version that takes something else is told", async () => {
    writeModelFiles(repository.dir, "other", { "1/model.onnx": addOne(4), "config.yaml": CONFIG });
    await until("the first is ready", async () => (await state("other", "1")) === "READY");
    writeModelFiles(repository.dir, "other", { "2/model.onnx": addOne(6) });
    await until("the second is ready", async () => (await state("other", "2")) === "READY");
    const told = live.log.filter(({ level, msg }) => level === LEVEL.warn && msg.startsWith("other/2"));
    assert.deepEqual(
      told.map(({ msg }) => msg),
      ["other/2 takes 'x' (FP32 [-1, 6]), not 'x' (FP32 [-1, 4]) as the version that was served before"],
    );
    rmSync(path.join(repository.dir, "other"), { recursive: true });
    await until("it is gone", () => live.log.some(({ msg }) => msg === "other/2 is unloaded"));
  });

  test("a version that fails to load leaves the old one serving", async () => {
    const traffic = startTraffic(live, "m");
    await traffic.answeredBy("2");
    writeModelFiles(repository.dir, "m", { "3/model.onnx": unknownOperator() });
    await until(
      "the failure is told",
      async () =>
        (await state("m", "3")) === "UNAVAILABLE" && live.log.some(({ msg }) => msg.startsWith("m/3 can't be served")),
    );
    await traffic.more(20);
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
    assert.deepEqual([...traffic.answers.keys()], ["2"]);
    assert.equal(await state("m", "2"), "READY");
    assert.equal(live.log.filter(({ msg }) => msg.startsWith("m/3 can't be served")).length, 1);
  });

  test("removing it brings nothing down, and a repaired one takes over", async () => {
    rmSync(path.join(repository.dir, "m/3"), { recursive: true });
    await until("it is forgotten", async () => (await state("m", "3")) === undefined);
    const traffic = startTraffic(live, "m");
    writeModelFiles(repository.dir, "m", { "3/model.onnx": addOne(4) });
    await traffic.answeredBy("3");
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
  });

  test("settings for queueing and deadlines are taken over without loading anew", async () => {
    const traffic = startTraffic(live, "m");
    await traffic.answeredBy("3");
    writeModelFiles(repository.dir, "m", { "config.yaml": "max_batch_size: 4\nslo_ms: 30000\nweight: 3\n" });
    await until("the new SLO counts", async () => (await live.modelStatus("m")).slo_ms === 30_000);
    await traffic.more(20);
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
    assert.equal(live.log.filter(({ msg }) => msg === "m/3 is ready").length, 1);
    assert.ok(live.log.some(({ msg }) => msg === "m/3 has new settings"));
  });

  test("requests are shared out among versions, and shares change without loading anew", async () => {
    writeModelFiles(repository.dir, "shared", {
      "config.yaml": `${CONFIG}traffic: { 1: 3, 2: 1 }\n`,
      "1/model.onnx": addOne(4),
      "2/model.onnx": identity("FP32", 4),
    });
    await until("both are served", async () => {
      return (await state("shared", "1")) === "READY" && (await state("shared", "2")) === "READY";
    });
    const x = tensor.float32([1, 4], new Float32Array(4));
    const answeredBy = async (options: InferOptions = {}): Promise<string> => {
      return (await live.client.infer("shared", { x }, options)).version;
    };
    const versions: string[] = [];
    for (let i = 0; i < 12; i++) versions.push(await answeredBy());
    assert.equal(versions.filter((version) => version === "2").length, 3, versions.join());
    const ofOneUser = new Set<string>();
    for (let i = 0; i < 8; i++) ofOneUser.add(await answeredBy({ trafficKey: "a user" }));
    assert.equal(ofOneUser.size, 1);
    assert.deepEqual((await live.modelStatus("shared")).traffic, 0.25);
    assert.equal((await live.client.modelMetadata("shared")).versions.join(), "1,2");

    writeModelFiles(repository.dir, "shared", { "config.yaml": `${CONFIG}traffic: { 1: 0, 2: 1 }\n` });
    await until("all go to the new version", async () => (await live.modelStatus("shared")).traffic === 1);
    for (let i = 0; i < 4; i++) assert.equal(await answeredBy(), "2");
    assert.equal(await answeredBy({ version: 1 }), "1");
    assert.equal(live.log.filter(({ msg }) => /^shared\/\d is ready/.test(msg)).length, 2);
  });

  test("a config.yaml that breaks leaves the model serving as it was", async () => {
    writeModelFiles(repository.dir, "m", { "config.yaml": "slo_ms: soon\n" });
    const problems = () => live.log.filter(({ msg }) => msg.includes("m/config.yaml:1:9: slo_ms"));
    await until("the problem is told", () => problems().length > 0);
    const traffic = startTraffic(live, "m");
    await traffic.more(10);
    await traffic.stop();
    assert.deepEqual(traffic.errors, []);
    assert.equal((await live.modelStatus("m")).slo_ms, 30_000);
    assert.deepEqual(
      problems().map(({ level, msg }) => [level, msg.slice(0, msg.indexOf(":"))]),
      [[LEVEL.error, "m/3 keeps its previous files and settings"]],
    );
    writeModelFiles(repository.dir, "m", { "config.yaml": CONFIG });
    await until("it is repaired", async () => (await live.modelStatus("m")).slo_ms === 60_000);
  });

  test("other files under the same version are loaded anew; callers are told to wait meanwhile", async () => {
    const traffic = startTraffic(live, "m");
    await traffic.answeredBy("3");
    writeModelFiles(repository.dir, "m", { "3/model.onnx": identity("FP32", 4) });
    const x = tensor.float32([1, 4], new Float32Array(4));
    await until("the new file answers", async () => {
      const answer = await live.client.infer("m", { x }, { retry: false }).catch(() => null);
      return answer?.output("y", "FP32").data[0] === 0;
    });
    await traffic.more(20);
    await traffic.stop();
    for (const { code, message } of traffic.errors)
      assert.deepEqual([code, /not ready/.test(message)], ["UNAVAILABLE", true], message);
  });

  test("a new model appears, and one whose folder is removed goes", async () => {
    const elsewhere = path.join(repository.dir, ".incoming");
    cpSync(path.join(repository.dir, "m"), elsewhere, { recursive: true });
    renameSync(elsewhere, path.join(repository.dir, "n"));
    const traffic = startTraffic(live, "n");
    await traffic.answeredBy("3");
    await traffic.stop();
    rmSync(path.join(repository.dir, "n"), { recursive: true });
    await until("it is gone", async () => (await state("n", "3")) === undefined);
    const x = tensor.float32([1, 4], new Float32Array(4));
    await assert.rejects(live.client.infer("n", { x }, { retry: false }), { code: "NOT_FOUND" });
    assert.ok(await live.client.modelReady("m"));
  });

  test("an unreadable repository is told once and changes nothing", async () => {
    const away = `${repository.dir}-away`;
    renameSync(repository.dir, away);
    const problems = () =>
      live.log.filter(({ level, msg }) => level === LEVEL.error && msg.startsWith("the repository could not be read"));
    try {
      await until("the problem is told", () => problems().length > 0);
      const traffic = startTraffic(live, "m");
      await traffic.more(10);
      await traffic.stop();
      assert.deepEqual(traffic.errors, []);
    } finally {
      renameSync(away, repository.dir);
    }
    writeModelFiles(repository.dir, "later", { "1/model.onnx": addOne(4) });
    await until("changes are seen again", () => live.client.modelReady("later"));
    assert.equal(problems().length, 1);
  });
});
