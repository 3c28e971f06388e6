/** What `slackline-client predict` keeps under way, and how it writes: against sources, answers and sinks that tests hold in hand. */
import assert from "node:assert/strict";
import path from "node:path";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import type { Tensor } from "slackline-client";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";

interface Row {
  readonly row: number;
  readonly inputs?: ReadonlyMap<string, Tensor>;
  readonly outputs?: Readonly<Record<string, Tensor>>;
  readonly error?: { readonly code: string; readonly reason: string; readonly message: string };
}

const compiled = (file: string): Promise<unknown> =>
  import(pathToFileURL(path.join(PACKAGE_ROOT, "client", "dist", "predict", file)).href);
const { run } = (await compiled("run.js")) as { run(options: object): Promise<void> };
const { writeLines } = (await compiled("json-output.js")) as {
  writeLines(rows: readonly Row[], write: (text: string) => Promise<void>): Promise<number>;
};

const MIB = 2 ** 20;
const tensorOf = (bytes: number): Tensor => ({ datatype: "UINT8", shape: [bytes], data: new Uint8Array(bytes) });
const readRow = (row: number, x: Tensor): Row => ({ row, inputs: new Map([["x", x]]) });
const failedRow = (row: number): Row => ({ row, error: { code: "INVALID_ARGUMENT", reason: "input", message: "bad" } });

/** A run over rows by what is read together; `answer` answers with the inputs. */
function rig(pieces: readonly (readonly Row[])[], itemsPerRequest: number) {
  const requests: (readonly Row[])[] = [];
  const writes: (readonly Row[])[] = [];
  const held: (() => void)[] = [];
  let released = false;
  let allRead = false;
  const settled = new Promise<void>((resolve) => setImmediate(resolve));
  const ended = run({
    source: {
      async *read() {
        for (const piece of pieces) yield piece;
        allRead = true;
      },
    },
    sink: {
      before: {},
      write: async (rows: readonly Row[]) => {
        writes.push(rows);
        return 0;
      },
    },
    answer: async (batch: readonly Row[]) => {
      requests.push(batch);
      // The first is answered at once.
      if (requests.length > 1 && !released) await new Promise<void>((resolve) => held.push(resolve));
      return batch.map(({ row, inputs }) => ({ row, outputs: Object.fromEntries(inputs!) }));
    },
    itemsPerRequest,
    outstandingItems: 100,
    signal: new AbortController().signal,
    written: () => {},
  });
  return {
    requests,
    writes,
    ended,
    /** Whether the source was read to its end; all that can go on has gone on. */
    async allRead() {
      await settled;
      return allRead;
    },
    release() {
      released = true;
      for (const resolve of held.splice(0)) resolve();
    },
  };
}

describe("a run", () => {
  it("keeps no more than 64 MiB of inputs and outputs under way", async () => {
    const x = tensorOf(8 * MIB);
    const rows = Array.from({ length: 10 }, (_, row) => readRow(row, x));
    const { requests, ended, allRead, release } = rig([rows], 1);
    assert.equal(await allRead(), false);
    // The first, which told the outputs' size, and four of 8 MiB each way.
    assert.equal(requests.length, 1 + 4);
    release();
    await ended;
    assert.equal(requests.length, 10);
  });

  it("sends rows that were read one by one together while others are under way", async () => {
    const x = tensorOf(1);
    const { requests, writes, ended, allRead, release } = rig(
      Array.from({ length: 12 }, (_, row) => [readRow(row, x)]),
      4,
    );
    assert.equal(await allRead(), true);
    release();
    await ended;
    assert.deepEqual(
      requests.map((rows) => rows.length),
      [1, 1, 4, 4, 2],
    );
    assert.deepEqual(
      writes.flat().map(({ row }) => row),
      Array.from({ length: 12 }, (_, row) => row),
    );
  });

  it("cuts a request of large rows", async () => {
    const x = tensorOf(5 * MIB);
    const rows = Array.from({ length: 5 }, (_, row) => readRow(row, x));
    const { requests, ended, allRead, release } = rig([rows.slice(0, 1), rows.slice(1)], 8);
    await allRead();
    release();
    await ended;
    assert.deepEqual(
      requests.map((batch) => batch.length),
      [1, 1, 1, 1, 1],
    );
  });

  it("writes rows together that failed before they were sent", async () => {
    const { writes, ended } = rig([Array.from({ length: 2_000 }, (_, row) => failedRow(row))], 1);
    await ended;
    assert.deepEqual(
      writes.map((rows) => rows.length),
      [1024, 976],
    );
  });
});

describe("result lines", () => {
  const row = (n: number, bytes: Uint8Array): Row => ({
    row: n,
    outputs: { x: { datatype: "BYTES", shape: [], data: [bytes] } },
  });

  it("are written in pieces, and one that is longer than any that is read again fails alone", async () => {
    const text = Buffer.alloc(MIB, "a");
    // In JSON each of these takes 6 characters.
    const long = Buffer.alloc(45 * MIB, 1);
    const written: string[] = [];
    const failed = await writeLines([row(0, text), row(1, text), row(2, long), row(3, Buffer.of())], async (piece) => {
      written.push(piece);
    });
    assert.equal(failed, 1);
    assert.deepEqual(
      written.map((piece) => piece.split("\n").length - 1),
      [1, 1, 2],
    );
    const [third, fourth] = written[2]!.split("\n").map((line) => (line === "" ? null : JSON.parse(line)));
    assert.deepEqual([third.row, third.error.code, third.error.reason], [2, "RESOURCE_EXHAUSTED", "line_bytes"]);
    assert.match(third.error.message, /more than the 268435456 bytes that a line may have/);
    assert.deepEqual(fourth, { row: 3, outputs: { x: "" } });
  });
});
