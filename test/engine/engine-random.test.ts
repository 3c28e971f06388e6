import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { checkLog } from "../../bench/check/check-log.ts";
import { Random } from "../../bench/scenario/random.ts";
import { DecisionLog } from "../../daemon/engine/decision-log.ts";
import { Engine } from "../../daemon/engine/engine.ts";
import type { Outcome } from "../../daemon/engine/ports.ts";
import { Recording, replay } from "../../daemon/engine/recording.ts";
import type { Tensor } from "../../daemon/engine/tensors.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { RequestId, Scheduler } from "../../daemon/scheduler/types.ts";
import { EdfScheduler } from "../support/edf-scheduler.ts";
import { linearProfile, modelSpec, request } from "../support/engine-rig.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { PuppetDevice } from "../support/puppet-device.ts";

const SEEDS = 150;
const STEPS = 250;
const MODELS = ["a", "b", "c"];
const LANES = ["gpu0", "gpu1"];

/** Throws requests, cancellations, failures and losses at an engine in random order, and checks every outcome. */
class Storm {
  readonly random: Random;
  readonly recording = new Recording();
  readonly clock = new ManualClock();
  readonly engine: Engine;
  readonly devices = new Map<string, PuppetDevice>();
  readonly outcomes = new Map<RequestId, Outcome["type"]>();
  readonly accepted = new Set<RequestId>();
  readonly cancelled = new Set<RequestId>();
  nextRow = 1;
  logged = "";
  readonly log = new DecisionLog((chunk) => {
    this.logged += chunk;
  });

  constructor(seed: number, scheduler: Scheduler) {
    this.random = new Random(seed, "storm");
    this.engine = new Engine({
      clock: this.clock,
      scheduler,
      recorder: this.recording.record,
      observers: [this.log],
    });
    for (const model of MODELS) {
      this.engine.addModel(modelSpec(model, { sloUs: 20_000, queueItemsMax: 30, shedImplicit: model === "b" }));
    }
    for (const lane of LANES) this.bringUp(lane);
  }

  bringUp(lane: string): void {
    const device = new PuppetDevice(lane);
    this.devices.set(lane, device);
    this.engine.addLane(device);
    for (const model of MODELS) this.engine.loaded(lane, model, { "": linearProfile(4) });
  }

  submit(depth = 0): void {
    const { random } = this;
    const items = random.integer(1, 3);
    const row = this.nextRow;
    this.nextRow += items;
    const data = Uint8Array.from({ length: items }, (_, i) => (row + i) % 251);
    const bestEffort = random.uniform() < 0.2;
    const id = this.engine.submit(
      request({
        model: MODELS[random.integer(0, 2)]!,
        items,
        inputs: [{ name: "x", datatype: "UINT8", shape: [items], data }],
        deadlineUs: bestEffort ? null : this.clock.nowUs() + random.integer(0, 30_000),
        explicit: random.uniform() < 0.7,
      }),
      (outcome, { id: answered }) => {
        assert.ok(!this.outcomes.has(answered), `request ${answered} was answered twice`);
        assert.ok(!this.cancelled.has(answered), `request ${answered} was answered after it was cancelled`);
        this.outcomes.set(answered, outcome.type);
        if (outcome.type === "answered") {
          assert.deepEqual(outcome.outputs[0]!.data, data, `request ${answered} got its own rows`);
        }
        if (depth < 3 && random.uniform() < 0.1) this.submit(depth + 1);
        if (random.uniform() < 0.05) this.cancelOne();
      },
    );
    this.accepted.add(id);
  }

  cancelOne(): void {
    const open = [...this.accepted].filter((id) => !this.outcomes.has(id) && !this.cancelled.has(id));
    const id = open[this.random.integer(0, open.length - 1)];
    if (id === undefined) return;
    this.cancelled.add(id);
    this.engine.cancel(id);
  }

  /** Ends what a lane runs with outputs that repeat its inputs, padded. */
  complete(device: PuppetDevice): void {
    const { plan, requests } = device.running!;
    const data = new Uint8Array(plan.bucket);
    let offset = 0;
    for (const { inputs, items } of requests) {
      data.set(inputs[0]!.data as Uint8Array, offset);
      offset += items;
    }
    const output: Tensor = { name: "y", datatype: "UINT8", shape: [plan.bucket], data };
    device.complete([output], { executeUs: this.random.integer(500, 6_000) });
  }

