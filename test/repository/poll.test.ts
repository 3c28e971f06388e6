import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { RepositoryError } from "../../daemon/repository/errors.ts";
import { writeFiles } from "../config/temp-dir.ts";
import { onnxBytes } from "./onnx-bytes.ts";
import { GOOD, keys, onlyReason, rig } from "./repository-rig.ts";

const poll = { control: "poll" } as const;
const OTHER = onnxBytes({ outputs: [{ name: "other", dims: ["batch", 4] }] });

test("a scan of an unchanged repository changes nothing and keeps the same objects", async (t) => {
  const { repository } = rig(
    t,
    { "a/1/model.onnx": GOOD, "b/1/model.onnx": GOOD, "b/config.yaml": "slo_ms: 5\n" },
    poll,
  );
  const first = await repository.scan();
  assert.deepEqual(
    first.added.map((model) => model.key),
    ["a/1", "b/1"],
  );
  const second = await repository.scan();
  assert.deepEqual([second.added, second.changed, second.removed, second.settling], [[], [], [], []]);
  assert.equal(second.models[0], first.models[0]);
  assert.equal(second.models[1], first.models[1]);
});

test("a new version is taken up once its files hold still, and replaces the older one", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD }, poll);
  await repository.scan();

  const file = path.join(dir, "m", "2", "model.onnx");
  mkdirSync(path.dirname(file));
  writeFileSync(file, OTHER.subarray(0, 20));
  const copying = await repository.scan();
  assert.deepEqual(keys(copying), ["m/1"]);
  assert.deepEqual(copying.settling, ["m/2"]);
  assert.equal(onlyReason(copying), "its files are still changing");

  appendFileSync(file, OTHER.subarray(20));
  const stillCopying = await repository.scan();
  assert.deepEqual(stillCopying.settling, ["m/2"]);
  assert.deepEqual(keys(stillCopying), ["m/1"]);

  const settled = await repository.scan();
  assert.deepEqual(keys(settled), ["m/2"]);
  assert.deepEqual(
    settled.added.map((model) => model.key),
    ["m/2"],
  );
  assert.deepEqual(settled.removed, ["m/1"]);
  assert.deepEqual(settled.unavailable, []);
});

test("a copy that stopped half-way is named, and taken up when it is completed", async (t) => {
  const { repository, dir } = rig(t, {}, poll);
  await repository.scan();
  writeFiles(dir, { "m/1/model.onnx": GOOD.subarray(0, 30) });
  await repository.scan();
  assert.match(onlyReason(await repository.scan()), /^m\/1\/model\.onnx: /);
  writeFiles(dir, { "m/1/model.onnx": GOOD });
  await repository.scan();
  assert.deepEqual(keys(await repository.scan()), ["m/1"]);
});

test("a version whose folder goes away is removed, and its predecessor takes over", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD, "m/2/model.onnx": OTHER, "n/1/model.onnx": GOOD }, poll);
  await repository.scan();
  rmSync(path.join(dir, "m", "2"), { recursive: true });
  rmSync(path.join(dir, "n"), { recursive: true });
  const result = await repository.scan();
  assert.deepEqual(keys(result), ["m/1"]);
  assert.deepEqual(result.removed, ["m/2", "n/1"]);
});

test("a version changed in place is told as changed; touched files with the same contents are not", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD }, poll);
  const [before] = (await repository.scan()).models;
  const file = path.join(dir, "m", "1", "model.onnx");

  utimesSync(file, new Date(1000), new Date(1000));
  assert.deepEqual((await repository.scan()).settling, ["m/1"]);
  const touched = await repository.scan();
  assert.deepEqual(touched.changed, []);
  assert.equal(touched.models[0], before);

  writeFiles(dir, { "m/1/model.onnx": OTHER });
  assert.equal((await repository.scan()).models[0], before, "served as it was while it settles");
  const changed = await repository.scan();
  assert.deepEqual(
    changed.changed.map((model) => model.outputs[0]?.name),
    ["other"],
  );
  assert.notEqual(changed.models[0]?.hash, before?.hash);
});

