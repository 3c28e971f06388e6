/** `slackline serve`: what it prints, how it ends, and what it says where it can't start. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { credentials } from "@grpc/grpc-js";
import { SlacklineClient, tensor } from "slackline-client";
import { VERSION } from "../../daemon/daemon.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { answered, failed, infer, protocol } from "../rpc/harness.ts";
import { BOULDER_ITEMS, boulderFiles, boulderInputs } from "../support/boulder.ts";
import { isRunning } from "../support/is-running.ts";
import { temporaryFolder, until, writeModelFiles } from "../support/live-daemon.ts";
import { serve } from "../support/serve-process.ts";

const good = {
  model_name: "plain",
  inputs: [{ name: "x", datatype: "FP32", shape: [1, 4] }],
  raw_input_contents: [Buffer.alloc(16)],
};

describe("slackline serve", () => {
  const folder = temporaryFolder();
  const models = path.join(folder.dir, "models");
  const base = ["--grpc-port", "0", "--http-port", "0", "--device", "cpu", "--log-format", "json"];
  const common = [...base, "--profile-cache", path.join(folder.dir, "profiles")];

  before(() => {
    const config = "max_batch_size: 4\nbuckets: [1, 4]\nslo_ms: 60000\n";
    writeModelFiles(models, "plain", { "1/model.onnx": addOne(4), "config.yaml": config });
    writeModelFiles(models, "boulder", boulderFiles());
  });
  after(() => folder.remove());

  /** Runs it to its end, which must be a failure. */
  async function refusal(args: readonly string[], code: number = 1): Promise<string> {
    const { output, exited } = serve(args, { cwd: folder.dir });
    assert.equal(await exited, code, output.err);
    assert.equal(output.out, "");
    return output.err;
  }

  test("SIGTERM: what was accepted is answered, new requests are refused, exit code 0", async () => {
    const { child, output, ready, exited } = serve(["--models", models, ...common]);
    const { grpcPort, httpPort } = await ready;
    assert.equal(output.out, `ready grpc=127.0.0.1:${grpcPort} http=127.0.0.1:${httpPort}\n`);
    const client = new SlacklineClient({ target: `127.0.0.1:${grpcPort}` });
    const raw = new protocol.inference.GRPCInferenceService(`127.0.0.1:${grpcPort}`, credentials.createInsecure());
    assert.equal(answered(await infer(raw, good)).model_name, "plain");
    const status = async (): Promise<DaemonStatus> =>
      (await (await fetch(`http://127.0.0.1:${httpPort}/status`)).json()) as DaemonStatus;
    const boulders = [1, 2, 3].map(() => client.infer("boulder", boulderInputs(), { retry: false }));
    const x = tensor.float32([1, 4], new Float32Array(4));
    await until("the first boulder rolls", async () =>
      (await status()).models.some(
        ({ name, counts, queued_items }) =>
          name === "boulder" && counts.requests === 3 && queued_items < 3 * BOULDER_ITEMS,
      ),
    );
    const waiting = Array.from({ length: 20 }, () => client.infer("plain", { x }, { bestEffort: true, retry: false }));
    await until("all were accepted", async () =>
      (await status()).models.some(({ name, counts }) => name === "plain" && counts.requests === 21),
    );
    child.kill("SIGTERM");
    await until("it drains", async () => (await status()).state === "draining");
    const readiness = await fetch(`http://127.0.0.1:${httpPort}/readyz`);
    assert.deepEqual([readiness.status, await readiness.text()], [503, "not ready: shutting down\n"]);
    const refused = failed(await infer(raw, good));
    assert.deepEqual(
      [refused.code, refused.message],
      ["UNAVAILABLE", "the daemon is shutting down and takes no more requests"],
    );
    const answers = await Promise.all([...boulders, ...waiting]);
    assert.equal(answers.length, 23);
    assert.equal(await exited, 0, output.err);
    client.close();
    raw.close();
  });

  test("a signal to npm start reaches the daemon", async () => {
    const command = ["npm", "start", "--"] as const;
    const { child, ready, exited, output } = serve(["--models", models, ...common], { cwd: PACKAGE_ROOT, command });
    const npmEnded = once(child, "exit");
    const { httpPort } = await ready;
    const { pid } = (await (await fetch(`http://127.0.0.1:${httpPort}/status`)).json()) as DaemonStatus;
    child.kill("SIGTERM");
    await npmEnded;
    const left = isRunning(pid);
    if (left) process.kill(pid, "SIGTERM");
    await exited;
    assert.ok(!left, "npm has ended, the daemon has not");
    assert.match(output.err, /SIGTERM: answering what was accepted/);
  });

  test("SIGINT while models are loading ends it in order", async () => {
    const { child, exited, output } = serve(["--models", models, ...common, "--reprofile"]);
    await until("it loads", () => output.err.includes('"msg":"device: '));
    child.kill("SIGINT");
    assert.equal(await exited, 0, output.err);
    assert.equal(output.out, "");
    assert.ok(!output.err.includes("can't be served"), output.err);
  });

  test("ports in use", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as { port: number };
    const grpc = await refusal(["--models", models, ...common, "--grpc-port", String(port)]);
    assert.match(grpc, new RegExp(`^slackline: gRPC port ${port} on 127.0.0.1 is in use: .*choose another port`, "m"));
    const http = await refusal(["--models", models, ...common, "--http-port", String(port)]);
    assert.match(http, new RegExp(`^slackline: can't listen for HTTP on 127.0.0.1:${port}: the port is in use`, "m"));
    taken.close();
  });

  test("an empty repository", async () => {
    const empty = path.join(folder.dir, "empty");
    mkdirSync(empty);
    const text = await refusal(["--models", empty, ...common]);
    assert.match(
      text,
      /^slackline: no models in .*empty: expected MODEL\/VERSION\/model\.onnx, such as digits\/1\/model\.onnx; it is empty$/m,
    );
  });

  test("a folder that doesn't exist", async () => {
    const text = await refusal(["--models", path.join(folder.dir, "nowhere"), ...common]);
    assert.match(text, /^slackline: model repository .*nowhere: .*; give the folder with --models DIR$/m);
  });

  test("a repository whose one model file can't be read", { skip: process.getuid?.() === 0 }, async () => {
    const secret = path.join(folder.dir, "secret");
    writeModelFiles(secret, "m", { "1/model.onnx": addOne(4) });
    chmodSync(path.join(secret, "m/1/model.onnx"), 0);
    const text = await refusal(["--models", secret, ...common]);
    assert.match(text, /none of the models in .*secret can be served: .*permission/);
  });

  test("a model file that is a folder", async () => {
    const odd = path.join(folder.dir, "odd");
    mkdirSync(path.join(odd, "m/1/model.onnx"), { recursive: true });
    const text = await refusal(["--models", odd, ...common]);
    assert.match(text, /^slackline: none of the models in .*odd can be served: m\/1/m);
  });

  test("bad flags and a bad settings file are told with all their problems", async () => {
    const flags = await refusal(["--models", models, "--grpc-prot", "0", "--slo-ms-default", "soon"], 2);
    assert.match(flags, /^slackline: the configuration has 2 problems:\n {2}--grpc-prot: unknown flag; did you mean/);
    assert.match(flags, /--slo-ms-default: got "?soon"?/);
    const file = path.join(folder.dir, "bad.yaml");
    writeFileSync(file, "grpc_port: 99999\nfairnes: true\nlog_level: loud\n");
    const text = await refusal(["--config", file], 2);
    assert.match(text, /the configuration has 3 problems:/);
    for (const place of ["bad.yaml:1:12: grpc_port", "bad.yaml:2:1: fairnes", "bad.yaml:3:12: log_level"]) {
      assert.ok(text.includes(place), text);
    }
    assert.match(await refusal(["--config", path.join(folder.dir, "none.yaml")], 2), /none\.yaml/);
  });

  test("a decision log that can't be written", async () => {
    const text = await refusal(["--models", models, ...common, "--decision-log", path.join(folder.dir, "no/such/log")]);
    assert.match(text, /^slackline: decision log .*no\/such\/log: the folder .*no\/such does not exist$/m);
  });

  test("the launcher tells the version, and which commands there are", () => {
    const launcher = path.join(PACKAGE_ROOT, "bin", "slackline.mjs");
    const slackline = (...args: string[]) => spawnSync(process.execPath, [launcher, ...args], { encoding: "utf8" });
    for (const args of [["--version"], ["-v"], ["version"], ["serve", "--version"]]) {
      assert.deepEqual([slackline(...args).stdout, slackline(...args).status], [`slackline ${VERSION}\n`, 0]);
    }
    const unknown = slackline("sevre");
    assert.equal(unknown.status, 2);
    assert.match(unknown.stderr, /^slackline: unknown command 'sevre'\nusage: slackline COMMAND/);
  });

  test("--help and --version", async () => {
    for (const [flag, text] of [
      ["--help", /^usage: slackline serve/],
      ["--version", /^slackline \d+\.\d+\.\d+\n$/],
    ] as const) {
      const { output, exited } = serve([flag]);
      assert.equal(await exited, 0);
      assert.match(output.out, text);
      assert.equal(output.err, "");
    }
  });
});
