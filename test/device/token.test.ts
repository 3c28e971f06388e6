import assert from "node:assert/strict";
import { once } from "node:events";
import path from "node:path";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { createToken, ExecutionToken } from "../../daemon/device/token.ts";

/** For threads to import. */
const url = new URL(`../../daemon/device/token${path.extname(import.meta.filename)}`, import.meta.url).href;

interface Turns {
  readonly order: string[];
  turn(name: string, wait?: Promise<void>): () => Promise<void>;
}

function recordedTurns(): Turns {
  const order: string[] = [];
  return {
    order,
    turn: (name, wait) => async () => {
      order.push(`${name} begins`);
      await wait;
      order.push(`${name} ends`);
    },
  };
}

describe("execution token", () => {
  it("lets one turn at a time run within a thread, batches before trial runs", async () => {
    const token = new ExecutionToken(createToken());
    const { order, turn } = recordedTurns();
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const turns = [
      token.trialTurn(turn("first", gate)),
      token.trialTurn(turn("trial")),
      token.batchTurn(0)(turn("batch")),
    ];
    open();
    await Promise.all(turns);
    const names = ["first", "batch", "trial"];
    assert.deepEqual(
      order,
      names.flatMap((name) => [`${name} begins`, `${name} ends`]),
    );
  });

  it("passes on after a turn that fails", async () => {
    const token = new ExecutionToken(createToken());
    const failing = token.batchTurn(0)(async () => {
      throw new Error("broken");
    });
    await assert.rejects(failing, /broken/);
    assert.equal(await token.batchTurn(1)(async () => 4), 4);
    assert.equal(await token.trialTurn(async () => 5), 5);
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
          const inTurn = turn % 3 === 0 ? token.trialTurn : token.batchTurn(workerData.batch);
          if (turn % 3 !== 0) workerData.batch += 3;
          await inTurn(async () => {
            if (words[0] !== words[1]) words[2]++;
            words[0]++;
            if (turn % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
            words[1]++;
          });
        }
      })();
    `;
    const workers = [0, 1, 2].map(
      (batch) => new Worker(source, { eval: true, workerData: { token, shared, url, batch } }),
    );
    await Promise.all(workers.map((worker) => once(worker, "exit")));
    assert.deepEqual([...new Int32Array(shared)], [9000, 9000, 0]);
  });

  it("executes batches in the order of their numbers, whichever of their threads wakes up first", async () => {
    const cells = createToken();
    const order = new Int32Array(new SharedArrayBuffer(12));
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      (async () => {
        const { ExecutionToken } = await import(workerData.url);
        const token = new ExecutionToken(workerData.cells);
        parentPort.postMessage("awake");
        await token.batchTurn(1)(async () => {
          workerData.order[1 + Atomics.add(workerData.order, 0, 1)] = 1;
        });
      })();
    `;
    const worker = new Worker(source, { eval: true, workerData: { cells, order, url } });
    const exit = once(worker, "exit");
    // Its thread is awake first, and this one only now hears of the batch before.
    await once(worker, "message");
    await new ExecutionToken(cells).batchTurn(0)(async () => {
      order[1 + Atomics.add(order, 0, 1)] = 2;
    });
    await exit;
    assert.deepEqual([...order], [2, 2, 1]);
  });

  it("lets trial runs go on where the batch that is next is not known to its thread yet", async () => {
    const cells = createToken();
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      (async () => {
        const { ExecutionToken } = await import(workerData.url);
        const token = new ExecutionToken(workerData.cells);
        parentPort.postMessage("awake");
        await token.batchTurn(1)(async () => {});
      })();
    `;
    const worker = new Worker(source, { eval: true, workerData: { cells, url } });
    const exit = once(worker, "exit");
    await once(worker, "message");
    const token = new ExecutionToken(cells);
    assert.equal(await token.trialTurn(async () => "trial"), "trial");
    await token.batchTurn(0)(async () => {});
    await exit;
  });
});
