import assert from "node:assert/strict";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { RepositoryError } from "../../daemon/repository/errors.ts";
import { tempDir, writeFiles } from "../config/temp-dir.ts";
import { onnxBytes } from "./onnx-bytes.ts";
import { GOOD, keys, onlyReason, rig } from "./repository-rig.ts";

test("a model without a configuration is derived from its ONNX file", async (t) => {
  const { dir, repository } = rig(t, { "m/1/model.onnx": GOOD });
  const result = await repository.scan();
  const [model] = result.models;
  assert.equal(result.emptyReason, null);
  assert.match(model?.hash ?? "", /^[0-9a-f]{64}$/);
  assert.deepEqual(model, {
    key: "m/1",
    name: "m",
    version: 1,
    path: path.join(dir, "m", "1", "model.onnx"),
    hash: model?.hash,
    inputs: [{ name: "x", datatype: "FP32", shape: [-1, 4] }],
    outputs: [{ name: "y", datatype: "FP32", shape: [-1, 4] }],
    batched: true,
    batchedAsserted: false,
    unbatchedReason: null,
    maxBatchSize: 32,
    sharedDimensions: [],
    sequence: null,
    settings: {
      sloMs: null,
      device: "auto",
      buckets: null,
      replicas: "auto",
      threads: null,
      queueItemsMax: 1000,
      queueBytesMax: 1_000_000,
      weight: 1,
      minShare: 0,
      shedImplicit: false,
      bestEffortDefault: false,
      fallback: null,
      traffic: null,
      cache: false,
      warmShapes: [],
      warmValues: {},
    },
  });
});

test("broken models are named with their reason while the others are served", async (t) => {
  const { repository, dir } = rig(t, {
    "good/1/model.onnx": GOOD,
    "truncated/1/model.onnx": GOOD.subarray(0, GOOD.length - 20),
    "text/1/model.onnx": "this is not a model at all, but it is long enough to look at\n",
    "empty/1/model.onnx": "",
    "missing/1/model.pt": "weights",
    "no-version/config.yaml": "slo_ms: 10\n",
    "bfloat/1/model.onnx": onnxBytes({ inputs: [{ name: "x", type: 16, dims: ["n", 4] }] }),
    "list/1/model.onnx": onnxBytes({ outputs: [{ name: "y", isSequence: true }] }),
    "lfs/1/model.onnx": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "misconfigured/1/model.onnx": GOOD,
    "misconfigured/config.yaml": "slo: 10\nweight: 0\n",
    "not-a-model/readme.txt": "hello",
    ".hidden/1/model.onnx": GOOD,
    "catalog.json": "{}",
  });
  const result = await repository.scan();
  assert.deepEqual(keys(result), ["good/1"]);
  const reasons = Object.fromEntries(result.unavailable.map(({ name, reason }) => [name, reason]));
  assert.match(reasons.truncated!, /^truncated\/1\/model\.onnx: .*truncated/);
  assert.match(reasons.text!, /^text\/1\/model\.onnx: .*not an ONNX model/);
  assert.match(reasons.empty!, /empty/);
  assert.equal(reasons.missing, "missing/1/model.onnx does not exist; found model.pt");
  assert.equal(
    reasons["no-version"],
    "no-version has no version: expected no-version/1/model.onnx, where 1 is any positive integer; found config.yaml",
  );
  assert.match(reasons.bfloat!, /input 'x' has the element type bfloat16/);
  assert.match(reasons.list!, /output 'y' is a sequence; only tensors can be served .*'zipmap': False/);
  assert.match(reasons.lfs!, /Git LFS pointer/);
  assert.equal(
    reasons.misconfigured,
    "misconfigured/config.yaml:1:1: slo: unknown key; did you mean 'slo_ms'?; " +
      "misconfigured/config.yaml:2:9: weight: got 0; expected a number above 0, up to 1000000",
  );
  assert.deepEqual(Object.keys(reasons).sort(), [
    "bfloat",
    "empty",
    "lfs",
    "list",
    "misconfigured",
    "missing",
    "no-version",
    "text",
    "truncated",
  ]);
  for (const reason of Object.values(reasons)) assert.ok(!reason.includes(dir), `${reason} tells the host's path`);
});

test("what file systems and storage boxes put beside models is no model", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD, "m/@eaDir/model.onnx": "its thumbnail" });
  for (const folder of ["lost+found", "@eaDir", "#recycle", "System Volume Information"]) {
    mkdirSync(path.join(dir, folder));
  }
  const result = await repository.scan();
  assert.deepEqual([keys(result), result.unavailable, result.warnings], [["m/1"], [], []]);
  assert.deepEqual(
    repository.index().map(({ name }) => name),
    ["m"],
  );
});

