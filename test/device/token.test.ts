import assert from "node:assert/strict";
import { once } from "node:events";
import path from "node:path";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { createToken, ExecutionToken } from "../../daemon/device/token.ts";

/** For threads to import. */
const url = new URL(`../../daemon/device/token${path.extname(import.meta.filename)}`, import.meta.url).href;

describe("execution token", () => {
  it("lets one turn at a time run within a thread, serving before warming up", async () => {
    const token = new ExecutionToken(createToken());
    const order: string[] = [];
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const turn = (name: string, kind: "serve" | "warm-up", wait: Promise<void>): Promise<void> =>
      token.hold(kind, async () => {
        order.push(`${name} begins`);
        await wait;
        order.push(`${name} ends`);
      });
    const turns = [
      turn("first", "warm-up", gate),
      turn("warm-up", "warm-up", Promise.resolve()),
      turn("serve", "serve", Promise.resolve()),
    ];
    open();
    await Promise.all(turns);
    const names = ["first", "serve", "warm-up"];
    assert.deepEqual(
      order,
      names.flatMap((name) => [`${name} begins`, `${name} ends`]),
    );
  });

  it("passes on after a turn that fails", async () => {
    const token = new ExecutionToken(createToken());
    await assert.rejects(
      token.hold("serve", async () => {
        throw new Error("broken");
      }),
      /broken/,
    );
    assert.equal(await token.hold("warm-up", async () => 5), 5);
  });

  it("lets one thread at a time execute", async () => {
    const token = createToken();
    // Two words that are always equal outside of a turn; a turn that sees them differ ran beside another.
    const shared = new SharedArrayBuffer(12);
    const source = `
      const { workerData } = require("node:worker_threads");
      (async () => {
        const { ExecutionToken } = await import(workerData.url);
        const token = new ExecutionToken(workerData.token);
        const words = new Int32Array(workerData.shared);
        for (let turn = 0; turn < 3000; turn++) {
          await token.hold(turn % 3 === 0 ? "warm-up" : "serve", async () => {
            if (words[0] !== words[1]) words[2]++;
            words[0]++;
            if (turn % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
            words[1]++;
          });
        }
      })();
    `;
    const workers = [1, 2, 3].map(() => new Worker(source, { eval: true, workerData: { token, shared, url } }));
    await Promise.all(workers.map((worker) => once(worker, "exit")));
    assert.deepEqual([...new Int32Array(shared)], [9000, 9000, 0]);
  });

  it("gives turns to threads in the order in which they asked", async () => {
    const cells = createToken();
    const token = new ExecutionToken(cells);
    const order = new Int32Array(new SharedArrayBuffer(12));
    const source = `
      const { workerData } = require("node:worker_threads");
      (async () => {
        const { ExecutionToken } = await import(workerData.url);
        await new ExecutionToken(workerData.cells).hold("serve", async () => {
          workerData.order[1 + Atomics.add(workerData.order, 0, 1)] = 1;
        });
      })();
    `;
    const worker = new Worker(source, { eval: true, workerData: { cells, order, url } });
    const exit = once(worker, "exit");
    await token.hold("serve", async () => {
      // Turns are counted in the first word: one is this thread's.
      while (new Int32Array(cells)[0]! < 2) await new Promise((resolve) => setImmediate(resolve));
    });
    // This thread runs while the other one has yet to wake up.
    await token.hold("serve", async () => {
      order[1 + Atomics.add(order, 0, 1)] = 2;
    });
    await exit;
    assert.deepEqual([...order], [2, 1, 2]);
  });
});
