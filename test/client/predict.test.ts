/** `slackline-client predict` against a daemon that echoes its inputs, and misbehaves as told. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { describe, it, type TestContext } from "node:test";
import { pathToFileURL } from "node:url";
import { Metadata, status } from "@grpc/grpc-js";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { ModelInferRequest__Output } from "../../proto/generated/inference/ModelInferRequest.ts";
import { tempDir, writeFiles } from "../config/temp-dir.ts";
import { echo, FakeDaemon, type FakeDaemonOptions } from "./fake-daemon.ts";

const { main } = (await import(pathToFileURL(path.join(PACKAGE_ROOT, "client", "dist", "cli.js")).href)) as {
  main(argv: readonly string[]): Promise<number>;
};

/** [2, 3] FP32 of 1 to 6 as NumPy 2.4 writes it, by version of the format. */
const NUMPY_ARRAY = {
  "1.0":
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAIA/AAAAQAAAQEAAAIBAAACgQAAAwEA=",
  "2.0":
    "k05VTVBZAgB0AAAAeydkZXNjcic6ICc8ZjQnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAIA/AAAAQAAAQEAAAIBAAACgQAAAwEA=",
  "3.0":
    "k05VTVBZAwB0AAAAeydkZXNjcic6ICc8ZjQnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAIA/AAAAQAAAQEAAAIBAAACgQAAAwEA=",
};
/** The same in Fortran order. */
const NUMPY_FORTRAN =
  "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAIA/AACAQAAAAEAAAKBAAABAQAAAwEA=";