  step(): void {
    const { random } = this;
    const dice = random.uniform();
    const busy = [...this.devices.values()].filter((device) => device.running !== null);
    const device = busy[random.integer(0, Math.max(0, busy.length - 1))];
    if (dice < 0.45) this.submit();
    else if (dice < 0.55) this.cancelOne();
    else if (dice < 0.8) {
      this.clock.advance(random.integer(1, 3_000));
      if (device !== undefined) this.complete(device);
    } else if (dice < 0.82) device?.fail("bad input");
    else if (dice < 0.84 && device !== undefined) {
      device.die("crash");
      this.bringUp(device.lane);
    } else if (dice < 0.86) {
      const lane = LANES[random.integer(0, 1)]!;
      this.engine.unloaded(lane, "c");
      this.engine.loaded(lane, "c", { "": linearProfile(random.integer(3, 4)) });
    } else this.clock.advance(random.integer(1, 2_000));
  }

  /** Lets everything come to its end. */
  settle(): void {
    for (let i = 0; i < 20_000 && this.engine.snapshot().accepted > 0; i++) {
      this.clock.advance(1_000);
      for (const device of this.devices.values()) if (device.running !== null) this.complete(device);
    }
  }
}

const SCHEDULERS: Readonly<Record<string, () => Scheduler>> = {
  "a plain scheduler": () => new EdfScheduler(),
  "the daemon's scheduler": () => createScheduler({ gatherUs: 200 }),
  "the daemon's scheduler and batches that follow each other": () =>
    createScheduler({ gatherUs: 200, handoverUs: 500 }),
};

for (const [name, create] of Object.entries(SCHEDULERS)) {
  test(`with ${name}, every accepted request that is not cancelled ends once, with its own rows`, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const storm = new Storm(seed, create());
      try {
        for (let i = 0; i < STEPS; i++) storm.step();
        storm.settle();
        for (const id of storm.accepted) {
          assert.equal(storm.outcomes.has(id), !storm.cancelled.has(id), `request ${id} has one end`);
        }
        await storm.engine.drain();
        for (const queue of storm.engine.snapshot().models) {
          assert.deepEqual([queue.queuedRequests, queue.queuedItems, queue.queuedBytes], [0, 0, 0]);
        }
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
  });

  test(`with ${name}, recorded events replayed give the same effects`, () => {
    for (let seed = 1; seed <= SEEDS / 3; seed++) {
      const storm = new Storm(seed, create());
      for (let i = 0; i < STEPS; i++) storm.step();
      assert.ok(storm.recording.steps.length > STEPS / 2);
      assert.equal(replay(storm.recording.steps, create()), null, `seed ${seed}`);
    }
  });
}

test("the decision log of such a storm holds nothing impossible", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "slackline-storm-"));
  try {
    const scenario = path.join(folder, "scenario.json");
    const models = MODELS.map((name) => ({ name, max_batch: 4, slo_ms: 20 }));
    writeFileSync(scenario, JSON.stringify({ name: "storm", measure_s: 1, models }));
    for (let seed = 1; seed <= 20; seed++) {
      const storm = new Storm(seed, createScheduler({ handoverUs: seed % 2 === 0 ? 500 : 0 }));
      for (let i = 0; i < STEPS; i++) storm.step();
      storm.settle();
      storm.log.flush();
      const file = path.join(folder, "decisions.jsonl");
      writeFileSync(file, storm.logged);
      assert.deepEqual(checkLog(file, scenario, { live: true }).problems, [], `seed ${seed}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a replay that differs names the first step that does", () => {
  const storm = new Storm(1, new EdfScheduler());
  for (let i = 0; i < 50; i++) storm.step();
  const steps = [...storm.recording.steps];
  const changed = steps.findIndex(({ effects }) => effects.length > 0);
  steps[changed] = { ...steps[changed]!, effects: [] };
  assert.equal(replay(steps, new EdfScheduler())?.step, changed);
});
