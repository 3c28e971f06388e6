/** A lane that is given its next batch while it executes one. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HANG_LIMITS } from "../../daemon/device/hang-limits.ts";
import { LaneDevice } from "../../daemon/device/lane-device.ts";
import type { ThreadChannel } from "../../daemon/device/lane-host.ts";
import type { Transport } from "../../daemon/device/lane-options.ts";
import type { NumberedRun } from "../../daemon/device/messages.ts";
import type { Execution, ExecutionResult } from "../../daemon/engine/ports.ts";
import type { ModelVersion } from "../../daemon/repository/model.ts";
import { addOne, slow } from "../../models/onnx/tiny.ts";
import { ManualTimers } from "../support/manual-timers.ts";
import { floats, floatsOf, LaneRig, outside } from "./lane-rig.ts";

const TRANSPORTS: readonly Transport[] = process.platform === "linux" ? ["memfd", "threads"] : ["threads"];

/** A lane device whose session threads are the test itself. */
class ByHand {
  readonly timers = new ManualTimers();
  readonly sent: { readonly run: NumberedRun; readonly buffer: ArrayBuffer }[] = [];
  /** Executions in the order in which their ends were told, and with what. */
  readonly told: (readonly [execution: number, result: ExecutionResult])[] = [];
  occupied = false;
  lost = "";
  readonly device = new LaneDevice(
    "lane0",
    "device",
    null,
    { ...HANG_LIMITS, startTimer: this.timers.start },
    { fatal: () => {}, hung: (_model, reason) => this.hung.push(reason), occupied: () => this.occupied },
  );
  readonly hung: string[] = [];
  readonly #channel: ThreadChannel = {
    send: (message, _payload, buffer) => {
      if (message.type === "run") this.sent.push({ run: message, buffer: buffer! });
    },
    onMessage: () => {},
    close: () => {},
  };

  constructor(versions: readonly ModelVersion[]) {
    this.device.attach({
      ended: (_lane, { plan }, result) => {
        this.told.push([plan.execution, result]);
      },
      lost: (_lane, reason) => {
        this.lost = reason;
      },
    });
    for (const version of versions) this.device.place(version, this.#channel, 1024, [""]);
  }

  /** The thread's word that the execution has ended. */
  end(execution: number, executeUs = 1000): void {
    const { buffer } = this.sent.find(({ run }) => run.execution === execution)!;
    const outputs = [{ shape: [1, 4], offset: 0, bytes: 16 }];
    this.device.ended({ type: "done", execution, executeUs, outputs }, new Uint8Array(0), buffer);
  }
}

