import assert from "node:assert/strict";
import { test } from "node:test";
import { LiveClock } from "../../daemon/live-clock.ts";

const DAY_US = 86_400_000_000;
/** What a timer of Node can take. */
const TIMER_MS_MAX = 2 ** 31 - 1;

test("a wake-up further away than timers reach is waited for in pieces", (t) => {
  const asked: { readonly ms: number; readonly fn: () => void }[] = [];
  t.mock.method(globalThis, "setTimeout", (fn: () => void, ms: number) => {
    asked.push({ fn, ms });
    return {} as NodeJS.Timeout;
  });
  t.mock.method(globalThis, "clearTimeout", () => {});
  const clock = new LiveClock();
  let woken = 0;
  const atUs = clock.nowUs() + 30 * DAY_US;
  clock.wakeAt(atUs, () => woken++);
  assert.deepEqual(
    asked.map(({ ms }) => ms),
    [TIMER_MS_MAX],
  );
  t.mock.method(clock, "nowUs", () => atUs - 5 * DAY_US);
  asked[0]!.fn();
  assert.equal(woken, 0);
  assert.equal(asked[1]!.ms, (5 * DAY_US) / 1000);
  t.mock.method(clock, "nowUs", () => atUs);
  asked[1]!.fn();
  assert.equal(woken, 1);
  assert.equal(asked.length, 2);
});

test("turning the event loop until a wake-up counts as idle, unless something was done meanwhile", (t) => {
  const turns: (() => void)[] = [];
  t.mock.method(globalThis, "setImmediate", (fn: () => void) => {
    turns.push(fn);
    return {} as NodeJS.Immediate;
  });
  t.mock.method(globalThis, "clearImmediate", () => {});
  const clock = new LiveClock();
  let nowUs = 1_000_000;
  t.mock.method(clock, "nowUs", () => nowUs);
  const beforeUs = clock.idleUs();
  let woken = 0;
  clock.wakeAt(nowUs + 900, () => woken++);
  for (const turnUs of [10, 700, 20, 200]) {
    nowUs += turnUs;
    turns.pop()!();
  }
  assert.deepEqual([clock.idleUs() - beforeUs, woken, turns.length], [30, 1, 0]);
});