test("what is served goes on as it was when its files or its configuration break", async (t) => {
  const files = { "m/1/model.onnx": GOOD, "m/2/model.onnx": GOOD, "m/config.yaml": "versions: all\nslo_ms: 5\n" };
  const { repository, dir } = rig(t, files, poll);
  const before = (await repository.scan()).models;
  repository.setState("m/1", "READY");
  repository.setState("m/2", "READY");

  writeFiles(dir, { "m/config.yaml": "versions: al\n" });
  await repository.scan();
  const badConfig = await repository.scan();
  assert.deepEqual(badConfig.models, before);
  assert.deepEqual(badConfig.removed, []);
  assert.match(repository.index()[0]!.reason, /^m\/config\.yaml:1:11: versions: got "al"/);
  assert.equal(repository.index()[0]!.state, "READY");

  writeFiles(dir, { "m/config.yaml": "versions: all\nslo_ms: 6\n", "m/2/model.onnx": "broken in place, all of it" });
  await repository.scan();
  const badFile = await repository.scan();
  assert.deepEqual(keys(badFile), ["m/1", "m/2"]);
  assert.equal(badFile.models[0]?.settings.sloMs, 6);
  assert.equal(badFile.models[1], before[1]);
  assert.match(onlyReason(badFile), /^m\/2\/model\.onnx: /);
});

test("a configuration changed in place changes its model's versions without reading their files again", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD, "m/config.yaml": "slo_ms: 5\n" }, poll);
  const [before] = (await repository.scan()).models;
  writeFiles(dir, { "m/config.yaml": "slo_ms: 7\nversions: all\n" });
  await repository.scan();
  const result = await repository.scan();
  assert.deepEqual(
    result.changed.map((model) => model.settings.sloMs),
    [7],
  );
  assert.equal(result.changed[0]?.hash, before?.hash);
});

test("a configuration that is still being written is not taken at its word", async (t) => {
  const whole = "max_batch_size: 16\nslo_ms: 5\n";
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD, "m/config.yaml": whole }, poll);
  const before = (await repository.scan()).models;
  for (const cut of ["", "max_batch_size: 1", "max_batch_size: 16\nslo_m"]) {
    writeFiles(dir, { "m/config.yaml": cut });
    const writing = await repository.scan();
    assert.deepEqual([writing.models, writing.changed, writing.settling], [before, [], []]);
    assert.equal(repository.index()[0]?.reason, "");
  }
  writeFiles(dir, { "m/config.yaml": `${whole}weight: 2\n` });
  assert.deepEqual((await repository.scan()).changed, []);
  const written = await repository.scan();
  assert.deepEqual(
    written.changed.map(({ maxBatchSize, settings }) => [maxBatchSize, settings.weight]),
    [[16, 2]],
  );
});

test("a new model waits for its configuration as for its files", async (t) => {
  const { repository, dir } = rig(t, {}, poll);
  await repository.scan();
  writeFiles(dir, { "m/1/model.onnx": GOOD });
  assert.deepEqual((await repository.scan()).settling, ["m/1"]);
  writeFiles(dir, { "m/config.yaml": "versions: [1, 7" });
  const copying = await repository.scan();
  assert.deepEqual([copying.settling, onlyReason(copying)], [["m/1"], "its files are still changing"]);
  writeFiles(dir, { "m/config.yaml": "max_batch_size: 1" });
  assert.deepEqual((await repository.scan()).settling, ["m/1"]);
  writeFiles(dir, { "m/config.yaml": "max_batch_size: 16\n" });
  const written = await repository.scan();
  assert.deepEqual([written.settling, written.warnings], [["m/1"], []]);
  assert.deepEqual(
    (await repository.scan()).added.map((model) => model.maxBatchSize),
    [16],
  );
});