describe("a lane with a batch behind the one that executes", () => {
  async function byHand(test: (hand: ByHand, batch: (model?: number) => Execution) => Promise<void>): Promise<void> {
    const rig = await LaneRig.start({ transport: "threads" });
    try {
      const versions = [await rig.version(addOne(), { name: "a" }), await rig.version(addOne(), { name: "b" })];
      const batch = (model = 0): Execution => {
        const version = versions[model]!;
        return rig.execution(version, [rig.request(version, [floats("x", [1, 4], [1, 2, 3, 4])])], 1);
      };
      await test(new ByHand(versions), batch);
    } finally {
      await rig.close();
    }
  }

  it("hands it on at once, and tells ends in the order of starts even where threads are heard in another", async () => {
    await byHand(async (hand, batch) => {
      const [first, second] = [batch(0), batch(1)];
      hand.device.start(first);
      hand.device.start(second);
      assert.equal(hand.sent.length, 2);
      assert.equal(hand.device.executing, "a/1");
      hand.end(second.plan.execution);
      assert.equal(hand.told.length, 0);
      hand.end(first.plan.execution);
      assert.deepEqual(
        hand.told.map(([execution, { ok }]) => [execution, ok]),
        [
          [first.plan.execution, true],
          [second.plan.execution, true],
        ],
      );
      assert.deepEqual(hand.timers.running, []);
    });
  });

  it("watches over one at a time: what waits is not hung", async () => {
    await byHand(async (hand, batch) => {
      const [first, second] = [batch(), batch()];
      hand.device.start(first);
      hand.device.start(second);
      hand.timers.advance(HANG_LIMITS.executionMs - 1);
      hand.end(first.plan.execution);
      hand.timers.advance(HANG_LIMITS.executionMs - 1);
      assert.deepEqual(hand.hung, []);
      hand.timers.advance(1);
      assert.equal(hand.hung.length, 1);
    });
  });

  it("keeps it back while trial runs wait for their turn between batches", async () => {
    await byHand(async (hand, batch) => {
      const [first, second] = [batch(), batch()];
      hand.device.start(first);
      hand.occupied = true;
      hand.device.start(second);
      assert.equal(hand.sent.length, 1);
      hand.end(first.plan.execution);
      assert.equal(hand.sent.length, 2);
      hand.end(second.plan.execution);
      assert.equal(hand.told.length, 2);
    });
  });

  it("tells of one that can't be executed before one that was started after it and ended sooner", async () => {
    await byHand(async (hand, batch) => {
      const [bad, good] = [batch(1), batch(0)];
      hand.device.remove("b/1");
      hand.device.start(bad);
      hand.device.start(good);
      assert.equal(hand.device.executing, null);
      hand.end(good.plan.execution);
      assert.equal(hand.told.length, 0);
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(
        hand.told.map(([execution, { ok }]) => [execution, ok]),
        [
          [bad.plan.execution, false],
          [good.plan.execution, true],
        ],
      );
      assert.deepEqual(hand.timers.running, []);
    });
  });

  it("tells of one that can't be executed after the one before it, and goes on", async () => {
    await byHand(async (hand, batch) => {
      const [first, bad, last] = [batch(0), batch(1), batch(0)];
      hand.device.start(first);
      hand.device.remove("b/1");
      hand.device.start(bad);
      assert.equal(hand.told.length, 0);
      hand.end(first.plan.execution);
      assert.equal(hand.told.length, 1);
      await new Promise((resolve) => setImmediate(resolve));
      const [execution, result] = hand.told[1]!;
      assert.equal(execution, bad.plan.execution);
      assert.deepEqual(result, { ok: false, message: 'model "b/1" is not loaded on lane lane0', timings: null });
      hand.device.start(last);
      hand.end(last.plan.execution);
      assert.equal(hand.told.length, 3);
      // One that no thread hears of must leave no gap in what the threads count by.
      assert.deepEqual(
        hand.sent.map(({ run }) => [run.execution, run.turn]),
        [
          [first.plan.execution, 0],
          [last.plan.execution, 1],
        ],
      );
    });
  });

  it("refuses a third, and loses both with the lane", async () => {
    await byHand(async (hand, batch) => {
      hand.device.start(batch());
      hand.device.start(batch());
      assert.throws(() => hand.device.start(batch()), /was told to start a third batch/);
      hand.device.lose("gone");
      assert.equal(hand.lost, "gone");
      assert.deepEqual([hand.told, hand.timers.running, hand.device.executing], [[], [], null]);
    });
  });
});

for (const transport of TRANSPORTS) {
  it(`executes batches of several models one behind the other, each with its own rows, by ${transport}`, async () => {
    const rig = await LaneRig.start({ transport });
    try {
      const versions = [
        await rig.version(addOne(), { name: "a" }),
        await rig.version(addOne(), { name: "b" }),
        await rig.version(slow({ layers: 1, width: 4 }), { name: "c" }),
      ];
      for (const version of versions) await rig.lane.load(version);
      const ends: number[] = [];
      const running: Promise<void>[] = [];
      for (let i = 0; i < 200; i++) {
        const version = versions[i % 7 === 0 ? 2 : i % 2]!;
        const values = [i, i + 1, i + 2, i + 3];
        const input = floats("x", [1, 4], values);
        const request = rig.request(version, [i % 5 === 0 ? outside(input) : input]);
        const execution = rig.execution(version, [request], 1);
        running.push(
          rig.start(execution).then((result) => {
            assert.ok(result.ok, result.ok ? "" : result.message);
            if (version !== versions[2]) {
              assert.deepEqual(
                floatsOf(result.outputs[0]!),
                values.map((value) => value + 1),
              );
            }
            ends.push(execution.plan.execution);
            rig.lane.device.release(execution);
          }),
        );
        // Two are on the lane at any time.
        if (running.length === 2) await running.shift();
      }
      await Promise.all(running);
      assert.deepEqual(
        ends,
        [...ends].sort((a, b) => a - b),
      );
    } finally {
      await rig.close();
    }
  });
}