/** A .npy file of version 1.0. */
function npy(descr: string, shape: readonly number[], data: ArrayBufferView): Buffer {
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(", ")},), }\n`;
  const prefix = Buffer.from("\x93NUMPY\x01\x00\x00\x00", "latin1");
  prefix.writeUInt16LE(dict.length, 8);
  return Buffer.concat([
    prefix,
    Buffer.from(dict),
    new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength),
  ]);
}

interface Declared {
  readonly datatype: string;
  readonly shape: readonly number[];
}

interface Rig {
  readonly daemon: FakeDaemon;
  readonly dir: string;
  file(name: string): string;
  /** Runs it on the model `m`; input and output are named by the arguments. */
  predict(...args: string[]): Promise<{ readonly code: number; readonly stderr: string }>;
  results(): Result[];
}

interface Result {
  readonly row: number;
  readonly id?: unknown;
  readonly version?: string;
  readonly outputs?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: string; readonly reason: string | null; readonly message: string };
}

const VECTOR: Declared = { datatype: "FP32", shape: [-1, 3] };

/** A daemon with the model `m`, whose input and output is `x`. */
async function rig(t: TestContext, x: Declared = VECTOR, options: FakeDaemonOptions = {}): Promise<Rig> {
  const dir = tempDir(t);
  const tensors = [{ name: "x", datatype: x.datatype, shape: [...x.shape] }];
  const daemon = await FakeDaemon.start({
    models: { m: { name: "m", versions: ["1"], inputs: tensors, outputs: tensors } },
    ...options,
  });
  const runs: Promise<number>[] = [];
  t.after(async () => {
    // A test that failed may leave a run that would wait for ever.
    daemon.behave = () => ({ type: "echo" });
    daemon.release();
    await Promise.allSettled(runs);
    daemon.kill();
  });
  const file = (name: string): string => path.join(dir, name);
  return {
    daemon,
    dir,
    file,
    async predict(...args) {
      let stderr = "";
      const write = t.mock.method(process.stderr, "write", (text: string) => {
        stderr += text;
        return true;
      });
      try {
        const run = main(["predict", "m", "--target", daemon.target, ...args]);
        runs.push(run);
        return { code: await run, stderr };
      } finally {
        write.mock.restore();
      }
    },
    results: () => linesOf(readFileSync(file("out.jsonl"), "utf8")),
  };
}

function linesOf(text: string): Result[] {
  assert.ok(text === "" || text.endsWith("\n"));
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

const jsonLines = (rows: readonly unknown[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** Rows n, n, n for n from 0. */
const countedRows = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ id: `r${n}`, inputs: { x: [n, n, n] } }));
const answersTo = (count: number): Result[] =>
  countedRows(count).map(({ id, inputs }, row) => ({ row, id, version: "1", outputs: inputs }));

const valuesOf = ({ raw_input_contents }: ModelInferRequest__Output): number[] => {
  const bytes = new Uint8Array(raw_input_contents[0]!);
  return [...new Float32Array(bytes.buffer)];
};
const itemsOf = (request: ModelInferRequest__Output): number => Number(request.inputs[0]!.shape[0]);

const holdingAllBut =
  (answered: number): NonNullable<FakeDaemonOptions["behave"]> =>
  (request) => ({ type: valuesOf(request).includes(answered) ? "echo" : "hold" });

/** One failure for requests that hold this number. */
const failingOn =
  (bad: number, code: "INVALID_ARGUMENT" | "INTERNAL" = "INVALID_ARGUMENT"): NonNullable<FakeDaemonOptions["behave"]> =>
  (request) =>
    valuesOf(request).includes(bad)
      ? { type: "error", code, message: `${bad} is bad`, cause: "bad" }
      : { type: "echo" };

describe("predict with JSON lines", () => {
  it("writes results in the order of the input, whatever order answers come in", async (t) => {
    const { daemon, file, predict, results } = await rig(t, VECTOR, { behave: holdingAllBut(0) });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(10)));
    const ended = predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), "--items-per-request", "2");
    await daemon.until(() => daemon.held === 4);
    daemon.release([3, 1, 0, 2]);
    const { code, stderr } = await ended;
    assert.equal(code, 0);
    assert.match(stderr, /^m version 1: 10 rows in \d+\.\d s, [\d,]+ a second\n$/);
    assert.deepEqual(results(), answersTo(10));
  });

  it("sends best-effort requests as it was told", async (t) => {
    const { daemon, file, predict, results } = await rig(t);
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(5)));
    const flags = ["--version", "1", "--tenant", "batch", "--outputs", "x", "--items-per-request", "4"];
    const { code } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags);
    assert.equal(code, 0);
    assert.deepEqual(results(), answersTo(5));
    assert.deepEqual(
      daemon.arrivals.map(({ request }) => itemsOf(request)),
      [4, 1],
    );
    const [{ request, metadata }] = daemon.arrivals as [FakeDaemon["arrivals"][0]];
    assert.equal(request.model_version, "1");
    assert.deepEqual(
      request.outputs.map(({ name }) => name),
      ["x"],
    );
    assert.equal(request.parameters.best_effort?.bool_param, true);
    assert.equal(request.parameters.deadline_ms, undefined);
    assert.deepEqual(metadata.get("slackline-tenant"), ["batch"]);
  });

  const EXACT: readonly (readonly [datatype: string, values: readonly unknown[]])[] = [
    ["BOOL", [true, false]],
    ["UINT8", [0, 255]],
    ["INT16", [-32768, 32767]],
    ["UINT64", [1, "18446744073709551615"]],
    ["INT64", ["-9223372036854775808", 9007199254740991]],
    ["FP16", [0.1, 65504, 5.96e-8, 0.3333, -2, 1.001, "Infinity", "NaN"]],
    ["BF16", [0.1, -3.39e38, 1]],
    ["FP32", [0.1, 3.4028235e38, 1.401298e-45, 16777217 - 1, 0.33333334, "-Infinity"]],
    ["FP64", [0.1, 1.7976931348623157e308, "NaN"]],
    ["BYTES", ["", "grüße", { b64: "/wA=" }]],
  ];
  for (const [datatype, values] of EXACT) {
    it(`brings ${datatype} there and back`, async (t) => {
      const { file, predict, results } = await rig(t, { datatype, shape: [-1] });
      writeFileSync(file("in.jsonl"), jsonLines(values.map((x) => ({ inputs: { x } }))));
      const { code } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"));
      assert.equal(code, 0);
      assert.deepEqual(
        results(),
        values.map((x, row) => ({ row, version: "1", outputs: { x } })),
      );
    });
  }

  it("sends the halves nearest to decimals, as NumPy rounds them", async (t) => {
    const { daemon, file, predict } = await rig(t, { datatype: "FP16", shape: [-1, 10] });
    const decimals = [
      2.0409191213851825,
      -0.025556650313141818,
      4.180988467257788e-6,
      -5.677696061279298e-7,
      65519.9,
      2.9802322387695312e-8,
      8.940696716308594e-8,
      1.00048828125,
      1.00146484375,
      1 / 3,
    ];
    writeFileSync(file("in.jsonl"), jsonLines([{ inputs: { x: decimals } }]));
    await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"));
    const bytes = new Uint8Array(daemon.arrivals[0]!.request.raw_input_contents[0]!);
    assert.deepEqual([...new Uint16Array(bytes.buffer)], [16405, 42635, 70, 32778, 31743, 0, 2, 15360, 15362, 13653]);
  });

  it("lets only rows of equal shape share a request", async (t) => {
    const { daemon, file, predict, results } = await rig(t, { datatype: "INT32", shape: [-1, -1] });
    const rows = [[1], [2], [3, 4], [], [5]];
    writeFileSync(file("in.jsonl"), jsonLines(rows.map((x) => ({ inputs: { x } }))));
    const { code } = await predict(
      "--input",
      file("in.jsonl"),
      "--output",
      file("out.jsonl"),
      "--items-per-request",
      "8",
    );
    assert.equal(code, 0);
    // They travel on several streams: the order in which they arrive is anybody's.
    assert.deepEqual(daemon.arrivals.map(({ request }) => request.inputs[0]!.shape.join()).sort(), [
      "1,0",
      "1,1",
      "1,2",
      "2,1",
    ]);
    assert.deepEqual(
      results().map(({ outputs }) => outputs!.x),
      rows,
    );
  });

  it("takes rows as they are where the model has no batch dimension", async (t) => {
    const config = () => ({ name: "m", max_batch_size: 0 });
    const { daemon, file, predict, results } = await rig(t, { datatype: "FP32", shape: [2, -1] }, { config });
    writeFileSync(file("in.jsonl"), jsonLines([{ inputs: { x: [[1], [2]] } }, { inputs: { x: [[1], [2]] } }]));
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"))).code, 0);
    assert.deepEqual(
      daemon.arrivals.map(({ request }) => request.inputs[0]!.shape.join()),
      ["2,1", "2,1"],
    );
    assert.deepEqual(results()[1], { row: 1, version: "1", outputs: { x: [[1], [2]] } });
  });

  /** Nested deeper than a recursion goes. */
  const DEEP = "[".repeat(200_000) + "]".repeat(200_000);
  const WRONG: readonly (readonly [line: string, complaint: RegExp])[] = [
    ["{", /line 2: it is no JSON/],
    ["[1]", /line 2: it is no object; expected \{"id": …, "inputs": \{…\}\} with the inputs 'x' \(UINT8 \[2,2\]\)/],
    ['{"x":[[1,2],[3,4]]}', /line 2: it has an unknown member "x"/],
    ['{"inputs":{}}', /line 2: input 'x' is missing; model 'm' takes 'x' \(UINT8 \[2,2\]\)/],
    ['{"inputs":{"x":[[1,2],[3,4]],"y":1}}', /line 2: there is no input 'y'/],
    ['{"inputs":{"x":[1,2]}}', /line 2: input 'x'\[0\] is 1; expected 2 arrays in one another, of shape \[2,2\]/],
    ['{"inputs":{"x":[[1,2]]}}', /line 2: input 'x' has 1 entries; expected 2, of shape \[2,2\]/],
    ['{"inputs":{"x":[[1,2],[3]]}}', /line 2: input 'x'\[1\] has 1 entries; expected 2/],
    ['{"inputs":{"x":[[1,2],[3,256]]}}', /input 'x'\[1\]\[1\] is 256; UINT8 takes a whole number of 0 to 255/],
    ['{"inputs":{"x":[[1,2],[3,1.5]]}}', /input 'x'\[1\]\[1\] is 1.5; UINT8/],
    ['{"inputs":{"x":[[1,2],[3,"4"]]}}', /input 'x'\[1\]\[1\] is "4"; UINT8/],
    ['{"inputs":{"x":[[1,2],[3,null]]}}', /input 'x'\[1\]\[1\] is null; UINT8/],
    ['{"inputs":{"x":null}}', /line 2: input 'x' is null; expected 2 arrays in one another/],
    ['{"id":[],"inputs":{"x":[[1,2],[3,4]]}}', /"id" is an array; expected a string or a number/],
    ['{"id":9007199254740993,"inputs":{"x":[[1,2],[3,4]]}}', /"id" is a number beyond ±9007199254740991; write it as/],
    ['{"id":1e400,"inputs":{"x":[[1,2],[3,4]]}}', /"id" is a number beyond ±9007199254740991; write it as a string/],
    [`{"inputs":{"x":[[1,2],[3,${DEEP}]]}}`, /input 'x'\[1\]\[1\] is an array; UINT8 takes/],
    [`{"id":${DEEP},"inputs":{"x":[[1,2],[3,4]]}}`, /"id" is an array; expected a string or a number/],
  ];
  it("says of each wrong line what is wrong and goes on", async (t) => {
    const { file, predict, results } = await rig(t, { datatype: "UINT8", shape: [-1, 2, 2] });
    const right = '{"inputs":{"x":[[1,2],[3,4]]}}\n';
    for (const [line, complaint] of WRONG) {
      writeFileSync(file("in.jsonl"), `${right}${line}\n\n${right}`);
      const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), "--force");
      assert.equal(code, 1);
      const [first, second, third, ...more] = results();
      assert.deepEqual(
        [first!.outputs, third!.outputs, more],
        [
          {
            x: [
              [1, 2],
              [3, 4],
            ],
          },
          {
            x: [
              [1, 2],
              [3, 4],
            ],
          },
          [],
        ],
      );
      assert.deepEqual([second!.row, second!.error!.code, second!.error!.reason], [1, "INVALID_ARGUMENT", "input"]);
      assert.match(second!.error!.message, complaint);
      assert.match(stderr, /^row 1 failed: INVALID_ARGUMENT: line 2: .*\nm version 1: 3 rows, 1 failed in/);
    }
  });

  it("loses one row to a line that asks for more than there is memory for", async (t) => {
    const { file, predict, results } = await rig(t, { datatype: "INT32", shape: [-1, -1, -1, -1, -1] });
    // Only first entries are arrays, and tell 10,000 entries on each level.
    let x: unknown = 0;
    for (let depth = 0; depth < 4; depth++) x = [x, ...Array(9_999).fill(0)];
    writeFileSync(
      file("in.jsonl"),
      jsonLines([
        { id: "a", inputs: { x } },
        { id: "b", inputs: { x: [[[[1]]]] } },
      ]),
    );
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"))).code, 1);
    const [first, second] = results();
    assert.deepEqual([first!.id, first!.error!.reason], ["a", "input"]);
    assert.deepEqual(second!.outputs, { x: [[[[1]]]] });
  });

  it("keeps the id of a line that is wrong elsewhere", async (t) => {
    const { file, predict, results } = await rig(t);
    writeFileSync(file("in.jsonl"), '{"id":"a","input":{}}\n{"inputs":1,"id":7}\n');
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"))).code, 1);
    assert.deepEqual(
      results().map(({ id }) => id),
      ["a", 7],
    );
  });

  it("keeps to the version that the server describes, where it says which that is", async (t) => {
    const { daemon, file, predict } = await rig(t, VECTOR, {
      config: (name) => ({ name, max_batch_size: 8, parameters: { slackline_version: { string_value: "3" } } }),
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(3)));
    const args = ["--input", file("in.jsonl"), "--output", file("out.jsonl"), "--items-per-request", "1"];
    assert.equal((await predict(...args)).code, 0);
    assert.deepEqual(
      daemon.arrivals.map(({ request }) => request.model_version),
      ["3", "3", "3"],
    );
  });

  it("keeps to the version that answered first, and says which it is", async (t) => {
    const { daemon, file, predict, results } = await rig(t, VECTOR, {
      // Requests that name no version are shared out.
      behave: (request) => ({
        type: "answer",
        response: { ...echo(request), model_version: request.model_version || String(daemon.arrivals.length + 1) },
      }),
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(5)));
    const args = ["--input", file("in.jsonl"), "--output", file("out.jsonl"), "--items-per-request", "1"];
    const { code, stderr } = await predict(...args);
    assert.equal(code, 0);
    assert.match(stderr, /^m version 2: 5 rows/);
    assert.deepEqual(
      daemon.arrivals.map(({ request }) => request.model_version),
      ["", "2", "2", "2", "2"],
    );
    assert.deepEqual(
      results().map(({ version }) => version),
      ["2", "2", "2", "2", "2"],
    );
  });

  it("refuses integers that JSON has rounded", async (t) => {
    const { file, predict, results } = await rig(t, { datatype: "INT64", shape: [-1] });
    writeFileSync(file("in.jsonl"), '{"inputs":{"x":9007199254740993}}\n');
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"))).code, 1);
    assert.match(results()[0]!.error!.message, /INT64 takes .* as a string beyond ±9007199254740991/);
  });

  it("reads no further while a row has no answer than it may have under way", async (t) => {
    const { daemon, file, predict, results } = await rig(t, VECTOR, {
      behave: (request) => ({ type: valuesOf(request).includes(3) ? "hold" : "echo" }),
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(200)));
    const flags = ["--items-per-request", "3", "--outstanding", "12"];
    const ended = predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags);
    await daemon.until(() => daemon.held === 1);
    // Another run from beginning to end: the first would send much in that time if nothing held it back.
    writeFileSync(file("other.jsonl"), jsonLines(countedRows(2).slice(1)));
    assert.equal((await predict("--input", file("other.jsonl"), "--output", file("other-out.jsonl"))).code, 0);
    // The first request, as many as may be under way, and the other run's.
    assert.equal(daemon.arrivals.length, 1 + 4 + 1);
    daemon.release();
    assert.equal((await ended).code, 0);
    assert.deepEqual(results(), answersTo(200));
  });
});

describe("predict with NumPy arrays", () => {
  for (const [version, base64] of Object.entries(NUMPY_ARRAY)) {
    it(`reads version ${version}, and writes what NumPy would`, async (t) => {
      const { file, dir, predict } = await rig(t);
      writeFileSync(file("in.npy"), Buffer.from(base64, "base64"));
      const { code } = await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`);
      assert.equal(code, 0);
      assert.equal(readFileSync(file("out/x.npy")).toString("base64"), NUMPY_ARRAY["1.0"]);
      assert.equal(readFileSync(file("out/errors.jsonl"), "utf8"), "");
    });
  }

  it("keeps halves bit by bit", async (t) => {
    const { file, dir, predict } = await rig(t, { datatype: "FP16", shape: [-1] });
    const bits = Uint16Array.of(0, 0x8000, 0x3c00, 0x7bff, 1, 0x7c00, 0x7e01);
    writeFileSync(file("in.npy"), npy("<f2", [7], bits));
    assert.equal((await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`)).code, 0);
    assert.deepEqual(readFileSync(file("out/x.npy")).subarray(128), Buffer.from(bits.buffer));
  });

  it("sends BYTES to JSON lines", async (t) => {
    const { file, predict } = await rig(t, { datatype: "BYTES", shape: [-1] });
    writeFileSync(file("in.npy"), npy("|S3", [2], Buffer.from("ab\0xyz")));
    const refused = await predict("--input", `x=${file("in.npy")}`, "--output", file("out.jsonl"));
    assert.deepEqual([refused.code, existsSync(file("out.jsonl"))], [1, false]);
    assert.match(refused.stderr, /input 'x' is BYTES, which \.npy files can't hold: use JSON lines/);
  });

  const three = Float32Array.of(1, 2, 3);
  const REFUSED: readonly (readonly [what: string, bytes: Buffer, complaint: RegExp])[] = [
    ["Fortran order", Buffer.from(NUMPY_FORTRAN, "base64"), /Fortran order; .*ascontiguousarray/],
    ["big-endian numbers", npy(">f4", [1, 3], three), /big-endian \('>f4'\); .*astype\('<f4'\)/],
    ["another type", npy("<f8", [1, 3], new Float64Array(3)), /'<f8'; input 'x' \(FP32\) takes '<f4'/],
    ["another shape", npy("<f4", [3, 1], three), /shape \(3, 1\); input 'x' takes \(rows, 3\)/],
    ["a scalar", Buffer.from(npy("<f4", [], three).toString("latin1").replace("(,)", "() "), "latin1"), /shape \(\)/],
    ["a file that is cut off", npy("<f4", [2, 3], three), /is cut off: it has \d+ bytes of the \d+/],
    ["no .npy file", Buffer.from("PK\x03\x04 and more than that"), /is no \.npy file/],
    ["an unknown version", Buffer.from("\x93NUMPY\x04\x00\x00\x00\x00\x00\x00\x00", "latin1"), /version 4\.0/],
  ];
  it("refuses what it can't read before anything is written", async (t) => {
    const { file, dir, predict } = await rig(t);
    for (const [what, bytes, complaint] of REFUSED) {
      writeFileSync(file("in.npy"), bytes);
      const { code, stderr } = await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`);
      assert.equal(code, 1, what);
      assert.match(stderr, complaint, what);
      assert.ok(!existsSync(file("out")), what);
    }
  });

  it("leaves zeros where rows failed, and tells why", async (t) => {
    const { file, dir, predict } = await rig(t, VECTOR, { behave: failingOn(1) });
    writeFileSync(file("in.npy"), npy("<f4", [3, 3], Float32Array.of(1, 1, 1, 2, 2, 2, 3, 3, 3)));
    assert.equal((await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`)).code, 1);
    const written = new Uint8Array(readFileSync(file("out/x.npy")).subarray(128));
    assert.deepEqual([...new Float32Array(written.buffer)], [0, 0, 0, 2, 2, 2, 3, 3, 3]);
    const error = { code: "INVALID_ARGUMENT", reason: "bad", message: "1 is bad" };
    assert.deepEqual(linesOf(readFileSync(file("out/errors.jsonl"), "utf8")), [{ row: 0, error }]);
  });
});

it("predict writes arrays whose declared shape tells theirs even where no row is answered", async (t) => {
  const { file, dir, predict } = await rig(t, VECTOR, { behave: failingOn(1) });
  for (const values of [[], [1, 1, 1, 1, 1, 1]]) {
    const rows = values.length / 3;
    writeFileSync(file("in.npy"), npy("<f4", [rows, 3], Float32Array.from(values)));
    const { code } = await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`, "--force");
    assert.equal(code, rows === 0 ? 0 : 1);
    const written = readFileSync(file("out/x.npy"));
    assert.match(written.toString("latin1"), new RegExp(`'shape': \\(${rows}, 3\\)`));
    assert.equal(written.length, 128 + rows * 12);
  }
});

