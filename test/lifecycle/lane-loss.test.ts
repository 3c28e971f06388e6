/** Lanes that crash, and come back with a model or without it, while the model comes, goes or is served. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { LifecycleRig, type LifecycleRigOptions } from "./lifecycle-rig.ts";

/** What is broken here waits for ever. */
const LIMIT = { timeout: 20_000 };

function scenario(name: string, options: LifecycleRigOptions, run: (rig: LifecycleRig) => Promise<void>): void {
  test(name, LIMIT, async () => {
    const rig = new LifecycleRig(options);
    try {
      await run(rig);
    } finally {
      rig.end();
    }
  });
}

const CHANGES: Readonly<Record<string, (rig: LifecycleRig) => Promise<{ readonly ok: boolean }>>> = {
  unloaded: (rig) => rig.lifecycle.unload("m"),
  exchanged: (rig) => {
    rig.changeFiles();
    return rig.lifecycle.load("m", new Map());
  },
};

for (const [change, ask] of Object.entries(CHANGES)) {
  describe(`while the queue of a model that is being ${change} is answered`, () => {
    scenario("a lane that crashes and has the model again answers the rest", {}, async (rig) => {
      await rig.start();
      rig.submit(9);
      const { done } = await rig.begin(() => ask(rig));
      rig.crash("gpu0");
      rig.restart("gpu0");
      rig.reload("gpu0");
      rig.work("gpu0");
      // The batch that was executing is lost with its lane.
      assert.deepEqual(rig.tally, { lost: 1, answered: 8 });
      assert.deepEqual(await done, { ok: true });
      assert.deepEqual(rig.lanes[0]!.unloads, ["m/1"]);
      assert.deepEqual(await rig.lifecycle.load("other", new Map()), { ok: true });
    });

    scenario("a lane that crashes and drops the model leaves nothing to wait for", {}, async (rig) => {
      await rig.start();
      rig.submit(9);
      const { done } = await rig.begin(() => ask(rig));
      rig.crash("gpu0");
      rig.restart("gpu0");
      rig.drop("gpu0");
      assert.deepEqual(rig.tally, { lost: 1, unloaded: 8 });
      assert.deepEqual(await done, { ok: true });
      assert.deepEqual(await rig.lifecycle.load("other", new Map()), { ok: true });
    });

    const onReplica = { config: "device: cpu\nreplicas: 1\n" };
    scenario("replicas that crash and come back answer the rest", onReplica, async (rig) => {
      await rig.start();
      const [replica] = rig.upLanes;
      rig.submit(9);
      const { done } = await rig.begin(() => ask(rig));
      rig.crash(replica!);
      rig.restore();
      rig.work(replica!);
      assert.deepEqual(rig.tally, { lost: 1, answered: 8 });
      assert.deepEqual(await done, { ok: true });
      assert.deepEqual(rig.replicas.unloads, ["m/1"]);
    });

    scenario("what is left after its time is refused", { drainMs: 20 }, async (rig) => {
      await rig.start();
      rig.submit(9);
      const { done } = await rig.begin(() => ask(rig));
      while (rig.outcomes.length < 8) await delay(1);
      rig.work("gpu0");
      assert.deepEqual(await done, { ok: true });
      assert.deepEqual(rig.tally, { unloaded: 8, answered: 1 });
      assert.deepEqual(await rig.lifecycle.load("other", new Map()), { ok: true });
    });

    scenario("a daemon that ends goes on answering it", {}, async (rig) => {
      await rig.start();
      rig.submit(9);
      const { done } = await rig.begin(() => ask(rig));
      rig.lifecycle.close();
      await done;
      assert.deepEqual(rig.lanes[0]!.unloads, []);
      rig.work("gpu0");
      assert.deepEqual(rig.tally, { answered: 9 });
    });
  });
}

scenario("an exchange that the daemon's end cuts short says so", {}, async (rig) => {
  await rig.start();
  rig.submit(1);
  const { done } = await rig.begin(() => CHANGES.exchanged!(rig));
  rig.lifecycle.close();
  assert.deepEqual(await done, { ok: false, kind: "failed", reason: "failed to load version 1: the daemon ends" });
});

