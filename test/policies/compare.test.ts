import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { scalesNear } from "../../bench/policies/compare/measure.ts";
import type { Comparison } from "../../bench/policies/compare/results.ts";
import type { SimulationResult } from "../../bench/sim/result.ts";

const MAIN = fileURLToPath(new URL("../../bench/policies/compare.js", import.meta.url));
const FOLDER = mkdtempSync(path.join(tmpdir(), "slackline-compare-"));
after(() => rmSync(FOLDER, { recursive: true }));

function compare(...args: string[]) {
  return spawnSync(process.execPath, [MAIN, "--out", FOLDER, ...args], { encoding: "utf8" });
}

function read(file: string): string {
  return readFileSync(path.join(FOLDER, file), "utf8");
}

test("policies are compared in parallel, and the outcome does not depend on how", () => {
  const args = ["--scenarios", "a,a-over,b30", "--policies", "slackline,clockwork", "--seeds", "2", "--measure-s", "1"];
  assert.equal(compare(...args, "--workers", "2").status, 0);
  const first = JSON.parse(read("comparison.json")) as Comparison;
  const [a, over, b30] = first.scenarios;
  assert.equal(a?.bound?.exact, true);
  const own = a?.policies.slackline;
  assert.ok(own?.type === "capacity" && own.all.mean > 0.7 && own.all.mean <= 1, JSON.stringify(own));
  assert.ok(over?.load !== null && Math.abs((over?.load ?? 0) - 1.3) < 0.01);
  assert.ok(b30?.policies.clockwork?.type === "load");
  assert.match(read("comparison.md"), /\| no schedule exceeds \| \d+ \(exact\) \|/);
  assert.match(read("comparison.md"), /Made by `npm run bench:policies -- .*--seeds 2/);
  assert.match(read("comparison.html"), /^<!doctype html>.*<svg .*clockwork/s);

  assert.equal(compare(...args, "--workers", "1").status, 0);
  const second = JSON.parse(read("comparison.json")) as Comparison;
  assert.deepEqual({ ...second, command: "" }, { ...first, command: "" });
});

test("further seeds are searched around what the first carried", () => {
  const result = (attainment: number, worst: number) =>
    ({ total: { attainment }, attainment_worst_model: worst }) as SimulationResult;
  const run = (scale: number) => result(scale <= 0.83 ? 1 : 0.9, scale <= 0.61 ? 1 : 0.9);
  for (const near of [0.4, 0.62, 0.83, 1.1]) {
    const { all, worst } = scalesNear({ all: near, worst: near }, run);
    assert.ok(all <= 0.83 && all > 0.82 && worst <= 0.61 && worst > 0.6, `from ${near}: ${all}, ${worst}`);
  }
  assert.deepEqual(
    scalesNear({ all: 0.5, worst: 0 }, () => result(0, 0)),
    { all: 0, worst: 0 },
  );
});

test("what is asked for and does not exist is named", () => {
  const policy = compare("--policies", "magic");
  assert.equal(policy.status, 2);
  assert.match(policy.stderr, /--policies takes some of slackline, .*clockwork.*; not 'magic'/);
  assert.match(compare("--scenarios", "nowhere").stderr, /there is no scenario 'nowhere'/);
  assert.match(compare("--seeds", "none").stderr, /--seeds takes a whole number of at least 1, not 'none'/);
});