it("predict says which arrays it could not write, since nothing told their shape", async (t) => {
  const { file, dir, predict } = await rig(t, { datatype: "FP32", shape: [-1, -1] });
  writeFileSync(file("in.npy"), npy("<f4", [0, 3], new Float32Array()));
  const { code, stderr } = await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`);
  assert.equal(code, 0);
  assert.match(stderr, /not written, since only an answer tells the shape, .*: .*out\/x\.npy \(declared \[-1\]\)\n$/);
});

it("predict resumes arrays of which no row has told the shape", async (t) => {
  const fixed = { name: "a", datatype: "FP32", shape: [-1, 3] };
  const varying = { name: "b", datatype: "FP32", shape: [-1, -1] };
  const x = { name: "x", datatype: "FP32", shape: [-1, 3] };
  const { daemon, file, dir, predict } = await rig(t, VECTOR, {
    models: { m: { name: "m", versions: ["1"], inputs: [x], outputs: [fixed, varying] } },
    behave: () => ({ type: "error", code: "INVALID_ARGUMENT", message: "bad", cause: "bad" }),
  });
  const out = `${dir}/out/`;
  writeFileSync(file("in.npy"), npy("<f4", [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6)));
  const args = ["--input", `x=${file("in.npy")}`, "--output", out];
  assert.equal((await predict(...args)).code, 1);
  assert.deepEqual([existsSync(`${out}a.npy`), existsSync(`${out}b.npy`)], [true, false]);
  daemon.arrivals.length = 0;
  const { stderr } = await predict(...args, "--resume");
  assert.match(stderr, /m: 2 rows \(2 of them before\), 2 failed/);
  // With an answered row among them the array that is missing was lost.
  writeFileSync(`${out}errors.jsonl`, jsonLines([{ row: 0, error: { code: "INTERNAL", reason: null, message: "" } }]));
  assert.match((await predict(...args, "--resume")).stderr, /b\.npy is missing, but 2 rows of other outputs are there/);
});

it("predict refuses to mix what versions with different interfaces answer", async (t) => {
  const wide = [{ name: "x", datatype: "FP32", shape: [-1, -1] }];
  const x = [{ name: "x", datatype: "FP32", shape: [-1, 3] }];
  const { file, predict, results } = await rig(t, VECTOR, {
    models: {
      m: { name: "m", versions: ["1", "2"], inputs: x, outputs: x },
      "m/2": { name: "m", versions: ["1", "2"], inputs: wide, outputs: wide },
    },
    behave: (request) => ({ type: "answer", response: { ...echo(request), model_version: "2" } }),
  });
  writeFileSync(file("in.jsonl"), jsonLines(countedRows(2)));
  const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"));
  assert.equal(code, 1);
  assert.match(stderr, /version 2 of model 'm' answered, but has other inputs, .*: choose one with --version/);
  assert.deepEqual(results(), []);
});

it("predict counts rows as failed whose outputs are of another type than the model declared", async (t) => {
  const { daemon, file, dir, predict, results } = await rig(t, VECTOR, {
    behave: (request) => ({
      type: "answer",
      response: {
        ...echo(request),
        outputs: [{ name: "x", datatype: "FP64", shape: request.inputs[0]!.shape }],
        raw_output_contents: [Buffer.alloc(2 * request.raw_input_contents[0]!.length)],
      },
    }),
  });
  writeFileSync(file("in.jsonl"), jsonLines(countedRows(2)));
  const flags = ["--items-per-request", "2"];
  assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags)).code, 1);
  writeFileSync(file("in.npy"), npy("<f4", [2, 3], new Float32Array(6)));
  assert.equal((await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`, ...flags)).code, 1);
  for (const failed of [results(), linesOf(readFileSync(file("out/errors.jsonl"), "utf8"))]) {
    assert.deepEqual(
      failed.map(({ error }) => [error!.code, error!.reason]),
      Array(2).fill(["FAILED_PRECONDITION", "output_type"]),
    );
    assert.match(failed[0]!.error!.message, /output 'x' of model 'm' is FP64; expected FP32/);
  }
  // Alone they would fare no better.
  assert.equal(daemon.arrivals.length, 2);
});