test("the repository index has each version's state and reason", async (t) => {
  const { repository } = rig(t, { "a/1/model.onnx": GOOD, "a/2/model.onnx": GOOD, "b/1/model.onnx": "x".repeat(50) });
  await repository.scan();
  assert.deepEqual(
    repository.index().map(({ name, version, state }) => `${name} ${version} ${state}`),
    ["a 2 LOADING", "b 1 UNAVAILABLE"],
  );
  repository.setState("a/2", "READY");
  assert.deepEqual(repository.index()[0], { name: "a", version: "2", state: "READY", reason: "" });
  assert.match(repository.index()[1]!.reason, /not an ONNX model/);
});

test("an unreadable file is named", { skip: process.getuid?.() === 0 && "root may read everything" }, async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD });
  chmodSync(path.join(dir, "m", "1", "model.onnx"), 0);
  assert.match(onlyReason(await repository.scan()), /^m\/1\/model\.onnx: .*can't be read/);
});

test("a missing repository, a file in its place, and an empty one are told in sentences", async (t) => {
  const { repository, dir } = rig(t, {});
  assert.equal(
    (await repository.scan()).emptyReason,
    `no models in ${dir}: expected MODEL/VERSION/model.onnx, such as digits/1/model.onnx; it is empty`,
  );
  writeFiles(dir, { "docs/readme.txt": "hello" });
  assert.match((await repository.scan()).emptyReason ?? "", /found only docs$/);
  const gone = rig(t, {}, { dir: path.join(dir, "none") }).repository;
  await assert.rejects(gone.scan(), (error: unknown) => {
    assert.ok(error instanceof RepositoryError);
    assert.equal(error.kind, "repository");
    assert.match(error.message, /none: it does not exist; give the folder with --models DIR$/);
    return true;
  });
  writeFileSync(path.join(dir, "file"), "");
  const file = rig(t, {}, { dir: path.join(dir, "file") }).repository;
  await assert.rejects(file.scan(), /it is a file, not a folder/);
});

test("misplaced models are told once, with where they belong", async (t) => {
  const { repository, dir } = rig(
    t,
    {
      "good/1/model.onnx": GOOD,
      "good/v2/model.onnx": GOOD,
      "good/configs/readme.txt": "hello",
      "nov/model.onnx": GOOD,
      "v0/v1/model.onnx": GOOD,
      "empty/.keep": "",
      "docs/readme.txt": "hello",
      "iris.onnx": GOOD,
      "model.onnx": GOOD,
    },
    { control: "poll" },
  );
  const first = await repository.scan();
  assert.deepEqual(keys(first), ["good/1"]);
  const any = "where 1 is any positive integer";
  assert.deepEqual(Object.fromEntries(first.unavailable.map(({ name, reason }) => [name, reason])), {
    empty: `empty has no version: expected empty/1/model.onnx, ${any}; it is empty`,
    nov: `nov has no version: expected nov/1/model.onnx, ${any}; found model.onnx`,
    v0: `v0 has no version: expected v0/1/model.onnx, ${any}; found v1/model.onnx`,
  });
  const beside = (file: string) =>
    `${file} is not served: a version's folder is named by a positive integer, without zeros in front`;
  assert.deepEqual(first.warnings, [
    beside("good/v2/model.onnx"),
    "iris.onnx is not served: it belongs in iris/1/model.onnx",
    "model.onnx is not served: it belongs in MODEL/1/model.onnx",
  ]);
  assert.deepEqual((await repository.scan()).warnings, []);
  writeFiles(dir, { "good/3.new/model.onnx": GOOD });
  assert.deepEqual((await repository.scan()).warnings, [], "it may be on its way to be a version");
  assert.deepEqual((await repository.scan()).warnings, [beside("good/3.new/model.onnx")]);
  assert.deepEqual((await repository.scan()).warnings, []);
});

test("a repository of nothing but misplaced models says where they belong", async (t) => {
  const reason = async (files: Readonly<Record<string, string | Uint8Array>>): Promise<string> =>
    (await rig(t, files).repository.scan()).emptyReason ?? "";
  assert.match(
    await reason({ "iris.onnx": GOOD }),
    /found only iris\.onnx; iris\.onnx .* belongs in iris\/1\/model\.onnx$/,
  );
  assert.match(await reason({ "iris/model.onnx": GOOD }), /expected iris\/1\/model\.onnx, .*; found model\.onnx$/);
  assert.match(
    await reason({ "1/model.onnx": GOOD }),
    /; if \/.* is one model's folder, give the folder that holds it$/,
  );
});

