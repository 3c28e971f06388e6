import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { FakeDaemon } from "./fake-daemon.ts";

const run = promisify(execFile);

describe("the client's tarball", () => {
  let folder: string;
  let installed: string;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "slackline-pack-"));
    await run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder], {
      cwd: path.join(PACKAGE_ROOT, "client"),
    });
    const tarball = readdirSync(folder).find((file) => file.endsWith(".tgz"))!;
    installed = path.join(folder, "app", "node_modules", "slackline-client");
    mkdirSync(installed, { recursive: true });
    await run("tar", ["-xzf", path.join(folder, tarball), "--strip-components=1", "-C", installed]);
    // What npm would install beside it, and nothing else of the daemon's.
    symlinkSync(
      path.join(PACKAGE_ROOT, "node_modules", "@grpc"),
      path.join(folder, "app", "node_modules", "@grpc"),
      "dir",
    );
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("holds what it needs, and depends on gRPC alone", () => {
    for (const file of [
      "dist/index.js",
      "dist/index.d.ts",
      "proto/inference.proto",
      "README.md",
      "bin/slackline-client.mjs",
    ]) {
      assert.ok(existsSync(path.join(installed, file)), `${file} is missing`);
    }
    const manifest = JSON.parse(readFileSync(path.join(installed, "package.json"), "utf8"));
    assert.deepEqual(Object.keys(manifest.dependencies), ["@grpc/grpc-js", "@grpc/proto-loader"]);
  });

  it("works in a folder that holds nothing else", async () => {
    const daemon = await FakeDaemon.start();
    try {
      const script = `
        import { SlacklineClient, tensor } from "slackline-client";
        const client = new SlacklineClient({ target: "${daemon.target}" });
        const { name } = await client.serverMetadata();
        const result = await client.infer("m", { x: tensor.int32([2], Int32Array.of(20, 22)) });
        console.log(name, result.output("x", "INT32").data.join());
        client.close();`;
      const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", script], {
        cwd: path.join(folder, "app"),
      });
      assert.equal(stdout.trim(), "fake 20,22");
    } finally {
      daemon.kill();
    }
  });

  it("brings its command", async () => {
    const bin = path.join(installed, "bin", "slackline-client.mjs");
    const { stdout } = await run(process.execPath, [bin, "--help"]);
    assert.match(stdout, /slackline-client generate --target/);
  });
});