it("predict counts rows as failed whose outputs do not fit the array of the others", async (t) => {
  const { file, dir, predict } = await rig(t, VECTOR, {
    behave: (request) => {
      if (!valuesOf(request).includes(2)) return { type: "echo" };
      const outputs = [{ name: "x", datatype: "FP32", shape: [1, 1] }];
      return { type: "answer", response: { model_name: "m", outputs, raw_output_contents: [Buffer.alloc(4)] } };
    },
  });
  writeFileSync(file("in.npy"), npy("<f4", [2, 3], Float32Array.of(1, 1, 1, 2, 2, 2)));
  const { code, stderr } = await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`);
  assert.equal(code, 1);
  assert.match(stderr, /m version 1: 2 rows, 1 failed/);
  const [only] = linesOf(readFileSync(file("out/errors.jsonl"), "utf8"));
  assert.deepEqual([only!.row, only!.error!.reason], [1, "output_shape"]);
  assert.match(only!.error!.message, /output 'x' has the shape \[1\]; expected \[3\], as all rows/);
});

describe("predict and what goes wrong", () => {
  for (const code of ["INVALID_ARGUMENT", "INTERNAL"] as const) {
    it(`loses one row to one that gives ${code}`, async (t) => {
      const { daemon, file, predict, results } = await rig(t, VECTOR, { behave: failingOn(13, code) });
      writeFileSync(file("in.jsonl"), jsonLines(countedRows(40)));
      const flags = ["--items-per-request", "8"];
      const ended = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags);
      assert.equal(ended.code, 1);
      const expected: Result[] = answersTo(40);
      expected[13] = { row: 13, id: "r13", error: { code, reason: "bad", message: "13 is bad" } };
      assert.deepEqual(results(), expected);
      // The request of 8 that failed, and its rows one by one.
      assert.equal(daemon.arrivals.length, 5 + 8);
      assert.match(ended.stderr, /m version 1: 40 rows, 1 failed in/);
    });
  }

  it("waits out full queues and models that are not ready", async (t) => {
    const refusals = [
      { type: "error", code: "RESOURCE_EXHAUSTED", message: "full", cause: "queue_items", retryAfterMs: 1 },
      { type: "error", code: "UNAVAILABLE", message: "not ready", cause: "not_ready", retryAfterMs: 1 },
      { type: "error", code: "UNAVAILABLE", message: "unloaded", cause: "unloaded" },
      { type: "error", code: "RESOURCE_EXHAUSTED", message: "unread", cause: "unread_answers" },
    ] as const;
    const { daemon, file, predict, results } = await rig(t, VECTOR, {
      behave: () => refusals[daemon.arrivals.length - 1] ?? { type: "echo" },
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(1)));
    const { code } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"));
    assert.deepEqual([code, daemon.arrivals.length], [0, 5]);
    assert.deepEqual(results(), answersTo(1));
  });

  it("loses one row to one that brings the device down, which it does twice", async (t) => {
    const lost = { type: "error", code: "UNAVAILABLE", message: "the device was lost", cause: "lost" } as const;
    let crashes = 0;
    const { daemon, file, predict, results } = await rig(t, VECTOR, {
      behave: (request) => {
        const values = valuesOf(request);
        if (values.includes(9)) crashes++;
        // The request after it shares its batch on the device, the first time.
        return values.includes(9) || (values.length > 3 && values.includes(12)) ? lost : { type: "echo" };
      },
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(24)));
    const flags = ["--items-per-request", "4", "--outstanding", "12"];
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags)).code, 1);
    const expected: Result[] = answersTo(24);
    expected[9] = { row: 9, id: "r9", error: { code: "UNAVAILABLE", reason: "lost", message: "the device was lost" } };
    assert.deepEqual(results(), expected);
    assert.equal(crashes, 2);
    // Both requests that were lost, row by row.
    assert.equal(daemon.arrivals.filter(({ request }) => itemsOf(request) === 1).length, 8);
  });

  // The second is what a daemon with `errors: triton` answers.
  for (const code of ["RESOURCE_EXHAUSTED", "UNAVAILABLE"] as const) {
    it(`does not try again what is more than a queue may ever hold (${code})`, async (t) => {
      let refusals = 0;
      const { file, predict, results } = await rig(t, VECTOR, {
        behave: (request) =>
          itemsOf(request) > 1 && refusals++ < 6
            ? { type: "error", code, message: "more than may wait", cause: "queue_items" }
            : { type: "echo" },
      });
      writeFileSync(file("in.jsonl"), jsonLines(countedRows(4)));
      const flags = ["--items-per-request", "2"];
      assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags)).code, 0);
      assert.deepEqual(results(), answersTo(4));
      assert.equal(refusals, 2);
    });
  }

  it("ends with what it fails of although a pipe that it reads from is silent", async (t) => {
    const { file, predict } = await rig(t);
    execFileSync("mkfifo", [file("in.jsonl")]);
    const writer = spawn("sh", ["-c", `exec 3>"${file("in.jsonl")}"; cat "${file("rows")}" >&3; exec sleep 600`]);
    t.after(() => writer.kill());
    writeFileSync(file("rows"), jsonLines(countedRows(3)));
    const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", "/dev/full", "--force");
    assert.equal(code, 1);
    assert.match(stderr, /ENOSPC/);
  });

  it("does not try a message again that is too large whenever it comes", async (t) => {
    const { file, predict, results } = await rig(t, VECTOR, {
      behave: () => ({ type: "error", code: "RESOURCE_EXHAUSTED", message: "too large", cause: "inflight_bytes" }),
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(1)));
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"))).code, 1);
    assert.equal(results()[0]!.error!.code, "RESOURCE_EXHAUSTED");
  });

  it("gives a request up after the time it is given", async (t) => {
    const { file, predict, results } = await rig(t, VECTOR, { behave: () => ({ type: "hold" }) });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(2)));
    const flags = ["--timeout-ms", "1", "--items-per-request", "2"];
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags)).code, 1);
    assert.deepEqual(
      results().map(({ error }) => error!.code),
      ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"],
    );
  });

  it("stops where no row can succeed, and goes on from there", async (t) => {
    const { daemon, file, predict, results } = await rig(t, VECTOR, {
      behave: (request) =>
        valuesOf(request).includes(5)
          ? { type: "error", code: "NOT_FOUND", message: "unknown model: 'm'", cause: "not_found" }
          : { type: "echo" },
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(20)));
    const args = ["--input", file("in.jsonl"), "--output", file("out.jsonl"), "--items-per-request", "2"];
    const stopped = await predict(...args);
    assert.equal(stopped.code, 1);
    assert.match(
      stopped.stderr,
      /m version 1: 4 rows in .* then the run failed; with N a version that is served, .* --resume --version N goes/,
    );
    assert.match(
      stopped.stderr,
      /version 1 of model 'm', which answered the rows before, is not served any more \(unknown model: 'm'\)/,
    );
    assert.deepEqual(results(), answersTo(4));

    daemon.behave = () => ({ type: "echo" });
    daemon.arrivals.length = 0;
    const resumed = await predict(...args, "--resume");
    assert.equal(resumed.code, 0);
    assert.equal(daemon.arrivals[0]!.request.model_version, "1");
    assert.match(resumed.stderr, /^m version 1: 20 rows \(4 of them before\) in/);
    assert.deepEqual(results(), answersTo(20));
  });

  it("writes nothing where there is no daemon", async (t) => {
    const { daemon, file, predict } = await rig(t);
    daemon.kill();
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(1)));
    const flags = ["--connect-timeout-ms", "50"];
    const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...flags);
    assert.equal(code, 1);
    assert.match(stderr, /^slackline-client: no daemon was reached at .* within 50 ms/);
    assert.ok(!existsSync(file("out.jsonl")));
  });

  it("refuses output that is there, unless told what to do with it", async (t) => {
    const { dir, file, predict, results } = await rig(t);
    writeFiles(dir, { "in.jsonl": jsonLines(countedRows(1)), "out.jsonl": "mine\n", "out/x.npy": "mine" });
    writeFileSync(file("in.npy"), npy("<f4", [1, 3], three()));
    for (const args of [
      ["--input", file("in.jsonl"), "--output", file("out.jsonl")],
      ["--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`],
    ]) {
      const refused = await predict(...args);
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /exists already: --resume goes on with it, --force overwrites it\n$/);
      const strange = await predict(...args, "--resume");
      assert.equal(strange.code, 1);
      assert.match(strange.stderr, /out\.jsonl is not what predict writes|is no \.npy file/);
      assert.equal((await predict(...args, "--force")).code, 0);
    }
    assert.deepEqual(results(), answersTo(1));
    assert.equal(readFileSync(file("out/x.npy")).length, 128 + 12);
  });

  it("never overwrites its input, whatever its name", async (t) => {
    const { dir, file, predict } = await rig(t);
    const text = jsonLines(countedRows(1));
    writeFileSync(file("in.jsonl"), text);
    symlinkSync("in.jsonl", file("symbolic"));
    linkSync(file("in.jsonl"), file("hard"));
    for (const output of ["in.jsonl", "symbolic", "hard"]) {
      const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", file(output), "--force");
      assert.deepEqual([code, readFileSync(file("in.jsonl"), "utf8")], [1, text]);
      assert.match(stderr, /is input and output/);
    }
    mkdirSync(file("out"));
    const array = npy("<f4", [1, 3], three());
    writeFileSync(file("out/x.npy"), array);
    symlinkSync("out/x.npy", file("in.npy"));
    const { code } = await predict("--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`, "--force");
    assert.deepEqual([code, readFileSync(file("out/x.npy"))], [1, array]);
  });

  it("says what is wrong with files before it writes any", async (t) => {
    const { dir, file, predict } = await rig(t);
    mkdirSync(file("folder"));
    mkdirSync(file("folder.npy"));
    execFileSync("mkfifo", [file("pipe.npy")]);
    writeFileSync(file("in.jsonl"), "");
    for (const [input, output, complaint] of [
      [file("folder"), file("out"), /--input .*folder is a folder; expected a file of JSON lines/],
      [`x=${file("folder.npy")}`, `${dir}/out/`, /folder\.npy is no regular file; expected a \.npy file/],
      [`x=${file("pipe.npy")}`, `${dir}/out/`, /pipe\.npy is no regular file; expected a \.npy file/],
      [file("in.jsonl"), file("folder"), /--output .*folder is a folder: name a file .* or end it with a slash/],
    ] as const) {
      const { code, stderr } = await predict("--input", input, "--output", output);
      assert.equal(code, 1);
      assert.match(stderr, complaint);
      assert.ok(!existsSync(file("out")));
    }
  });

  it("ends where the output takes no more", async (t) => {
    const { file, predict } = await rig(t);
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(20)));
    const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", "/dev/full", "--force");
    assert.equal(code, 1);
    assert.match(stderr, /ENOSPC/);
  });

  it("waits for a model that is being loaded", async (t) => {
    let asked = 0;
    const x = { name: "x", datatype: "FP32", shape: [-1, 3] };
    const m = { name: "m", versions: ["1"], inputs: [x], outputs: [x] };
    const loading = new Metadata();
    loading.set("slackline_code", "UNAVAILABLE");
    loading.set("slackline_cause", "not_ready");
    loading.set("slackline_retry_after_ms", "1");
    const models = {
      get m() {
        if (asked++ > 0) return m;
        throw Object.assign(new Error(), { code: status.UNAVAILABLE, details: "it is loading", metadata: loading });
      },
    };
    const { file, predict, results } = await rig(t, VECTOR, { models });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(1)));
    assert.equal((await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"))).code, 0);
    assert.deepEqual(results(), answersTo(1));
  });

  const USAGE: readonly (readonly [args: readonly string[], complaint: RegExp])[] = [
    [[], /needs --target, --input and --output/],
    [["--input", "a.jsonl", "--input", "b.jsonl", "--output", "o"], /one file of JSON lines/],
    [["--input", "a.npy", "--output", "o"], /which input is it\? Say NAME=a\.npy/],
    [["--input", "x=a.npz", "--output", "o/"], /a \.npz file packs several arrays/],
    [["--input", "a.NPY", "--output", "o"], /which input is it\? Say NAME=a\.NPY/],
    [["--input", "x=a.npy", "--input", "b.jsonl", "--output", "o"], /either JSON lines or \.npy/],
    [["--input", "a.jsonl", "--output", "o/"], /a folder of arrays, which needs an input of \.npy files/],
    [["--input", "x=a.npy", "--output", "o.npy"], /name it with a slash/],
    [["--input", "a.jsonl", "--output", "o", "--resume", "--force"], /exclude each other/],
    [["--input", "a.jsonl", "--output", "-", "--resume"], /--resume needs an output in a file/],
    [["--input", "a.jsonl", "--output", "o", "--outputs", ","], /--outputs names none/],
    [["--input", "a.jsonl", "--output", "o", "--outstanding", "0"], /--outstanding must be a whole number >= 1/],
    [["--input", "a.jsonl", "--output", "o", "--timeout-ms", "x"], /--timeout-ms must be a number > 0/],
    [["--input", "a.jsonl", "--output", "o", "--nonesuch"], /nonesuch/],
    [["n", "--input", "a.jsonl", "--output", "o"], /the name of one model/],
  ];
  it("explains wrong command lines, and what the model has not", async (t) => {
    const { file, predict } = await rig(t);
    for (const [args, complaint] of USAGE) {
      const { code, stderr } = await predict(...args);
      assert.equal(code, 2, args.join(" "));
      assert.match(stderr, complaint);
      assert.match(stderr, /Usage: slackline-client predict/);
    }
    writeFileSync(file("in.jsonl"), "");
    for (const [args, complaint] of [
      [["--outputs", "x,y"], /has no output 'y' \(--outputs\); it has 'x'/],
      [["--items-per-request", "9"], /--items-per-request is 9, but model 'm' takes 8 items at most/],
    ] as const) {
      const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), ...args);
      assert.equal(code, 1);
      assert.match(stderr, complaint);
      assert.ok(!existsSync(file("out.jsonl")));
    }
  });
});