test("links that lead out of the model's folder are refused, links within it are followed", async (t) => {
  const outside = tempDir(t);
  writeFiles(outside, { "model.onnx": GOOD, "1/model.onnx": GOOD, "config.yaml": "slo_ms: 1\n" });
  const { repository, dir } = rig(t, {
    "file/1/readme": "",
    "folder/config.yaml": "",
    "config/1/model.onnx": GOOD,
    "within/blobs/abc": GOOD,
    "within/1/readme": "",
    "circle/1/readme": "",
    "dangling/1/readme": "",
  });
  symlinkSync(path.join(outside, "model.onnx"), path.join(dir, "file", "1", "model.onnx"));
  symlinkSync(path.join(outside, "1"), path.join(dir, "folder", "1"));
  symlinkSync(path.join(outside, "config.yaml"), path.join(dir, "config", "config.yaml"));
  symlinkSync("../blobs/abc", path.join(dir, "within", "1", "model.onnx"));
  symlinkSync("model.onnx", path.join(dir, "circle", "1", "model.onnx"));
  symlinkSync("nowhere", path.join(dir, "dangling", "1", "model.onnx"));
  const result = await repository.scan();
  assert.deepEqual(keys(result), ["within/1"]);
  const reasons = Object.fromEntries(result.unavailable.map(({ name, reason }) => [name, reason]));
  assert.deepEqual(reasons, {
    file: "file/1/model.onnx leads outside the model's folder",
    folder: "folder/1 leads outside the model's folder",
    config: "config/config.yaml: config.yaml leads outside the model's folder",
    circle: "circle/1/model.onnx can't be read: its symbolic links go round in a circle",
    dangling: "dangling/1/model.onnx can't be read: it does not exist",
  });
});

test("external data must lie inside the model's folder and be complete", async (t) => {
  const { repository, dir } = rig(t, {
    "secret.bin": "0123456789abcdef",
    "good/1/model.onnx": onnxBytes({ external: { "weights/w.bin": 16 } }),
    "good/1/weights/w.bin": "0123456789abcdef",
    "climbs/1/model.onnx": onnxBytes({ external: { "../../secret.bin": 16 } }),
    "absolute/1/model.onnx": onnxBytes({ external: { "/etc/passwd": 16 } }),
    "linked/1/model.onnx": onnxBytes({ external: { "w.bin": 16 } }),
    "absent/1/model.onnx": onnxBytes({ external: { "w.bin": 16 } }),
    "short/1/model.onnx": onnxBytes({ external: { "w.bin": 16 } }),
    "short/1/w.bin": "0123",
    "long/1/model.onnx": onnxBytes({ external: { ["w".repeat(300)]: 16 } }),
    "nul/1/model.onnx": onnxBytes({ external: { "w\0": 16 } }),
  });
  symlinkSync("../../secret.bin", path.join(dir, "linked", "1", "w.bin"));
  const result = await repository.scan();
  assert.deepEqual(keys(result), ["good/1"]);
  assert.deepEqual(Object.fromEntries(result.unavailable.map(({ name, reason }) => [name, reason])), {
    climbs: "climbs/1: external data '../../secret.bin' is not a path below the ONNX file's folder",
    absolute: "absolute/1: external data '/etc/passwd' is not a path below the ONNX file's folder",
    linked: "linked/1: external data 'w.bin' leads outside the model's folder",
    absent: "absent/1: external data 'w.bin' can't be read: it does not exist",
    short: "short/1: external data 'w.bin' has 4 bytes, but the model needs 16; is it truncated?",
    long: `long/1: external data '${"w".repeat(300)}' can't be read: ENAMETOOLONG: name too long`,
    nul: "nul/1: external data 'w\0' can't be read: ERR_INVALID_ARG_VALUE",
  });
});

test("the hash covers the model file and its external data", async (t) => {
  const model = onnxBytes({ external: { "w.bin": 4 } });
  const { repository } = rig(t, {
    "a/1/model.onnx": model,
    "a/1/w.bin": "0000",
    "b/1/model.onnx": model,
    "b/1/w.bin": "0000",
    "c/1/model.onnx": model,
    "c/1/w.bin": "0001",
  });
  const [a, b, c] = (await repository.scan()).models.map((one) => one.hash);
  assert.equal(a, b);
  assert.notEqual(a, c);
});