describe("a lane that is restarting", () => {
  scenario("is told to unload what it would bring back", {}, async (rig) => {
    await rig.start();
    rig.crash("gpu0");
    assert.deepEqual(await rig.lifecycle.unload("m"), { ok: true });
    assert.deepEqual(rig.lanes[0]!.unloads, ["m/1"]);
  });

  scenario("keeps the model that another lane drops", { lanes: ["gpu0", "gpu1"] }, async (rig) => {
    await rig.start();
    rig.submit(12);
    rig.crash("gpu0");
    rig.crash("gpu1");
    rig.restart("gpu0");
    rig.drop("gpu0");
    assert.equal(rig.found, "its device is restarting");
    rig.restart("gpu1");
    rig.reload("gpu1");
    assert.equal(rig.found, "ready");
    assert.deepEqual(rig.upLanes, ["gpu1"]);
    rig.work("gpu1");
    assert.equal(rig.outcomes.length, 12);
    assert.equal(rig.tally.unloaded, undefined);
    // Dropped there too, it is nowhere.
    rig.crash("gpu1");
    rig.drop("gpu1");
    assert.equal(rig.found, "out of memory");
    assert.deepEqual(rig.lifecycle.served, []);
  });

  const withReplica = { config: "replicas: 1\n" };
  scenario("keeps the model that its replicas drop", withReplica, async (rig) => {
    await rig.start();
    const [, replica] = rig.upLanes;
    rig.crash("gpu0");
    rig.crash(replica!);
    rig.drop(replica!);
    assert.equal(rig.found, "its device is restarting");
    rig.restart("gpu0");
    rig.reload("gpu0");
    assert.deepEqual(rig.upLanes, ["gpu0"]);
  });
});

describe("a lane that crashes while the model is loaded on another", () => {
  const twoLanes = { lanes: ["gpu0", "gpu1"] };

  /** Starts, and crashes `gpu0`, which has the model, while `gpu1` is loading it. */
  async function crashWhileLoading(rig: LifecycleRig): Promise<{ finish(error?: Error): Promise<void> }> {
    const { loads } = rig.lanes[1]!;
    const open = loads.hold();
    const started = rig.start();
    await loads.reached;
    rig.crash("gpu0");
    rig.restart("gpu0");
    return {
      finish: async (error) => {
        open(error);
        await started;
      },
    };
  }

  scenario("and drops it, gets none of its batches", twoLanes, async (rig) => {
    const { finish } = await crashWhileLoading(rig);
    rig.drop("gpu0");
    await finish();
    assert.deepEqual(rig.upLanes, ["gpu1"]);
    rig.submit(2);
    assert.equal(rig.device("gpu0").started.length, 0);
    assert.equal(rig.device("gpu1").started.length, 1);
  });

  scenario("gets batches once it has it again", twoLanes, async (rig) => {
    const { finish } = await crashWhileLoading(rig);
    await finish();
    assert.deepEqual(rig.upLanes, ["gpu1"]);
    rig.submit(2);
    assert.equal(rig.device("gpu0").started.length, 0);
    rig.reload("gpu0");
    assert.deepEqual(rig.upLanes, ["gpu0", "gpu1"]);
    assert.equal(rig.device("gpu0").started.length, 1);
  });

  scenario("has it like any other if it had it again before that", twoLanes, async (rig) => {
    const { finish } = await crashWhileLoading(rig);
    rig.reload("gpu0");
    await finish();
    assert.deepEqual(rig.upLanes, ["gpu0", "gpu1"]);
    rig.submit(2);
    assert.equal(rig.device("gpu0").started.length, 1);
  });

  scenario("is told to unload it where the load fails", twoLanes, async (rig) => {
    const { finish } = await crashWhileLoading(rig);
    await finish(new Error("out of memory"));
    assert.equal(rig.found, "out of memory");
    assert.deepEqual(rig.lanes[0]!.unloads, ["m/1"]);
  });

  const withReplica = { config: "replicas: 1\n" };
  scenario("and drops it, leaves it to the replicas", withReplica, async (rig) => {
    const open = rig.replicas.loads.hold();
    const started = rig.start();
    await rig.replicas.loads.reached;
    rig.crash("gpu0");
    rig.restart("gpu0");
    rig.drop("gpu0");
    open();
    await started;
    assert.deepEqual(rig.upLanes, ["cpu/m/1#0"]);
    rig.submit(1);
    assert.equal(rig.device("gpu0").started.length, 0);
  });

  scenario("and drops it, leaves nothing where the replicas can't load it either", withReplica, async (rig) => {
    const open = rig.replicas.loads.hold();
    const started = rig.start();
    await rig.replicas.loads.reached;
    rig.crash("gpu0");
    rig.restart("gpu0");
    rig.drop("gpu0");
    open(new Error("no memory for replicas"));
    await started;
    assert.equal(rig.found, "no memory for replicas");
    assert.deepEqual(rig.lifecycle.served, []);
  });
});

describe("lanes that differ on whether a model's items may share a batch", () => {
  scenario("run them one by one, those too that had found no harm", { lanes: ["gpu0", "gpu1"] }, async (rig) => {
    rig.lanes[1]!.mixedOutputs = ["y"];
    await rig.start();
    assert.deepEqual(
      rig.lanes.map(({ batched }) => batched),
      [
        [true, false],
        [true, false],
      ],
    );
    assert.equal(rig.lifecycle.served[0]!.version.batched, false);
    assert.deepEqual(rig.upLanes, ["gpu0", "gpu1"]);
  });
});
