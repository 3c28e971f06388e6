/** `slackline check`: what it says of a repository, and how it ends. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";
import { serve } from "../support/serve-process.ts";

describe("slackline check", () => {
  const folder = temporaryFolder();
  const models = path.join(folder.dir, "models");
  const launcher = path.join(PACKAGE_ROOT, "bin", "slackline.mjs");
  const config = "max_batch_size: 4\nbuckets: [1, 4]\nslo_ms: 60000\n";

  before(() => {
    writeModelFiles(models, "plain", { "1/model.onnx": addOne(4), "config.yaml": config });
  });
  after(() => folder.remove());

  async function check(...args: string[]) {
    const common = ["--device", "cpu", "--log-level", "warn", "--profile-cache", path.join(folder.dir, "profiles")];
    const command = [process.execPath, launcher, "check"] as const;
    const { output, exited } = serve(["--models", models, ...common, ...args], { cwd: folder.dir, command });
    const status = await exited;
    return { stdout: output.out, stderr: output.err, status };
  }

  test("says how each model is served, and ends with 0", async () => {
    const { stdout, stderr, status } = await check();
    assert.match(
      stdout,
      /^plain\/1: ready on cpu.*: 1 in [\d.]+ ms, 4 in [\d.]+ ms; SLO 60000 ms; batches of 4 at most\n$/,
    );
    assert.deepEqual([stderr, status], ["", 0]);
  });

  test("says why a model's requests can't share a batch", async () => {
    writeModelFiles(models, "lone", { "1/model.onnx": addOne(4), "config.yaml": "batched: false\nslo_ms: 60000\n" });
    const { stdout, status } = await check();
    rmSync(path.join(models, "lone"), { recursive: true });
    assert.match(
      stdout,
      /^lone\/1: ready .*; requests run one by one: its configuration says that it has no batch dimension$/m,
    );
    assert.equal(status, 0);
  });

  test("says why a model can't be served, before and while it is loaded, and ends with 1", async () => {
    writeModelFiles(models, "cut", { "1/model.onnx": addOne(4).subarray(0, 40) });
    const unknownOperator = Buffer.from(Buffer.from(addOne(4)).toString("latin1").replaceAll("Add", "Odd"), "latin1");
    writeModelFiles(models, "odd", { "1/model.onnx": unknownOperator });
    for (const args of [[], ["--model-control", "explicit"]]) {
      const { stdout, status } = await check(...args);
      const lines = stdout.trimEnd().split("\n");
      assert.equal(lines.length, 3, stdout);
      assert.match(lines[0]!, /^cut\/1: can't be served: .*model\.onnx/);
      assert.match(lines[1]!, /^odd\/1: can't be served: .*Odd/);
      assert.match(lines[2]!, /^plain\/1: ready/);
      assert.equal(status, 1);
    }
    const named = await check("--model-control", "explicit", "--load-models", "plain");
    assert.match(named.stdout, /^plain\/1: ready.*\n$/);
    assert.equal(named.status, 0);
  });

  test("ends with 1 where a model that it is told to load is not there", async () => {
    writeModelFiles(models, "later", { "1/model.onnx": addOne(4), "config.yaml": "versions: [2]\n" });
    const { stdout, status } = await check("--model-control", "explicit", "--load-models", "plain,plane,later");
    rmSync(path.join(models, "later"), { recursive: true });
    const [later, plain, plane] = stdout.trimEnd().split("\n").sort();
    assert.equal(later, "later: can't be served: its configuration asks for other versions than there are: 1");
    assert.match(plain!, /^plain\/1: ready/);
    assert.equal(plane, "plane: can't be served: no such model");
    assert.equal(status, 1);
  });

  test("says so where no model can be served, where there is none, and where settings are wrong", async () => {
    rmSync(path.join(models, "plain"), { recursive: true });
    const none = await check();
    assert.match(none.stdout, /^cut\/1: can't be served: .*\nodd\/1: can't be served: .*\n$/);
    assert.equal(none.status, 1);
    rmSync(models, { recursive: true });
    mkdirSync(models);
    const empty = await check();
    assert.deepEqual([empty.stdout, empty.status], ["", 1]);
    assert.match(empty.stderr, /^slackline: no models in /m);
    const explicit = await check("--model-control", "explicit");
    assert.deepEqual([explicit.stdout, explicit.status], ["", 1]);
    assert.match(explicit.stderr, /^slackline: nothing was checked: /m);
    const wrong = await check("--slo-ms-default", "soon");
    assert.deepEqual([wrong.stdout, wrong.status], ["", 2]);
    assert.match(wrong.stderr, /--slo-ms-default/);
    const help = await check("--help");
    assert.match(help.stdout, /^usage: slackline check \[options\]\n/);
    assert.equal(help.status, 0);
  });
});