test("only positive integers are versions, and the policy chooses among them", async (t) => {
  const versions = (name: string): Record<string, Uint8Array> =>
    Object.fromEntries(["1", "2", "10", "0", "01", "v3", "-4"].map((entry) => [`${name}/${entry}/model.onnx`, GOOD]));
  const { repository } = rig(t, {
    ...versions("newest"),
    ...versions("two"),
    "two/config.yaml": "versions: { latest: 2 }\n",
    ...versions("all"),
    "all/config.yaml": "versions: all\n",
    ...versions("some"),
    "some/config.yaml": "versions: [1, 7]\n",
    ...versions("shared"),
    "shared/config.yaml": "traffic: { 10: 0.1, 2: 0.9 }\n",
    ...versions("torn"),
    "torn/config.yaml": "traffic: { 1: 0.5, 2: 0.5 }\nversions: [2]\n",
    "none/1/model.onnx": GOOD,
    "none/config.yaml": "versions: [7]\n",
  });
  const result = await repository.scan();
  const served = ["all/1", "all/2", "all/10", "newest/10", "shared/2", "shared/10", "some/1", "two/2", "two/10"];
  assert.deepEqual(keys(result), served);
  const shared = result.models.find(({ key }) => key === "shared/10");
  assert.deepEqual(shared?.settings.traffic, [
    { version: 2, share: 0.9 },
    { version: 10, share: 0.1 },
  ]);
  const torn = result.unavailable.find(({ name }) => name === "torn");
  assert.equal(torn?.reason, "torn/config.yaml:1:15: traffic.1: names version 1, which `versions` leaves out");
  const none = result.unavailable.find(({ name }) => name === "none");
  assert.deepEqual(none, {
    name: "none",
    version: null,
    reason: "its configuration asks for other versions than there are: 1",
  });
  const beside = result.warnings.filter((text) => / is not served: /.test(text));
  assert.equal(beside.length, 6 * 4, "0, 01, v3 and -4 of each model");
  assert.deepEqual(
    result.warnings.filter((text) => !beside.includes(text)),
    [
      "none: version 7 is asked for by its configuration, but does not exist",
      "some: version 7 is asked for by its configuration, but does not exist",
    ],
  );
});

test("when the newest version is broken, the newest sound one is served", async (t) => {
  const { repository } = rig(t, { "m/1/model.onnx": GOOD, "m/2/model.onnx": "not a model, whatever it may be called" });
  const result = await repository.scan();
  assert.deepEqual(keys(result), ["m/1"]);
  assert.match(onlyReason(result), /^m\/2\/model\.onnx: /);
});

test("when a version can't be loaded, the policy chooses among the others until its files change", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD, "m/2/model.onnx": GOOD }, { control: "poll" });
  assert.deepEqual(keys(await repository.scan()), ["m/2"]);
  repository.setState("m/2", "UNAVAILABLE", "the runtime refuses it");
  const second = await repository.reconsider();
  assert.deepEqual(keys(second), ["m/1"]);
  assert.deepEqual(second.removed, ["m/2"]);
  assert.equal(onlyReason(second), "the runtime refuses it");
  assert.deepEqual(keys(await repository.scan()), ["m/1"]);
  writeFiles(dir, { "m/2/model.onnx": onnxBytes({ outputs: [{ name: "other", dims: ["batch", 4] }] }) });
  await repository.scan();
  const repaired = await repository.scan();
  assert.deepEqual(keys(repaired), ["m/2"]);
  assert.deepEqual(repository.index(), [{ name: "m", version: "2", state: "LOADING", reason: "" }]);
});

test("a model of several files may be a folder named like a model file", async (t) => {
  const { repository } = rig(t, {
    "m/1/model.onnx/model.onnx": onnxBytes({ external: { "w.bin": 4 } }),
    "m/1/model.onnx/w.bin": "0000",
  });
  assert.deepEqual(keys(await repository.scan()), ["m/1"]);
});

test("shares that add up to more than the device are warned of", async (t) => {
  const { repository } = rig(t, {
    "a/1/model.onnx": GOOD,
    "a/config.yaml": "min_share: 0.7\n",
    "b/1/model.onnx": GOOD,
    "b/config.yaml": "min_share: 0.6\n",
    "b/config.yml": "",
  });
  assert.deepEqual((await repository.scan()).warnings, [
    "the models' min_share add up to 1.30, more than the whole device",
  ]);
});
