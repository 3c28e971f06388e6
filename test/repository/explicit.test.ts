import assert from "node:assert/strict";
import { test } from "node:test";
import { RepositoryError } from "../../daemon/repository/errors.ts";
import { writeFiles } from "../config/temp-dir.ts";
import { onnxBytes } from "./onnx-bytes.ts";
import { GOOD, keys, rig } from "./repository-rig.ts";

const explicit = { control: "explicit" } as const;
const OTHER = onnxBytes({ outputs: [{ name: "other", dims: ["batch", 4] }] });

function refuses(promise: Promise<unknown>, kind: RepositoryError["kind"], message: RegExp): Promise<void> {
  return assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof RepositoryError, String(error));
    assert.equal(error.kind, kind);
    assert.match(error.message, message);
    return true;
  });
}

test("under explicit control models come and go by request", async (t) => {
  const files = { "a/1/model.onnx": GOOD, "b/1/model.onnx": GOOD, "bad/1/model.onnx": "no model, but some bytes" };
  const { repository } = rig(t, files, { ...explicit, loadModels: ["a"] });
  assert.deepEqual(keys(await repository.scan()), ["a/1"]);
  assert.deepEqual(
    repository.index().map(({ name, version, state, reason }) => [name, version, state, reason]),
    [
      ["a", "1", "LOADING", ""],
      ["b", "", "UNAVAILABLE", "not loaded"],
      ["bad", "", "UNAVAILABLE", "not loaded"],
    ],
  );
  const loaded = await repository.load("b");
  assert.deepEqual(
    loaded.added.map((model) => model.key),
    ["b/1"],
  );
  const unloaded = await repository.unload("a");
  assert.deepEqual(unloaded.removed, ["a/1"]);
  assert.deepEqual(keys(unloaded), ["b/1"]);
  assert.deepEqual(keys(await repository.scan()), ["b/1"]);
  await refuses(repository.load("bad"), "unavailable", /^failed to load 'bad': bad\/1\/model\.onnx: /);
  await refuses(repository.load("bb"), "unknown-model", /^no model 'bb' in the repository; did you mean 'b'\?$/);
  await refuses(repository.load("../a"), "unknown-model", /no model/);
  await refuses(repository.unload("nothing-like-it"), "unknown-model", /no model 'nothing-like-it'/);
});

test("loading a loaded model looks at its files again, without waiting for them to settle", async (t) => {
  const { repository, dir } = rig(t, { "m/1/model.onnx": GOOD }, { ...explicit, loadModels: ["*"] });
  await repository.scan();
  writeFiles(dir, { "m/1/model.onnx": OTHER });
  assert.deepEqual(
    (await repository.load("m")).changed.map((model) => model.outputs[0]?.name),
    ["other"],
  );
  writeFiles(dir, { "m/1/model.onnx": "broken, and still long enough to be read" });
  await refuses(repository.load("m"), "unavailable", /failed to load 'm'/);
  assert.deepEqual(keys(await repository.reconsider()), ["m/1"], "served as it was");
});

test("a version that could not be loaded is tried again when asked for", async (t) => {
  const { repository } = rig(t, { "m/1/model.onnx": GOOD }, explicit);
  await repository.scan();
  await repository.load("m");
  repository.setState("m/1", "UNAVAILABLE", "no memory left");
  assert.deepEqual(keys(await repository.reconsider()), []);
  assert.deepEqual(repository.index(), [{ name: "m", version: "1", state: "UNAVAILABLE", reason: "no memory left" }]);
  assert.deepEqual(keys(await repository.load("m")), ["m/1"]);
});

test("names to load that the repository does not have are told", async (t) => {
  const { repository, dir } = rig(t, { "iris/1/model.onnx": GOOD }, { ...explicit, loadModels: ["irs", "later"] });
  assert.deepEqual((await repository.scan()).warnings, [
    "load_models: no model 'irs' in the repository; did you mean 'iris'?",
    "load_models: no model 'later' in the repository",
  ]);
  writeFiles(dir, { "later/1/model.onnx": GOOD });
  assert.deepEqual(keys(await repository.load("later")), ["later/1"]);
});

test("unloading one of all leaves the others wanted", async (t) => {
  const files = { "a/1/model.onnx": GOOD, "b/1/model.onnx": GOOD };
  const { repository } = rig(t, files, { ...explicit, loadModels: ["*"] });
  await repository.scan();
  await repository.unload("a");
  assert.deepEqual(keys(await repository.scan()), ["b/1"]);
});