test("a version published by renaming a link is taken up", async (t) => {
  const { repository, dir } = rig(t, { "m/data-a/model.onnx": GOOD, "m/data-b/model.onnx": OTHER }, poll);
  symlinkSync("data-a", path.join(dir, "m", "1"));
  assert.deepEqual(keys(await repository.scan()), ["m/1"]);
  symlinkSync("data-b", path.join(dir, "m", "new"));
  renameSync(path.join(dir, "m", "new"), path.join(dir, "m", "1"));
  await repository.scan();
  assert.equal((await repository.scan()).models[0]?.outputs[0]?.name, "other");
});

test("weights in a linked folder are waited for, and noticed when they are replaced", async (t) => {
  const model = onnxBytes({ external: { "weights/w.bin": 16 } });
  const files = { "m/weights-v2/w.bin": "0123456789abcdef", "m/1/model.onnx": model };
  const { repository, dir } = rig(t, files, poll);
  const folder = path.join(dir, "m", "1");
  symlinkSync("../weights-v2", path.join(folder, "weights"));
  symlinkSync("..", path.join(folder, "above"));
  symlinkSync("/", path.join(folder, "outside"));
  const [before] = (await repository.scan()).models;
  assert.equal(before?.key, "m/1");
  assert.deepEqual((await repository.scan()).settling, []);

  writeFiles(dir, { "m/weights-v2/w.bin": "fedcba9876543210 and growing" });
  assert.deepEqual((await repository.scan()).settling, ["m/1"]);
  writeFiles(dir, { "m/weights-v2/w.bin": "fedcba9876543210" });
  assert.deepEqual((await repository.scan()).settling, ["m/1"]);
  const [changed] = (await repository.scan()).changed;
  assert.notEqual(changed?.hash, before?.hash);
});

test("a repository that can't be read for a while is told, and nothing of it is given up", async (t) => {
  const { repository, dir } = rig(t, { "repo/m/1/model.onnx": GOOD }, poll);
  const inner = rig(t, {}, { ...poll, dir: path.join(dir, "repo") }).repository;
  await repository.scan();
  await inner.scan();
  renameSync(path.join(dir, "repo"), path.join(dir, "away"));
  await assert.rejects(inner.scan(), RepositoryError);
  assert.equal(inner.index().length, 1);
  renameSync(path.join(dir, "away"), path.join(dir, "repo"));
  const back = await inner.scan();
  assert.deepEqual([keys(back), back.added, back.removed], [["m/1"], [], []]);
});

test("a folder that is being filled is complained about once it holds still", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD }, poll);
  await repository.scan();
  mkdirSync(path.join(dir, "n"));
  assert.deepEqual((await repository.scan()).unavailable, []);
  writeFiles(dir, { "n/model.onnx": GOOD });
  assert.deepEqual((await repository.scan()).unavailable, []);
  assert.match(onlyReason(await repository.scan()), /^n has no version: .*; found model\.onnx$/);
  mkdirSync(path.join(dir, "n/1"));
  renameSync(path.join(dir, "n/model.onnx"), path.join(dir, "n/1/model.onnx"));
  await repository.scan();
  const placed = await repository.scan();
  assert.deepEqual([keys(placed), placed.unavailable], [["m/1", "n/1"], []]);
});

test("a warning is told once, for as long as it stays true", async (t) => {
  const { repository } = rig(t, { "m/1/model.onnx": onnxBytes({ outputs: [{ name: "y", dims: ["found"] }] }) }, poll);
  assert.equal((await repository.scan()).warnings.length, 1);
  assert.equal((await repository.scan()).warnings.length, 0);
});

test("scans that overlap take turns", async (t) => {
  const { repository } = rig(t, { "m/1/model.onnx": GOOD }, poll);
  const results = await Promise.all([repository.scan(), repository.scan(), repository.scan()]);
  assert.deepEqual(
    results.map((result) => result.added.length),
    [1, 0, 0],
  );
});
