import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { smallScenarioJson } from "./small-scenario.ts";

const MAIN = fileURLToPath(new URL("../../bench/sim/main.js", import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), "slackline-sim-"));
after(() => rmSync(folder, { recursive: true }));

const scenario = path.join(folder, "scenario.json");
writeFileSync(scenario, JSON.stringify(smallScenarioJson({ measure_s: 1 })));

function sim(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: "utf8" });
  return { status, stdout, stderr };
}

test("a run prints a table and writes result, log and timeline", () => {
  const [json, log, html] = ["out/result.json", "out/log.jsonl", "out/timeline.html"].map((f) => path.join(folder, f));
  const stdout = execFileSync(
    process.execPath,
    [MAIN, scenario, "--seed", "3", "--scale", "0.8", "--json", json!, "--log", log!, "--timeline", html!],
    { encoding: "utf8" },
  );
  assert.match(stdout, /small under slackline, seed 3, rates × 0\.80/);
  assert.match(stdout, /model +offered +on time +late +shed/);
  const result = JSON.parse(readFileSync(json!, "utf8"));
  for (const figures of [result.total, result.models.quick, result.models.steps]) {
    for (const key of ["offered", "on_time", "late", "shed", "attainment", "goodput_per_s"]) {
      assert.equal(typeof figures[key], "number", key);
    }
    assert.deepEqual(Object.keys(figures.latency_ms), ["p50", "p90", "p99", "p999", "max"]);
  }
  for (const key of ["busy_share", "best_effort_share", "batch_size_mean"]) {
    assert.equal(typeof result.devices.gpu0[key], "number", key);
  }
  assert.equal(sim("check", log!, scenario).status, 0);
  const page = readFileSync(html!, "utf8");
  const data = JSON.parse(/<script type="application\/json" id="data">(.*)<\/script>/.exec(page)![1]!);
  assert.ok(data.lanes[0].executions.length > 0);
  assert.equal(data.models.length, 3);
  assert.doesNotMatch(page, /(src|href)="?http/);
});

test("a capacity run adds the scales that are carried", () => {
  const json = path.join(folder, "capacity.json");
  const { status, stdout, stderr } = sim(scenario, "--policy", "eager-edf", "--capacity", "--json", json);
  assert.equal(status, 0);
  assert.match(stdout, /capacity, all requests ≥ 99 % on time/);
  assert.match(stderr, /rates × 1\.0000: /);
  const result = JSON.parse(readFileSync(json, "utf8"));
  for (const key of ["capacity_scale", "capacity_per_s", "attainment_worst_model", "capacity_worst_model_scale"]) {
    assert.equal(typeof result[key], "number", key);
  }
});

test("--policy list names the daemon's own and the comparison policies", () => {
  const names = sim("--policy", "list").stdout.split("\n");
  assert.ok(names.includes("slackline") && names.includes("eager-edf"));
});

test("wrong command lines say what is wrong, with exit code 2", () => {
  const cases: [string[], RegExp][] = [
    [[], /which scenario\?/],
    [[scenario, "--policy", "fastest"], /there is no policy 'fastest'/],
    [[scenario, "--scale", "-1"], /--scale takes a number above 0, not '-1'|'--scale'/],
    [[scenario, "--scale=x"], /--scale takes a number above 0, not 'x'/],
    [[scenario, "--seed", "1.5"], /--seed takes a whole number/],
    [[scenario, "--colour"], /--colour/],
    [["check", "only-one"], /check takes two paths/],
    [[scenario, "--capacity", "--log", "x"], /--log and --timeline go with a single one/],
  ];
  for (const [args, message] of cases) {
    const { status, stderr } = sim(...args);
    assert.equal(status, 2, args.join(" "));
    assert.match(stderr, message);
  }
});

test("bad scenarios and missing logs are told without a stack, with exit code 1", () => {
  const bad = path.join(folder, "bad.json");
  writeFileSync(bad, '{"name":"x","models":[]}');
  for (const args of [[bad], [path.join(folder, "none.json")], ["check", path.join(folder, "none"), scenario]]) {
    const { status, stderr } = sim(...args);
    assert.equal(status, 1, args.join(" "));
    assert.doesNotMatch(stderr, /\n {4}at /);
  }
});

test("check fails where the log does not fit the scenario", () => {
  const log = path.join(folder, "wrong.jsonl");
  writeFileSync(log, '{"t":0,"ev":"end","device":"gpu0","model":"quick"}\n');
  const { status, stdout } = sim("check", log, scenario);
  assert.equal(status, 1);
  assert.match(stdout, /line 1, unknown: 'gpu0' ran nothing that could end/);
});
