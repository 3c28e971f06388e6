import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CongestionWindow } from "../../client/src/congestion.ts";
import { type InferCall, nowMs } from "../../client/src/infer-call.ts";
import { inferCall } from "./infer-calls.ts";

const SIZE_MAX = 1_000;

function sentNow(deadlineMs: number | null, bestEffort: boolean = false): InferCall {
  const call = inferCall(deadlineMs, bestEffort);
  call.sentMs = nowMs();
  return call;
}

function send(window: CongestionWindow, count: number, make: () => InferCall): InferCall[] {
  return Array.from({ length: count }, () => {
    const call = make();
    window.sent(call);
    return call;
  });
}

/** Of a daemon that has answered one request. */
function usedWindow(): CongestionWindow {
  const window = new CongestionWindow(SIZE_MAX);
  const call = sentNow(100);
  window.sent(call);
  window.answered(call);
  return window;
}

/** How many more requests may be sent. */
function room(window: CongestionWindow): number {
  const more: InferCall[] = [];
  while (window.hasRoom) more.push(...send(window, 1, () => sentNow(100)));
  for (const call of more) window.abandoned(call);
  return more.length;
}

function passInSilence(window: CongestionWindow, calls: readonly InferCall[]): void {
  for (const call of calls) window.overdue(call);
  for (const call of calls) window.abandoned(call);
}

/** Requests that will run into their deadlines; sent after whatever the window knows to be answered. */
const silentOnes = (window: CongestionWindow, count: number, deadlineMs: number = 100): InferCall[] =>
  send(window, count, () => sentNow(deadlineMs));

describe("a congestion window", () => {
  it("holds what it may until a daemon is silent", () => {
    const window = usedWindow();
    assert.equal(room(window), SIZE_MAX);
    const calls = silentOnes(window, 30);
    assert.equal(room(window), SIZE_MAX - 30);
    for (const call of calls) window.answered(call);
    assert.equal(room(window), SIZE_MAX);
  });

  it("is left with half of what was outstanding, once for all that was sent before", () => {
    const window = usedWindow();
    const calls = silentOnes(window, 40);
    passInSilence(window, calls);
    assert.equal(room(window), 20);
    const again = silentOnes(window, 20);
    passInSilence(window, again);
    assert.equal(room(window), 10);
  });

  it("stays where the daemon has answered what was sent later", () => {
    const window = usedWindow();
    const calls = silentOnes(window, 40);
    const later = silentOnes(window, 1)[0]!;
    later.sentMs += 1;
    window.answered(later);
    passInSilence(window, calls);
    assert.equal(room(window), SIZE_MAX);
  });

  it("stays where so little was outstanding that it can't be too much", () => {
    const window = usedWindow();
    for (let i = 0; i < 10; i++) {
      const calls = silentOnes(window, 4);
      passInSilence(window, calls);
    }
    assert.equal(room(window), SIZE_MAX);
  });

  it("counts neither requests that may wait nor those with very long or very short deadlines", () => {
    const window = usedWindow();
    const calls = [
      ...send(window, 20, () => sentNow(null)),
      ...send(window, 20, () => sentNow(100, true)),
      ...send(window, 20, () => sentNow(10_000)),
      ...silentOnes(window, 20, 5),
    ];
    assert.equal(room(window), SIZE_MAX);
    passInSilence(window, calls);
    assert.equal(room(window), SIZE_MAX);
  });

  it("widens with answers, and starts anew with a new connection", () => {
    const window = usedWindow();
    const calls = silentOnes(window, 40);
    passInSilence(window, calls);
    for (let i = 0; i < 20; i++) window.answered(silentOnes(window, 1)[0]!);
    const widened = room(window);
    assert.ok(widened > 20 && widened <= 24, String(widened));
    window.reconnected();
    assert.equal(room(window), SIZE_MAX);
  });
});
