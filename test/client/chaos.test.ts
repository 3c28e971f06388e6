import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SlacklineClient, SlacklineError, tensor } from "slackline-client";
import type { ModelConfig } from "../../proto/generated/inference/ModelConfig.ts";
import { type Behaviour, FakeDaemon } from "./fake-daemon.ts";
import { FakeRegions } from "./fake-regions.ts";

/** Deterministic numbers in 0..1. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Elements of each input of the model whose output sizes are known. */
const FIXED = 4_096;

function config(model: string): ModelConfig {
  const output = [{ name: "x", data_type: "TYPE_INT32" as const, dims: [FIXED] }];
  return { name: model, max_batch_size: 8, ...(model === "fixed" ? { output } : {}) };
}

const REQUESTS = 600;
const SHED = { type: "error", code: "RESOURCE_EXHAUSTED", message: "full", cause: "queue_items" } as const;
const BREAKS = ["UNAVAILABLE", "CANCELLED"] as const;

for (const transport of ["stream", "unary"] as const) {
  describe(`with daemons that shed, break, stall, die and return, over ${transport}`, { timeout: 60_000 }, () => {
    it("every request ends once, with its own answer or an error that it may have", async (t) => {
      const seed = Math.floor(Math.random() * 2 ** 32);
      t.diagnostic(`seed ${seed}`);
      const next = random(seed);
      const behave = (): Behaviour => {
        const dice = next();
        if (dice < 0.1) return SHED;
        if (dice < 0.12) return { type: "break", code: BREAKS[Math.floor(next() * BREAKS.length)]! };
        if (dice < 0.3) return { type: "hold" };
        return { type: "echo" };
      };
      const allRegions: FakeRegions[] = [];
      /** With regions of its own: a daemon that returns knows none of those before. */
      const start = (port = 0): Promise<FakeDaemon> => {
        const regions = new FakeRegions();
        allRegions.push(regions);
        return FakeDaemon.start({ port, behave, regions, config });
      };
      const daemons = [await start(), await start()];
      const client = new SlacklineClient({ targets: daemons.map(({ target }) => target), transport });
      const codes = new Map<string, number>();
      const ends: Promise<void>[] = [];
      try {
        for (let i = 0; i < REQUESTS; i++) {
          const controller = new AbortController();
          // Small ones, large ones, and large ones whose outputs have a known size too.
          const model = i % 3 === 0 ? "fixed" : "m";
          const length = model === "fixed" ? FIXED : next() < 0.5 ? 1 : 1 + Math.floor(next() * 100_000);
          const value = tensor.int32([1, length], new Int32Array(length).fill(i));
          ends.push(
            client.infer(model, { x: value }, { deadlineMs: 40_000, signal: controller.signal }).then(
              (result) => {
                const { data } = result.output("x", "INT32");
                assert.equal(data.length, length);
                assert.ok(
                  data.every((element) => element === i),
                  `request ${i} got another's data`,
                );
                codes.set("OK", (codes.get("OK") ?? 0) + 1);
              },
              (error: unknown) => {
                assert.ok(error instanceof SlacklineError, String(error));
                assert.ok(["RESOURCE_EXHAUSTED", "CANCELLED"].includes(error.code), `${error.code}: ${error.message}`);
                codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
              },
            ),
          );
          if (next() < 0.05) controller.abort();
          if (next() < 0.1) await new Promise((resolve) => setImmediate(resolve));
          if (next() < 0.02) daemons[Math.floor(next() * 2)]!.breakStreams(next() < 0.5 ? "OK" : "UNAVAILABLE");
          if (next() < 0.01) {
            const index = Math.floor(next() * 2);
            const { port } = daemons[index]!;
            daemons[index]!.kill();
            daemons[index] = await start(port);
          }
          if (next() < 0.1) for (const daemon of daemons) daemon.release();
        }
        let ended = false;
        const all = Promise.all(ends).then(() => {
          ended = true;
        });
        // What is held is let go again and again, until nothing is left to hold.
        while (!ended) {
          for (const daemon of daemons) daemon.release();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        await all;
        assert.equal(
          [...codes.values()].reduce((sum, count) => sum + count, 0),
          REQUESTS,
        );
        const shared = client.sharedMemoryStatus().reduce((sum, status) => sum + status.shared, 0);
        t.diagnostic(JSON.stringify({ codes: [...codes], shared }));
        assert.ok(codes.get("OK")! > REQUESTS * 0.7);
      } finally {
        client.close();
        for (const daemon of daemons) daemon.kill();
        for (const regions of allRegions) regions.close();
      }
    });
  });
}
