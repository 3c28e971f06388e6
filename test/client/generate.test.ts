import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { ModelMetadataResponse } from "../../proto/generated/inference/ModelMetadataResponse.ts";
import { compile, scratchFolder } from "./compile.ts";
import { FakeDaemon } from "./fake-daemon.ts";

const BIN = path.join(PACKAGE_ROOT, "client", "bin", "slackline-client.mjs");

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function cli(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [BIN, ...args], (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr });
    });
  });
}

const input = (name: string, datatype: string, ...shape: number[]) => ({ name, datatype, shape });

const MODELS: Readonly<Record<string, ModelMetadataResponse>> = {
  digits: {
    name: "digits",
    versions: ["1"],
    inputs: [input("pixels", "FP32", -1, 1, 8, 8)],
    outputs: [input("scores", "FP32", -1, 10), input("label", "INT64", -1)],
  },
  "text-encoder.v2": {
    name: "text-encoder.v2",
    versions: ["1", "2"],
    inputs: [input("input ids", "INT64", -1, -1), input("texts", "BYTES", -1)],
    outputs: [input("sentence-embedding", "FP16", -1, 384)],
  },
  delete: { name: "delete", versions: ["1"], inputs: [input("x", "BOOL", -1)], outputs: [input("x", "BOOL", -1)] },
  // Names that would break out of comments and strings if they were not quoted.
  'evil*/"};\nprocess.exit(3);//`${1}': {
    name: "evil",
    versions: ['1*/"'],
    inputs: [input('a*/"\\', "UINT8", -1)],
    outputs: [input("__proto__x", "UINT8", -1)],
  },
};

const RIGHT = `
import { SlacklineClient, tensor } from "slackline-client";
import { deleteModel, digits, textEncoderV2 } from "./models.ts";

export async function use(target: string): Promise<unknown> {
  const client = new SlacklineClient({ target });
  try {
    const all = await digits(client, { pixels: tensor.float32([1, 1, 8, 8], new Float32Array(64)) }, { deadlineMs: 5_000 });
    const scores: Float32Array = all.outputs.scores.data;
    const label: BigInt64Array = all.outputs.label.data;
    const some = await digits(client, { pixels: tensor.float32([1, 1, 8, 8], new Float32Array(64)) }, { outputs: ["label"] });
    const only: BigInt64Array = some.outputs.label.data;
    const inputs = { "input ids": tensor.int64([1, 2], new BigInt64Array(2)), texts: tensor.strings([1], ["a"]) };
    const encoded = await textEncoderV2(client, inputs, { version: 2 });
    const embedding: Uint16Array = encoded.outputs["sentence-embedding"].data;
    const { outputs } = await deleteModel(client, { x: tensor.bool([1], [true]) });
    return [scores.length, label[0], only.length, embedding.length, outputs.x.data[0]];
  } finally {
    client.close();
  }
}
`;

/** Each must be refused, with a complaint that names what is wrong. */
const WRONG: readonly (readonly [what: string, line: string, complaint: RegExp])[] = [
  ["a misspelt input", `await digits(client, { pixel: pixels });`, /'?pixel'?/],
  ["a missing input", `await digits(client, {});`, /pixels/],
  ["an input too many", `await digits(client, { pixels, more: pixels });`, /more/],
  ["another element type", `await digits(client, { pixels: tensor.float64([1], new Float64Array(1)) });`, /FP64/],
  ["a misspelt output", `(await digits(client, { pixels })).outputs.score;`, /score/],
  [
    "an output that was not asked for",
    `(await digits(client, { pixels }, { outputs: ["label"] })).outputs.scores;`,
    /scores/,
  ],
  ["an unknown output", `await digits(client, { pixels }, { outputs: ["scorez"] });`, /scorez/],
  [
    "an output's type",
    `(await digits(client, { pixels })).outputs.label.data satisfies Float32Array;`,
    /BigInt64Array/,
  ],
];

