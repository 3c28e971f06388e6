import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SlacklineClient, SlacklineError, tensor } from "slackline-client";
import { type Behaviour, FakeDaemon } from "./fake-daemon.ts";

/** Deterministic numbers in 0..1. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
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
      const daemons = [await FakeDaemon.start({ behave }), await FakeDaemon.start({ behave })];
      const client = new SlacklineClient({ targets: daemons.map(({ target }) => target), transport });
      const codes = new Map<string, number>();
      const ends: Promise<void>[] = [];
      try {
        for (let i = 0; i < REQUESTS; i++) {
          const controller = new AbortController();
          const value = tensor.int32([1], Int32Array.of(i));
          ends.push(
            client.infer("m", { x: value }, { deadlineMs: 40_000, signal: controller.signal }).then(
              (result) => {
                assert.equal(result.output("x", "INT32").data[0], i);
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
            daemons[index] = await FakeDaemon.start({ port, behave });
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
        t.diagnostic(JSON.stringify([...codes]));
        assert.ok(codes.get("OK")! > REQUESTS * 0.7);
      } finally {
        client.close();
        for (const daemon of daemons) daemon.kill();
      }
    });
  });
}
