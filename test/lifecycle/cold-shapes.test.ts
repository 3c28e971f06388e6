import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineHost } from "../../daemon/engine-host.ts";
import { ColdShapes } from "../../daemon/lifecycle/cold-shapes.ts";
import type { LifecycleLogger, ModelLane } from "../../daemon/lifecycle/ports.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { ShapeProfiles } from "../../daemon/scheduler/types.ts";
import { EngineRig, modelSpec } from "../support/engine-rig.ts";

const PROFILE = [{ bucket: 1, us: 1000 }];

/** A lane that takes one turn for each shape and warms it when told to. */
class PuppetLane implements ModelLane {
  readonly lane = "gpu0";
  /** Shapes whose turn has come, each with how it ends. */
  readonly turns: { readonly shape: string; finish(error?: Error): void }[] = [];
  #told: (() => void) | null = null;

  async load(): Promise<never> {
    throw new Error("nothing is loaded here");
  }
  async unload(): Promise<void> {}
  profilesFor(): null {
    return null;
  }
  isCold(): boolean {
    return true;
  }

  async warm(_key: string, shape: string, turn: () => Promise<void>): Promise<ShapeProfiles> {
    await turn();
    return await new Promise((resolve, reject) => {
      const finish = (error?: Error): void => (error === undefined ? resolve({ [shape]: PROFILE }) : reject(error));
      this.turns.push({ shape, finish });
      this.#told?.();
    });
  }

  /** Resolves once so many turns have come. */
  async until(count: number): Promise<void> {
    while (this.turns.length < count) {
      await new Promise<void>((resolve) => {
        this.#told = resolve;
      });
    }
  }
}

class Rig {
  readonly lane: PuppetLane = new PuppetLane();
  readonly warmed: string[] = [];
  readonly warnings: string[] = [];
  quiet = true;
  /** How often it was looked and the lane was not quiet. */
  looks = 0;
  readonly cold: ColdShapes;
  #lookAgain: () => void = () => {};
  #told: () => void = () => {};

  constructor() {
    const logger: LifecycleLogger = {
      info: () => this.#told(),
      warn: (_details, message) => {
        this.warnings.push(message);
        this.#told();
      },
      error: (_details, message) => assert.fail(message),
    };
    this.cold = new ColdShapes({
      isQuiet: () => this.quiet,
      warmed: (lane, key, profiles) => this.warmed.push(`${lane} ${key} ${Object.keys(profiles)}`),
      logger,
      pause: () => {
        this.looks++;
        return new Promise((resolve) => {
          this.#lookAgain = resolve;
        });
      },
    });
  }

  look(): void {
    this.#lookAgain();
  }

  /** Ends a turn, and resolves when that has been told. */
  async finish(turn: number, error?: Error): Promise<void> {
    const told = new Promise<void>((resolve) => {
      this.#told = resolve;
    });
    this.lane.turns[turn]!.finish(error);
    await told;
  }
}

test("a shape is warmed once the lane is quiet, and then announced", async () => {
  const rig = new Rig();
  rig.quiet = false;
  rig.cold.wanted(rig.lane, "m/1", "x:5");
  await Promise.resolve();
  rig.look();
  await Promise.resolve();
  assert.deepEqual([rig.lane.turns.length, rig.warmed.length], [0, 0]);
  rig.quiet = true;
  rig.look();
  await rig.lane.until(1);
  assert.ok(rig.looks >= 1);
  await rig.finish(0);
  assert.deepEqual(rig.warmed, ["gpu0 m/1 x:5"]);
});

test("shapes are warmed one after another, each once however often it is asked for", async () => {
  const rig = new Rig();
  for (const shape of ["x:5", "x:6", "x:5", "x:6"]) rig.cold.wanted(rig.lane, "m/1", shape);
  await rig.lane.until(1);
  assert.equal(rig.lane.turns.length, 1);
  await rig.finish(0);
  await rig.lane.until(2);
  await rig.finish(1);
  rig.cold.wanted(rig.lane, "m/1", "x:5");
  rig.cold.wanted(rig.lane, "m/1", "x:7");
  await rig.lane.until(3);
  assert.deepEqual(
    rig.lane.turns.map(({ shape }) => shape),
    ["x:5", "x:6", "x:7"],
  );
});