describe("slackline-client generate", () => {
  let daemon: FakeDaemon;
  const { dir, remove } = scratchFolder();
  const out = path.join(dir, "models.ts");

  before(async () => {
    daemon = await FakeDaemon.start({ models: MODELS });
    daemon.behave = (request) => ({
      type: "answer",
      response:
        request.model_name === "digits"
          ? {
              outputs: [input("scores", "FP32", 1, 10), input("label", "INT64", 1)],
              raw_output_contents: [Buffer.alloc(40), Buffer.from([7, 0, 0, 0, 0, 0, 0, 0])],
            }
          : request.model_name === "delete"
            ? { outputs: [input("x", "BOOL", 1)], raw_output_contents: [Buffer.of(1)] }
            : { outputs: [input("sentence-embedding", "FP16", 1, 384)], raw_output_contents: [Buffer.alloc(768)] },
    });
    const { code, stdout, stderr } = await cli("generate", "--target", daemon.target, "--out", out);
    assert.equal(stderr, "");
    assert.equal(code, 0);
    assert.match(stdout, /4 models/);
  });
  after(() => {
    daemon.kill();
    remove();
  });

  it("writes a module that compiles and runs where it is used rightly", async () => {
    const complaints = await compile(dir, { "right.ts": RIGHT });
    assert.deepEqual(complaints, []);
    const { use } = await import(pathToFileURL(path.join(dir, "out", "right.js")).href);
    assert.deepEqual(await use(daemon.target), [10, 7n, 1, 384, 1]);
  });

  it("documents shapes and batches", () => {
    const text = readFileSync(out, "utf8");
    assert.match(text, /\/\*\* \[batch, 1, 8, 8\] FP32 \*\//);
    assert.match(text, /Runs model "digits", version 1; batches of up to 8 items\./);
  });

  it("writes a module that does not compile where it is used wrongly", async () => {
    const other = scratchFolder();
    try {
      const sources: Record<string, string> = { "models.ts": readFileSync(out, "utf8") };
      for (const [index, [, line]] of WRONG.entries()) {
        sources[`wrong-${index}.ts`] = `
import { type SlacklineClient, tensor } from "slackline-client";
import { digits } from "./models.ts";
declare const client: SlacklineClient;
const pixels = tensor.float32([1, 1, 8, 8], new Float32Array(64));
export async function wrong(): Promise<void> {
  ${line}
  tensor;
  pixels;
}
`;
      }
      const complaints = await compile(other.dir, sources);
      for (const [index, [what, , complaint]] of WRONG.entries()) {
        const at = complaints.findIndex((line) => line.startsWith(`wrong-${index}.ts`));
        assert.ok(at >= 0, `${what} compiles`);
        const next = complaints.findIndex((line, i) => i > at && /^\S/.test(line));
        assert.match(complaints.slice(at, next < 0 ? undefined : next).join("\n"), complaint, what);
      }
      assert.ok(!complaints.some((line) => line.startsWith("models.ts")));
    } finally {
      other.remove();
    }
  });

  it("says whether a module is stale", async () => {
    const fresh = await cli("generate", "--target", daemon.target, "--out", out, "--check");
    assert.equal(fresh.code, 0);
    const stale = path.join(dir, "stale.txt");
    writeFileSync(stale, "old");
    const checked = await cli("generate", "--target", daemon.target, "--out", stale, "--check");
    assert.equal(checked.code, 1);
    assert.match(checked.stdout, /is stale/);
    assert.equal(readFileSync(stale, "utf8"), "old");
  });

  it("takes only the models that are named", async () => {
    const one = path.join(dir, "sub", "one.txt");
    const { code } = await cli("generate", "--target", daemon.target, "--out", one, "--models", "digits");
    assert.equal(code, 0);
    assert.doesNotMatch(readFileSync(one, "utf8"), /textEncoder/);
  });

  it("explains what goes wrong", async () => {
    const usage = await cli("generate", "--out", out);
    assert.equal(usage.code, 2);
    assert.match(usage.stderr, /needs --target and --out/);
    const flag = await cli("generate", "--nonesuch");
    assert.equal(flag.code, 2);
    const unknown = await cli("generate", "--target", daemon.target, "--out", out, "--models", "nonesuch");
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /unknown model: 'nonesuch'/);
    const gone = await cli("generate", "--target", "127.0.0.1:1", "--out", out, "--timeout-ms", "200");
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /no daemon was reached at 127\.0\.0\.1:1/);
  });
});