const three = () => Float32Array.of(1, 2, 3);

describe("predict --resume", () => {
  it("cuts off a torn line and goes on after the last whole one", async (t) => {
    const { daemon, file, predict, results } = await rig(t, VECTOR, { behave: failingOn(2) });
    writeFileSync(file("in.jsonl"), `\n${jsonLines(countedRows(10))}`);
    const args = ["--input", file("in.jsonl"), "--output", file("out.jsonl"), "--items-per-request", "1"];
    await predict(...args);
    const whole = readFileSync(file("out.jsonl"), "utf8");
    // Within row 6.
    truncateSync(file("out.jsonl"), whole.indexOf('"r6"') + 9);
    daemon.arrivals.length = 0;
    const { code, stderr } = await predict(...args, "--resume");
    // Row 2 failed in the run before.
    assert.equal(code, 1);
    assert.match(stderr, /^m version 1: 10 rows \(6 of them before\), 1 failed in/);
    assert.equal(daemon.arrivals.length, 4);
    assert.equal(readFileSync(file("out.jsonl"), "utf8"), whole);
    assert.equal(results().length, 10);
  });

  it("does not touch a file that is no result although its only line has no end", async (t) => {
    const { file, predict } = await rig(t);
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(1)));
    const precious = '{"my": "settings"}';
    writeFileSync(file("out.jsonl"), precious);
    const { code, stderr } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), "--resume");
    assert.equal(code, 1);
    assert.match(stderr, /line 1 of .*out\.jsonl is not what predict writes there/);
    assert.equal(readFileSync(file("out.jsonl"), "utf8"), precious);
  });

  it("goes on by the version that answered before, whatever the model's next one takes", async (t) => {
    const old = [{ name: "x", datatype: "FP32", shape: [-1, 3] }];
    const other = [{ name: "y", datatype: "FP32", shape: [-1, 5] }];
    const { daemon, file, predict, results } = await rig(t, VECTOR, {
      models: {
        m: { name: "m", versions: ["1", "2"], inputs: other, outputs: other },
        "m/1": { name: "m", versions: ["1", "2"], inputs: old, outputs: old },
      },
    });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(4)));
    writeFileSync(file("out.jsonl"), jsonLines(answersTo(2)));
    const { code } = await predict("--input", file("in.jsonl"), "--output", file("out.jsonl"), "--resume");
    assert.equal(code, 0);
    assert.deepEqual(results(), answersTo(4));
    assert.ok(daemon.arrivals.every(({ request }) => request.model_version === "1"));
  });

  it("notices another input", async (t) => {
    const { file, predict } = await rig(t);
    const args = ["--input", file("in.jsonl"), "--output", file("out.jsonl")];
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(3)));
    await predict(...args);
    const whole = readFileSync(file("out.jsonl"), "utf8");
    for (const [rows, complaint] of [
      [countedRows(2), /has 2 rows, but the output 3 already/],
      [countedRows(5).slice(1), /row 2 of .* has the id "r3", but "r2" in the output/],
    ] as const) {
      writeFileSync(file("in.jsonl"), jsonLines(rows));
      const { code, stderr } = await predict(...args, "--resume");
      assert.equal(code, 1);
      assert.match(stderr, complaint);
      assert.equal(readFileSync(file("out.jsonl"), "utf8"), whole);
    }
  });

  it("goes on after SIGINT", async (t) => {
    const { daemon, dir, file, predict } = await rig(t, VECTOR, { behave: holdingAllBut(0) });
    writeFileSync(file("in.jsonl"), jsonLines(countedRows(6)));
    writeFileSync(file("in.npy"), npy("<f4", [2, 3], Float32Array.of(0, 0, 0, 1, 1, 1)));
    for (const [args, hint] of [
      [["--input", file("in.jsonl"), "--output", file("out.jsonl")], "--resume"],
      [["--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`], "--resume --version 1"],
    ] as const) {
      daemon.behave = holdingAllBut(0);
      const ended = predict(...args, "--items-per-request", "1");
      await daemon.until(() => daemon.held > 0);
      process.emit("SIGINT", "SIGINT");
      const { code, stderr } = await ended;
      assert.equal(code, 130);
      assert.match(stderr, /m version 1: 1 row in .* then stopped by SIGINT; the same command with/);
      assert.ok(stderr.endsWith(`with ${hint} goes on from there\n`));
      daemon.release();
      daemon.behave = () => ({ type: "echo" });
      assert.equal((await predict(...args, "--resume")).code, 0);
    }
    assert.deepEqual(linesOf(readFileSync(file("out.jsonl"), "utf8")), answersTo(6));
    assert.equal(readFileSync(file("out/x.npy")).readFloatLE(128 + 20), 1);
  });

  it("notices other outputs", async (t) => {
    const tensors = ["x", "y"].map((name) => ({ name, datatype: "FP32", shape: [-1, 3] }));
    const models = { m: { name: "m", versions: ["1"], inputs: tensors, outputs: tensors } };
    const { dir, file, predict } = await rig(t, VECTOR, { models });
    writeFileSync(file("in.jsonl"), jsonLines([{ inputs: { x: [1, 2, 3], y: [4, 5, 6] } }]));
    writeFileSync(file("in.npy"), npy("<f4", [1, 3], three()));
    const lines = ["--input", file("in.jsonl"), "--output", file("out.jsonl")];
    const arrays = ["--input", `x=${file("in.npy")}`, "--input", `y=${file("in.npy")}`, "--output", `${dir}/out/`];
    for (const args of [lines, arrays]) assert.equal((await predict(...args)).code, 0);
    rmSync(file("out/y.npy"));
    for (const [args, output, complaint] of [
      [[...lines, "--outputs", "x"], "out.jsonl", /line 1 of .* has the outputs x, y, but x are to be written/],
      [
        arrays,
        "out/x.npy",
        /out\/y\.npy is missing, but 1 rows of other outputs are there: choose those with --outputs/,
      ],
    ] as const) {
      const whole = readFileSync(file(output));
      const { code, stderr } = await predict(...args, "--resume");
      assert.equal(code, 1);
      assert.match(stderr, complaint);
      assert.deepEqual(readFileSync(file(output)), whole);
    }
  });

  it("goes on with arrays, wherever they were cut off", async (t) => {
    const behave = failingOn(1);
    const { daemon, dir, file, predict } = await rig(t, VECTOR, { behave });
    const numbers = [1, 2, 3, 1, 5, 6, 7, 1];
    writeFileSync(file("in.npy"), npy("<f4", [8, 3], Float32Array.from(numbers.flatMap((n) => [n, n, n]))));
    const args = ["--input", `x=${file("in.npy")}`, "--output", `${dir}/out/`, "--items-per-request", "1"];
    await predict(...args);
    const whole = readFileSync(file("out/x.npy"));
    const errors = readFileSync(file("out/errors.jsonl"), "utf8");
    assert.deepEqual(
      linesOf(errors).map(({ row }) => row),
      [0, 3, 7],
    );

    // A row and a half are missing; then all is.
    for (const [bytes, left, before] of [
      [whole.length - 18, errors, 6],
      [128 + 3 * 12 + 5, errors, 3],
      [128, errors.slice(0, errors.indexOf("\n") + 1), 0],
      [0, "", 0],
    ] as const) {
      writeFileSync(file("out/x.npy"), whole.subarray(0, bytes));
      writeFileSync(file("out/errors.jsonl"), left);
      daemon.arrivals.length = 0;
      assert.equal((await predict(...args, "--resume")).code, 1);
      assert.equal(daemon.arrivals.length, 8 - before);
      assert.deepEqual(readFileSync(file("out/x.npy")), whole);
      assert.equal(readFileSync(file("out/errors.jsonl"), "utf8"), errors);
    }
    writeFileSync(file("in.npy"), npy("<f4", [1, 3], three()));
    const { code, stderr } = await predict(...args, "--resume");
    assert.equal(code, 1);
    assert.match(
      stderr,
      /x\.npy holds '<f4' of shape \(8, 3\); expected '<f4' of shape \(1, 3\): that is another run's output/,
    );
  });
});