test("after its process was lost the lane is prepared anew, unless the shape keeps failing", async () => {
  const rig = new Rig();
  for (let life = 0; life < 3; life++) {
    rig.cold.wanted(rig.lane, "m/1", "x:5");
    rig.cold.wanted(rig.lane, "m/1", `x:${6 + life}`);
    if (life < 2) {
      await rig.lane.until(2 * life + 1);
      await rig.finish(2 * life, new Error("the lane's process died"));
      await rig.lane.until(2 * life + 2);
      await rig.finish(2 * life + 1);
    } else {
      await rig.lane.until(5);
      await rig.finish(4);
    }
    rig.cold.forgetLane("gpu0");
  }
  assert.deepEqual(
    rig.lane.turns.map(({ shape }) => shape),
    ["x:5", "x:6", "x:5", "x:7", "x:8"],
  );
  assert.deepEqual(rig.warnings, Array(2).fill("m/1: shape x:5 could not be warmed: the lane's process died"));
  rig.cold.forgetModel("m/1");
  rig.cold.wanted(rig.lane, "m/1", "x:5");
  await rig.lane.until(6);
  assert.equal(rig.lane.turns[5]!.shape, "x:5", "another file of that name may take it");
});

test("callers who make up shapes without end do not keep a lane busy", async () => {
  const rig = new Rig();
  for (let length = 1; length <= 100; length++) rig.cold.wanted(rig.lane, "m/1", `x:${length}`);
  for (let turn = 0; turn < 64; turn++) {
    await rig.lane.until(turn + 1);
    await rig.finish(turn);
  }
  assert.equal(rig.warmed.length, 64);
  assert.match(rig.warnings.join(), /^m\/1: requests have come in 64 shapes; more are not prepared for/);
});

test("a lane is quiet when it had no work with deadlines for a second and none waits; fill does not count", () => {
  const scheduler = createScheduler({ fairness: false, bestEffortShareMin: 0.01, tenantWeights: {}, gatherUs: 0 });
  const rig = new EngineRig({ scheduler });
  const host = new EngineHost(rig.engine);
  assert.equal(host.isQuiet("gpu0"), true);
  assert.equal(host.isQuiet("gpu1"), false);
  rig.submit({ deadlineUs: 1_000_000 });
  assert.equal(host.isQuiet("gpu0"), false, "it executes");
  rig.clock.advance(2_000);
  rig.device.complete();
  assert.equal(host.isQuiet("gpu0"), false, "just now it executed");
  rig.clock.advance(1_000_000);
  assert.equal(host.isQuiet("gpu0"), true);
  rig.submit({ deadlineUs: null });
  assert.equal(rig.device.running?.plan.reason, "fill");
  assert.equal(host.isQuiet("gpu0"), true, "fill waits its turn");
  rig.engine.addModel(modelSpec("elsewhere"));
  rig.submit({ model: "elsewhere", deadlineUs: 9_000_000 });
  assert.equal(host.isQuiet("gpu0"), false, "work with a deadline waits");
});

test("a shape that no lane is prepared for runs as fill, and before deadlines once it was announced", () => {
  const scheduler = createScheduler({ fairness: false, bestEffortShareMin: 0.01, tenantWeights: {}, gatherUs: 0 });
  const rig = new EngineRig({ scheduler });
  rig.engine.loaded("gpu0", "m", { "x:8": PROFILE });
  const run = (): string => {
    rig.submit({ shape: "x:5", deadlineUs: rig.clock.nowUs() + 100_000 });
    const reason = rig.device.running!.plan.reason;
    rig.clock.advance(1_000);
    rig.device.complete();
    return reason;
  };
  assert.equal(run(), "fill");
  assert.equal(run(), "fill", "having run once does not make it safe: other batch sizes are still cold");
  rig.engine.loaded("gpu0", "m", { "x:8": PROFILE, "x:5": PROFILE });
  assert.equal(run(), "deadline");
});
