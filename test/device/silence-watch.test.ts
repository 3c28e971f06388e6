/** Whose messages are signs of life of a thread that loads. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HANG_LIMITS } from "../../daemon/device/hang-limits.ts";
import type { ThreadChannel } from "../../daemon/device/lane-host.ts";
import { NO_THREAD, SilenceWatch, type WatchedThread } from "../../daemon/device/silence-watch.ts";
import { ManualTimers } from "../support/manual-timers.ts";

const LOAD_MS = 1000;

function channel(): ThreadChannel {
  return { send: () => {}, onMessage: () => {}, close: () => {} };
}

/** Whether the watched thread counts as hung when `told` happens shortly before its time is over. */
async function hungDespite(thread: WatchedThread, told: (watch: SilenceWatch) => void): Promise<boolean> {
  const timers = new ManualTimers();
  const hung: string[] = [];
  const limits = { ...HANG_LIMITS, loadMs: LOAD_MS, startTimer: timers.start };
  const watch = new SilenceWatch(limits, (reason) => hung.push(reason));
  await watch.during("loading m/1", thread, async () => {
    assert.ok(watch.watching);
    timers.advance(LOAD_MS - 1);
    told(watch);
    timers.advance(1);
  });
  assert.ok(!watch.watching);
  assert.deepEqual(timers.running, []);
  if (hung.length > 0) assert.deepEqual(hung, ["it gave no sign of life for 1000 ms while loading m/1"]);
  return hung.length > 0;
}

test("a thread is alive when it tells of something itself, not when others do", async () => {
  const [own, other] = [channel(), channel()];
  const thread = { channel: own, takesTurns: false };
  assert.equal(await hungDespite(thread, (watch) => watch.heard(own)), false);
  assert.equal(await hungDespite(thread, (watch) => watch.heard(other)), true);
  assert.equal(await hungDespite(NO_THREAD, (watch) => watch.heard(other)), true);
});

test("batches that end are signs of life to a thread that waits for its turn behind them, and to no other", async () => {
  const [own, other] = [channel(), channel()];
  const loading = { channel: own, takesTurns: false };
  const passed = (watch: SilenceWatch): void => watch.turnPassed();
  assert.equal(await hungDespite({ channel: own, takesTurns: true }, passed), false);
  assert.equal(await hungDespite(loading, passed), true);
  const waitsFrom = (thread: ThreadChannel) => (watch: SilenceWatch) => {
    watch.takesTurns(thread);
    watch.turnPassed();
  };
  assert.equal(await hungDespite(loading, waitsFrom(own)), false);
  assert.equal(await hungDespite(loading, waitsFrom(other)), true);
});
