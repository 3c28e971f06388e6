/** The tools around the daemon: what they make of wrong command lines and of files that can't be written. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { isRunning } from "../support/is-running.ts";
import { temporaryFolder, until } from "../support/live-daemon.ts";

const TOOLS: readonly string[] = [
  "bench/budgets/main",
  "bench/gpu/main",
  "bench/lane-bench",
  "bench/load/main",
  "bench/parity/main",
  "bench/policies/compare",
  "bench/quickstart/main",
  "bench/scenarios/generate",
  "bench/scheduler-bench",
  "bench/sim-bench",
  "bench/triton/main",
  "bench/wire-bench",
  "proto/generate",
  "tools/bundle/main",
  "tools/cuda/main",
  "tools/monitoring/generate",
];

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(tool: string, ...args: readonly string[]): Promise<Run> {
  const main = fileURLToPath(new URL(`../../${tool}.js`, import.meta.url));
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, ...args], (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

describe("command-line tools", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());

  for (const tool of TOOLS) {
    it(`${tool} does nothing on an unknown option, and explains itself`, async () => {
      const [unknown, help] = await Promise.all([run(tool, "--bogus"), run(tool, "--help")]);
      assert.deepEqual([unknown.code, unknown.stdout], [2, ""], unknown.stderr);
      assert.match(unknown.stderr, /^[\w: ]+: Unknown option '--bogus'.*\n\nusage: /);
      assert.deepEqual([help.code, help.stderr], [0, ""]);
      assert.match(help.stdout, /^usage: /);
    });
  }

  it("say in a sentence what is wrong with a command line", async () => {
    const cases: readonly (readonly [tool: string, args: readonly string[], said: RegExp])[] = [
      ["bench/sim-bench", ["--json"], /--json/],
      ["bench/budgets/main", ["--only", "foo"], /--only takes some of latency, .*; not 'foo'/],
      ["bench/lane-bench", ["--rounds", "0"], /--rounds takes a whole number of at least 1, not '0'/],
      ["bench/lane-bench", ["--runs", "x"], /--runs takes/],
      ["bench/wire-bench", ["--sizes", "64,abc"], /--sizes takes a whole number of at least 1, not 'abc'/],
      ["bench/wire-bench", ["--seconds", "x"], /--seconds takes a number of seconds above 0, not 'x'/],
      ["bench/wire-bench", ["--target", "localhost"], /--target takes HOST:PORT/],
      ["bench/parity/main", ["--loads", "0.5,3"], /--loads takes shares above 0 and up to 2, not '3'/],
      ["bench/triton/main", ["--rounds", "0.5"], /--rounds takes a whole number/],
      ["bench/policies/compare", ["--policies", "fastest"], /--policies takes some of .*; not 'fastest'/],
      ["bench/quickstart/main", ["now"], /what is 'now'\?/],
    ];
    const runs = await Promise.all(cases.map(([tool, args]) => run(tool, ...args)));
    runs.forEach(({ code, stderr }, i) => {
      assert.equal(code, 2, stderr);
      assert.match(stderr, cases[i]![2]);
      assert.match(stderr, /\n\nusage: /);
    });
  });

  it("say before a run that its result can't be written", async () => {
    const cases: readonly (readonly [tool: string, args: readonly string[]])[] = [
      [
        "bench/load/main",
        [`${PACKAGE_ROOT}/bench/scenarios/live-light.json`, "--target", "127.0.0.1:9", "--json", folder.dir],
      ],
      ["bench/policies/compare", ["--quick", "--out", path.join(PACKAGE_ROOT, "package.json")]],
      ["bench/gpu/main", ["--out", path.join(PACKAGE_ROOT, "package.json")]],
      ["bench/scheduler-bench", ["--json", folder.dir]],
      ["bench/sim-bench", ["--json", folder.dir]],
      ["bench/parity/main", ["--markdown", folder.dir]],
    ];
    const runs = await Promise.all(cases.map(([tool, args]) => run(tool, ...args)));
    for (const { code, stdout, stderr } of runs) {
      assert.deepEqual([code, stdout], [1, ""], stderr);
      assert.match(stderr, /^[\w: ]+: .* can't be written: .*\n$/);
    }
    assert.deepEqual(readdirSync(folder.dir), []);
  });

  it("leave neither folders nor children behind when a signal ends them", async () => {
    const cleanUp = new URL("../../tools/command-line/clean-up.js", import.meta.url);
    const script = `
      import { spawn } from "node:child_process";
      import { exitOnSignals, killOnExit, temporaryFolder } from ${JSON.stringify(cleanUp.href)};
      exitOnSignals(() => console.log("first"));
      const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
      killOnExit(child);
      console.log(JSON.stringify({ folder: temporaryFolder("test"), pid: child.pid }));
    `;
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      const tool = spawn(process.execPath, ["--input-type=module", "-e", script], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const lines: string[] = [];
      createInterface({ input: tool.stdout }).on("line", (line) => {
        if (lines.push(line) === 1) tool.kill(signal);
      });
      const [code] = await once(tool, "close");
      const { folder: left, pid } = JSON.parse(lines[0]!) as { folder: string; pid: number };
      assert.deepEqual([code, lines[1], existsSync(left)], [130, "first", false]);
      await until("the child is gone", () => !isRunning(pid));
    }
  });

  it("bundle refuses what is no Node before it puts anything together", async () => {
    const target = path.join(folder.dir, "bundle");
    const cases = [
      ["/nope", /--node \/nope can't be read: it does not exist/],
      [path.join(PACKAGE_ROOT, "package.json"), /is no program for linux-x64/],
    ] as const;
    for (const [node, said] of cases) {
      const { code, stderr } = await run("tools/bundle/main", "--folder", target, "--node", node);
      assert.equal(code, 1, stderr);
      assert.match(stderr, said);
      assert.ok(!existsSync(target));
    }
  });
});