describe("predict as a process", () => {
  /** From its standard input to its standard output. */
  function started(t: TestContext, daemon: FakeDaemon) {
    const launcher = path.join(PACKAGE_ROOT, "bin", "slackline.mjs");
    const child = spawn(process.execPath, [
      ...[launcher, "predict", "m", "--target", daemon.target, "--input", "-", "--output", "-"],
    ]);
    t.after(() => child.kill("SIGKILL"));
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      stderr += text;
    });
    // Its standard output may never be read to the end.
    const ended = Promise.all([once(child, "exit"), once(child.stderr, "close")]).then(([[code]]) => ({
      code,
      stderr,
    }));
    return { child, ended };
  }

  it("passes rows through as they come, and stops when told", async (t) => {
    const { daemon } = await rig(t);
    const { child, ended } = started(t, daemon);
    const rows = countedRows(2);
    for (const [n, row] of rows.entries()) {
      // Answered while the input is still open.
      child.stdin.write(jsonLines([row]));
      const [line] = linesOf(String(await new Promise((resolve) => child.stdout.once("data", resolve))));
      assert.deepEqual(line, answersTo(2)[n]);
    }
    child.kill("SIGTERM");
    const { code, stderr } = await ended;
    assert.equal(code, 143);
    assert.match(stderr, /^m version 1: 2 rows in .* then stopped by SIGTERM\n$/);
  });

  it("stops when told although nobody reads its output", async (t) => {
    const { daemon } = await rig(t, { datatype: "BYTES", shape: [-1] });
    const { child, ended } = started(t, daemon);
    const reached = new Promise((resolve) => child.stdout.once("readable", resolve));
    child.stdin.write(jsonLines([{ inputs: { x: "x".repeat(4 * 2 ** 20) } }]));
    // The first of it is there; the rest is more than pipes hold.
    await reached;
    child.kill("SIGTERM");
    const { code, stderr } = await ended;
    assert.equal(code, 143);
    assert.match(stderr, /^m: 0 rows in .* then stopped by SIGTERM\n$/);
  });

  it("ends when its output is closed", async (t) => {
    const { daemon } = await rig(t);
    const { child, ended } = started(t, daemon);
    child.stdout.destroy();
    child.stdin.write(jsonLines(countedRows(1)));
    const { code, stderr } = await ended;
    assert.equal(code, 1);
    assert.match(stderr, /EPIPE/);
  });
});
