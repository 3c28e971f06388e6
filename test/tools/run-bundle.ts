/**
 * Unpacks the bundle in a folder of its own and uses it as a host without Node would: an empty environment, no PATH.
 *
 *     node dist/test/tools/run-bundle.js [ARCHIVE]     (default: makes one first)
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { SlacklineClient, tensor } from "slackline-client";
import type { DaemonStatus } from "../../daemon/status.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";

const SIZE_BYTES_MAX = 60 * 2 ** 20;
const READY_MS = 60_000;
/** No PATH, no HOME: what a bare host's service manager might give. */
const BARE: NodeJS.ProcessEnv = {};
/** Where these name a Vulkan driver and loader, the bundle is also run on that adapter, software or not. */
const VULKAN_SETTINGS: readonly string[] = ["VK_ICD_FILENAMES", "LD_LIBRARY_PATH"];

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function makeArchive(folder: string): string {
  const main = fileURLToPath(new URL("../../tools/bundle/main.js", import.meta.url));
  const file = path.join(folder, "bundle.archive");
  execFileSync(process.execPath, [main, "--quick", "--out", file], { stdio: ["ignore", "inherit", "inherit"] });
  return file;
}

interface Ports {
  readonly grpc: number;
  readonly http: number;
}

/** Resolves to the ports that the daemon says it is ready on. */
function ready(child: ChildProcess): Promise<Ports> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not ready after ${READY_MS / 1000} s`)), READY_MS);
    const lines: string[] = [];
    createInterface({ input: child.stdout! }).on("line", (line) => {
      lines.push(line);
      const found = /^ready grpc=\S+:(\d+) http=\S+:(\d+)/.exec(line);
      if (found === null) return;
      clearTimeout(timer);
      resolve({ grpc: Number(found[1]), http: Number(found[2]) });
    });
    createInterface({ input: child.stderr! }).on("line", (line) => lines.push(line));
    child.once("error", reject);
    child.once("close", (code) => reject(new Error(`it ended with ${code}:\n${lines.join("\n")}`)));
  });
}

async function stop(child: ChildProcess): Promise<number | null> {
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  child.kill("SIGTERM");
  return await ended;
}

/**
 * Whether all is in the bundle that devices need: providers are passed over for what this host lacks and not for a missing file, and
 * lanes have processes of their own, with which they share memory.
 */
async function judgeStatus(httpPort: number, asked: string): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/status`);
  const { pid, device, lanes } = (await response.json()) as DaemonStatus;
  for (const { provider, reason } of device.passed_over) {
    assert.doesNotMatch(reason, /cannot find (module|package)|ERR_MODULE_NOT_FOUND/i, `${provider} is passed over`);
  }
  const tried = [...device.passed_over.map(({ provider }) => provider), device.provider];
  const best = ["cuda", "webgpu", "cpu"];
  assert.deepEqual(tried, asked === "auto" ? best.slice(0, best.indexOf(device.provider) + 1) : [asked]);
  for (const lane of lanes) assert.notEqual(lane.pid, pid, `${lane.lane} has a process of its own`);
  const executions = lanes.filter(({ kind }) => kind === "device").flatMap((lane) => Object.values(lane.executions));
  assert.equal(
    executions.reduce((sum, count) => sum + count, 0),
    1,
    "the device executed what was asked",
  );
}

/** Starts a command of the bundle, asks the tiny model something, ends it. */
async function serveAndAsk(
  command: string,
  args: readonly string[],
  cwd: string,
  { env = BARE, device = "auto" } = {},
): Promise<void> {
  const child = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  try {
    const ports = await ready(child);
    const client = new SlacklineClient({ target: `127.0.0.1:${ports.grpc}` });
    const answer = await client.infer("add_one", { x: tensor.float32([1, 4], Float32Array.of(1, 2, 3, 4)) });
    assert.deepEqual([...answer.output("y", "FP32").data], [2, 3, 4, 5]);
    client.close();
    await judgeStatus(ports.http, device);
  } finally {
    if (child.exitCode === null) assert.equal(await stop(child), 0);
  }
}

async function main(): Promise<void> {
  const temporary = temporaryFolder();
  try {
    const archive = process.argv[2] === undefined ? makeArchive(temporary.dir) : path.resolve(process.argv[2]);
    const { size } = statSync(archive);
    say(`archive: ${(size / 2 ** 20).toFixed(1)} MiB`);
    assert.ok(size <= SIZE_BYTES_MAX, "the archive is larger than 60 MiB");
    const unpacked = path.join(temporary.dir, "unpacked");
    mkdirSync(unpacked);
    execFileSync("tar", ["-xf", archive, "-C", unpacked]);
    const folder = path.join(unpacked, readdirSync(unpacked)[0]!);
    const command = (name: string): string => path.join(folder, name);

    const repository = path.join(temporary.dir, "models");
    writeModelFiles(repository, "add_one", { "1/model.onnx": addOne() });
    const ports = ["--grpc-port", "0", "--http-port", "0"];
    const serving = ["serve", "--models", repository, ...ports];
    await serveAndAsk(command("slackline"), serving, temporary.dir);
    say("slackline serve: ready with an empty environment, answered, ended with 0");
    await serveAndAsk("./slackline", serving, folder);
    say("./slackline serve: the same from its own folder");

    if (process.env.VK_ICD_FILENAMES !== undefined) {
      const env = Object.fromEntries(VULKAN_SETTINGS.map((name) => [name, process.env[name]]));
      // SwiftShader wants a folder of this kind.
      const options = { env: { ...env, XDG_RUNTIME_DIR: temporary.dir }, device: "webgpu" };
      const flags = ["--device", "webgpu", "--allow-software-gpu"];
      await serveAndAsk(command("slackline"), [...serving, ...flags], temporary.dir, options);
      say("slackline serve --device webgpu: the same on a Vulkan adapter");
      // Every file of tests is loaded, and what it needs with it; `test:webgpu` runs them all.
      const one = ["webgpu", "--test-name-pattern", "executes on the GPU"];
      const tested = execFileSync(command("test-gpu"), one, { env: options.env, encoding: "utf8" });
      assert.match(tested, /(✔|ok \d+ -) the lane executes on the GPU/);
      say("test-gpu: ran a test on that adapter");
    }

    const help = execFileSync(command("slackline"), ["sim", "--policy", "list"], { env: BARE, encoding: "utf8" });
    assert.match(help, /slackline/);
    const scenario = path.join(folder, "app", "bench", "scenarios", "live-light.json");
    execFileSync(command("slackline"), ["sim", scenario], { env: BARE });
    say("slackline sim: ran a scenario that is in the bundle");

    const made = path.join(temporary.dir, "samples");
    execFileSync(command("make-sample-models"), ["--out", made, "--only", "ranker", "--only", "digits"], { env: BARE });
    assert.ok(existsSync(path.join(made, "ranker", "1", "model.onnx")));
    say("make-sample-models: made what the catalogue says");
    const usage = execFileSync(command("setup-cuda"), ["--help"], { env: BARE, encoding: "utf8" });
    assert.match(usage, /--from-wheel FILE/);
    say("setup-cuda: runs");
    assert.match(execFileSync(command("bench-gpu"), ["--help"], { env: BARE, encoding: "utf8" }), /\.\/bench-gpu/);
    say("bench-gpu: runs");
  } finally {
    temporary.remove();
  }
}

await main();
