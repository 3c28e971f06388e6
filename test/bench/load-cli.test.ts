import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { LoadResult } from "../../bench/load/result.ts";
import { type SmallServer, startSmallServer } from "./small-server.ts";

const MAIN = fileURLToPath(new URL("../../bench/load/main.js", import.meta.url));
const FOLDER = mkdtempSync(path.join(tmpdir(), "slackline-load-"));

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** @param onStart given what sends the process a Ctrl-C */
function bench(args: readonly string[], onStart?: (interrupt: () => void) => void): Promise<Run> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    onStart?.(() => child.kill("SIGINT"));
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}

function scenarioFile(name: string, value: object): string {
  const file = path.join(FOLDER, name);
  writeFileSync(file, JSON.stringify({ name: "small", measure_s: 1, ...value }));
  return file;
}

const arrivals = { process: "uniform", rate_per_s: 100 };
const text = { name: "text", max_batch: 4, slo_ms: 200, items: 2, arrivals, shapes: { ids: [5] } };
const picky = { name: "picky", max_batch: 4, slo_ms: 200, arrivals: { ...arrivals, rate_per_s: 20 } };

describe("load test command", () => {
  let server: SmallServer;
  let scenario: string;

  before(async () => {
    server = await startSmallServer({
      text: {
        maxBatch: 4,
        inputs: [
          { name: "ids", datatype: "INT64", shape: [-1, -1] },
          { name: "mask", datatype: "INT64", shape: [-1, 5] },
        ],
      },
      picky: { maxBatch: 0, inputs: [{ name: "words", datatype: "BYTES", shape: [3] }], shed: "late" },
    });
    scenario = scenarioFile("small.json", { models: [text, picky] });
  });

  after(() => {
    server.close();
    rmSync(FOLDER, { recursive: true });
  });

  it("drives a server and writes table, JSON and percentiles", async () => {
    const json = path.join(FOLDER, "result.json");
    const hdr = path.join(FOLDER, "latency.hgrm");
    // The generator's lag on a busy machine is not what this test is about.
    const options = ["--lag-max", "10000", "--http", "127.0.0.1:1", "--json", json, "--hdr", hdr];
    const run = await bench([scenario, "--target", server.address, ...options]);
    assert.equal(run.code, 0, run.stderr + run.stdout);
    assert.match(run.stdout, /^text +100 +\d+ +\d+ +0 +0 /m);
    assert.match(run.stdout, /^picky +20 +0 +0 +20 +0 +0 % /m);
    const result = JSON.parse(readFileSync(json, "utf8")) as LoadResult;
    assert.equal(result.total.offered, 120);
    assert.equal(result.models.text!.on_time + result.models.text!.late, 100);
    assert.equal(result.models.text!.batch_size_mean, 2);
    assert.deepEqual(result.models.picky!.shed_causes, { late: 20 });
    assert.match(readFileSync(hdr, "utf8"), /Percentile/);
    assert.match(readFileSync(path.join(FOLDER, "latency.text.hgrm"), "utf8"), /Total count *= *100/);
  });

  it("makes inputs from the model's metadata and the scenario's shapes", () => {
    const request = server.requests.find(({ model_name }) => model_name === "text")!;
    assert.deepEqual(
      request.inputs.map(({ name, datatype, shape }) => [name, datatype, shape.map(Number)]),
      [
        ["ids", "INT64", [2, 5]],
        ["mask", "INT64", [2, 5]],
      ],
    );
    const [ids, mask] = request.raw_input_contents;
    assert.equal(ids!.length, 80);
    assert.deepEqual(new Set([...mask!].filter((_, i) => i % 8 === 0)), new Set([1]));
    const words = server.requests.find(({ model_name }) => model_name === "picky")!;
    assert.deepEqual(words.inputs[0]!.shape.map(Number), [3]);
  });

  it("calls any server of the protocol in unary calls without the SDK", async () => {
    const before = server.requests.length;
    const options = ["--transport", "plain", "--lag-max", "10000", "--http", "127.0.0.1:1"];
    const run = await bench([scenario, "--target", server.address, ...options]);
    assert.equal(run.code, 0, run.stderr + run.stdout);
    assert.match(run.stdout, /^text +100 +\d+ +\d+ +0 +0 /m);
    const sent = server.requests.slice(before);
    assert.equal(sent.length, 122, "100 and 20 requests, and a first one of each model");
    assert.ok(sent.every(({ parameters }) => Object.keys(parameters).length === 0));
    const [raw] = sent.find(({ model_name }) => model_name === "picky")!.raw_input_contents;
    const words = [];
    for (let at = 0; at < raw!.length; at += 4 + raw!.readUInt32LE(at))
      words.push(String(raw!.subarray(at + 4, at + 4 + raw!.readUInt32LE(at))));
    assert.equal(words.length, 3);
    assert.ok(words.every((word) => /^text \d+$/.test(word)));
  });

  it("ends with a code of its own where the generator could not keep up", async () => {
    const options = ["--lag-max", "0.0001", "--duration", "0.2", "--scale", "0.5"];
    const run = await bench([scenario, "--target", server.address, ...options]);
    assert.equal(run.code, 3, run.stderr);
    assert.match(run.stdout, /^INVALID: the generator could not keep to its schedule/m);
  });

  it("ends with the same code where no request was measured", async () => {
    const quiet = scenarioFile("quiet.json", { models: [{ ...text, arrivals: undefined }], measure_s: 0.1 });
    const run = await bench([quiet, "--target", server.address, "--http", "127.0.0.1:1"]);
    assert.equal(run.code, 3, run.stderr);
    assert.match(run.stdout, /^INVALID: no request was measured: the scenario has none in that time/m);
  });

  it("prints what it has when interrupted", async () => {
    const long = scenarioFile("long.json", { models: [text], measure_s: 600 });
    const run = await bench([long, "--target", server.address, "--http", "127.0.0.1:1"], (interrupt) => {
      server.onceReceived(30, interrupt);
    });
    assert.equal(run.code, 130, run.stderr);
    assert.match(run.stdout, /^text +\d+/m);
    assert.match(run.stdout, /Stopped before its end/);
  });

  it("says what is served where a model is not", async () => {
    const file = scenarioFile("missing.json", { models: [{ ...text, name: "absent" }] });
    const run = await bench([file, "--target", server.address]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /does not serve 'absent'; it has: text \(version 1\), picky \(version 1\)/);
    assert.doesNotMatch(run.stderr, /^ +at /m);
  });

  it("refuses requests larger than the model takes and shapes that do not fit", async () => {
    const large = scenarioFile("large.json", { models: [{ ...text, max_batch: 8, items: 8 }] });
    const tooLarge = await bench([large, "--target", server.address]);
    assert.equal(tooLarge.code, 1);
    assert.match(tooLarge.stderr, /requests of 8 items; the daemon takes 4 at most/);
    const misshapen = scenarioFile("misshapen.json", { models: [{ ...text, shapes: { mask: [7] } }] });
    const run = await bench([misshapen, "--target", server.address]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /shapes\.mask: \[7\] does not fit the input, whose items have the shape \[5\]/);
  });

  it("says that no daemon answers", async () => {
    const run = await bench([scenario, "--target", "127.0.0.1:9"]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /no daemon answers at 127\.0\.0\.1:9: .*npm start/);
  });

  it("asks for the daemon before it plans, and refuses to plan too much", async () => {
    const endless = [scenario, "--duration", "1e9"];
    const unreachable = await bench([...endless, "--target", "127.0.0.1:9"]);
    assert.equal(unreachable.code, 1);
    assert.match(unreachable.stderr, /no daemon answers at 127\.0\.0\.1:9/);
    const tooMuch = await bench([...endless, "--target", server.address]);
    assert.equal(tooMuch.code, 1);
    assert.match(tooMuch.stderr, /^slackline bench: small comes to more than 5,000,000 requests: .*\n$/);
  });

  it("tells all problems of a bad scenario", async () => {
    const file = scenarioFile("bad.json", { models: [{ ...text, slo_ms: -1, max_batch: 0 }] });
    const run = await bench([file, "--target", server.address]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /models\[0\]\.max_batch: .*\n.*models\[0\]\.slo_ms: /);
    const absent = await bench([path.join(FOLDER, "absent.json"), "--target", server.address]);
    assert.equal(absent.code, 1);
    assert.match(absent.stderr, /cannot be read: ENOENT/);
  });

  it("explains its command line", async () => {
    const cases: [string[], RegExp][] = [
      [[], /which scenario/],
      [[scenario], /Give --target HOST:PORT/],
      [[scenario, "--target", "localhost"], /--target takes HOST:PORT, not 'localhost'/],
      [[scenario, "--target", "a:1", "--scale", "0"], /--scale takes a number above 0, not '0'/],
      [
        [scenario, "--target", "a:1", "--transport", "pigeon"],
        /--transport is 'stream', 'unary' or 'plain', not 'pigeon'/,
      ],
      [[scenario, "--target", "a:1", "--speed", "9"], /--speed/],
    ];
    const runs = await Promise.all(cases.map(([args]) => bench(args)));
    runs.forEach((run, i) => {
      assert.equal(run.code, 2, run.stderr);
      assert.match(run.stderr, cases[i]![1]);
      assert.match(run.stderr, /usage: slackline bench/);
    });
    const help = await bench(["--help"]);
    assert.equal(help.code, 0);
    assert.match(help.stdout, /Exit code: 0, 1 where/);
  });
});
