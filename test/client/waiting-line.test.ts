import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { InferCall } from "../../client/src/infer-call.ts";
import { WaitingLine } from "../../client/src/waiting-line.ts";
import { inferCall as call } from "./infer-calls.ts";

function lineOf(calls: readonly InferCall[]): WaitingLine {
  const line = new WaitingLine();
  for (const one of calls) line.add(one);
  return line;
}

async function halfGone(of: InferCall): Promise<void> {
  while (of.remainingMs >= of.settings.deadlineMs! / 2) await pause(1);
}

describe("a waiting line", () => {
  it("sends the oldest first", () => {
    const calls = [call(60_000), call(50_000), call(70_000)];
    assert.deepEqual([...lineOf(calls).inTurn()], calls);
    assert.deepEqual([...new WaitingLine().inTurn()], []);
  });

  it("sends the newest first while the oldest has lost half of its time", async () => {
    const calls = [call(4), call(60_000), call(60_000)];
    const line = lineOf(calls);
    await halfGone(calls[0]!);
    assert.deepEqual([...line.inTurn()], [...calls].reverse());
    line.delete(calls[0]!);
    assert.deepEqual([...line.inTurn()], calls.slice(1));
  });

  it("keeps the order of requests that state no deadline, however long they wait", async () => {
    const calls = [call(null), call(null)];
    const line = lineOf(calls);
    await pause(5);
    assert.deepEqual([...line.inTurn()], calls);
  });

  it("can be sent from while it is gone through", async () => {
    for (const newestFirst of [false, true]) {
      const calls = [call(newestFirst ? 4 : 60_000), ...Array.from({ length: 9 }, () => call(60_000))];
      if (newestFirst) await halfGone(calls[0]!);
      const line = lineOf(calls);
      const sent: InferCall[] = [];
      for (const one of line.inTurn()) {
        if (sent.length === 6) break;
        line.delete(one);
        sent.push(one);
      }
      const order = newestFirst ? [...calls].reverse() : calls;
      assert.deepEqual(sent, order.slice(0, 6));
      assert.equal(line.size, 4);
      assert.deepEqual([...line.inTurn()], order.slice(6));
    }
  });

  it("forgets whoever left, and knows who waits", () => {
    const line = new WaitingLine();
    const stays = call(60_000);
    line.add(stays);
    for (let i = 0; i < 1_000; i++) {
      const goes = call(60_000);
      line.add(goes);
      assert.ok(line.has(goes));
      line.delete(goes);
      assert.ok(!line.has(goes));
    }
    const last = call(60_000);
    line.add(last);
    assert.deepEqual([...line.inTurn()], [stays, last]);
  });
});
