import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerCache } from "../../daemon/cache/answer-cache.ts";
import { CachedInference } from "../../daemon/cache/cached-inference.ts";
import type { AcceptedRequest, InferenceRequest, Outcome } from "../../daemon/engine/ports.ts";
import type { Tensor } from "../../daemon/engine/tensors.ts";
import { EngineTallies } from "../../daemon/metrics/engine-tallies.ts";
import { TallyStatistics } from "../../daemon/metrics/statistics.ts";
import { EngineRig, request } from "../support/engine-rig.ts";

const X: Tensor = { name: "x", datatype: "UINT8", shape: [1, 2], data: Buffer.of(1, 2) };

/** A cache before an engine with one puppet lane. */
class Rig extends EngineRig {
  readonly tallies: EngineTallies;
  readonly answers: AnswerCache = new AnswerCache(1024 * 1024);
  readonly cached: CachedInference;

  constructor() {
    const tallies = new EngineTallies();
    super({ observers: [tallies] });
    this.tallies = tallies;
    this.cached = new CachedInference(this.engine, this.answers, tallies);
  }

  /** Asks for a request that may be cached; what it was told is in `told`, once it was told. */
  ask(overrides: Partial<InferenceRequest> = {}) {
    const told: { outcome: Outcome; accepted: AcceptedRequest }[] = [];
    const asked = request({ cacheAs: "content", inputs: [X], ...overrides });
    const id = this.cached.submit(asked, (outcome, accepted) => told.push({ outcome, accepted }));
    return { id, told };
  }

  /** Ends the running batch with an output whose memory is used for something else at once. */
  complete(fill = 5): void {
    const data = new Uint8Array(2).fill(fill);
    this.device.complete([{ name: "y", datatype: "UINT8", shape: [1, 2], data }]);
    data.fill(0xee);
  }

  /** Whether an equal request would have to be executed. */
  misses(overrides: Partial<InferenceRequest> = {}): boolean {
    return this.ask(overrides).told.length === 0;
  }
}

test("a request equal to an answered one is answered at once, without the engine", () => {
  const rig = new Rig();
  rig.ask();
  rig.complete();
  rig.clock.advance(10);
  const { id, told } = rig.ask({ tenant: "another", inputs: [{ ...X, data: Buffer.of(1, 2) }] });
  const { outcome, accepted } = told[0]!;
  assert.deepEqual(outcome, {
    type: "answered",
    outputs: [{ name: "y", datatype: "UINT8", shape: [1, 2], data: Uint8Array.of(5, 5) }],
    timings: {
      queueUs: 0,
      gatherUs: 0,
      executeUs: 0,
      collectUs: 0,
      batchItems: 0,
      bucket: 0,
      lane: null,
      lateUs: 0,
      waited: null,
    },
  });
  assert.deepEqual([accepted.id, accepted.tenant, accepted.bytes], [id, "another", 2]);
  assert.deepEqual([rig.engine.snapshot().accepted, rig.device.started.length], [0, 1]);
  rig.cached.cancel(id);
});

test("each hit has an id of its own, which is none of the engine's", () => {
  const rig = new Rig();
  const first = rig.ask().id;
  rig.complete();
  const ids = [first, rig.ask().id, rig.ask().id, rig.ask({ cacheAs: null }).id];
  assert.equal(new Set(ids).size, ids.length);
});

test("an answer that comes after its deadline says so, from the cache too", () => {
  const rig = new Rig();
  rig.ask();
  rig.complete();
  rig.clock.advance(200);
  const { outcome } = rig.ask({ deadlineUs: 50 }).told[0]!;
  assert.equal(outcome.type === "answered" && outcome.timings.lateUs, 150);
  assert.equal(rig.tallies.model("m").late, 1);
});

test("other inputs, outputs or contents of the model are not answered from the cache", () => {
  const rig = new Rig();
  rig.ask();
  rig.complete();
  assert.ok(rig.misses({ cacheAs: "other content" }));
  assert.ok(rig.misses({ outputs: ["y"] }));
  assert.ok(rig.misses({ inputs: [{ ...X, data: Buffer.of(2, 1) }] }));
  assert.ok(!rig.misses());
});

test("a request that may not be cached is executed, and its answer not kept", () => {
  const rig = new Rig();
  rig.ask({ cacheAs: null });
  rig.complete();
  assert.ok(rig.misses({ cacheAs: null }));
  assert.equal(rig.answers.figures.entries, 0);
  assert.equal(rig.tallies.model("m").cacheMisses, 0);
});

test("only answers are kept", () => {
  const ends: Readonly<Record<Exclude<Outcome["type"], "answered">, (rig: Rig) => void>> = {
    failed: (rig) => rig.device.fail("broken"),
    lost: (rig) => rig.device.die("killed"),
    unreadable: (rig) =>
      rig.device.complete([], {}, new Map([[rig.device.running!.requests[0]!.id, new Error("no such region")]])),
    shed: (rig) => rig.engine.removeModel("m"),
  };
  for (const [type, end] of Object.entries(ends)) {
    const rig = new Rig();
    // What is shed has to wait.
    if (type === "shed") rig.submit();
    const { told } = rig.ask();
    end(rig);
    assert.equal(told[0]?.outcome.type, type);
    assert.equal(rig.answers.figures.entries, 0, type);
  }
});

test("a request that is cancelled while it executes leaves nothing in the cache", () => {
  const rig = new Rig();
  const { id, told } = rig.ask();
  rig.cached.cancel(id);
  rig.complete();
  assert.deepEqual([told.length, rig.answers.figures.entries], [0, 0]);
});

test("equal requests that are under way at the same time are all executed", () => {
  const rig = new Rig();
  const asked = [rig.ask(), rig.ask()];
  rig.complete(5);
  rig.complete(5);
  assert.deepEqual(
    asked.map(({ told }) => told.length),
    [1, 1],
  );
  assert.equal(rig.device.started.length, 2);
  assert.equal(rig.answers.figures.entries, 1);
});

test("hits count as requests that succeeded, and not as inferred", () => {
  const rig = new Rig();
  const statistics = new TallyStatistics(rig.tallies);
  rig.ask({ items: 2 });
  rig.clock.advance(2_000);
  rig.complete();
  rig.ask({ items: 2 });
  rig.ask({ items: 2, deadlineUs: null });
  const { success, queue, computeInfer, cacheHit, cacheMiss, items, executions } = statistics.statistics("m")!;
  assert.deepEqual([success.count, queue.count, computeInfer.count], [3, 3, 1]);
  assert.deepEqual([cacheHit.count, cacheMiss.count], [2, 1]);
  assert.deepEqual([items, executions], [2, 1]);
  const counts = statistics.modelCounts("m");
  assert.deepEqual([counts.requests, counts.on_time, counts.best_effort], [3, 2, 1]);
  assert.deepEqual([counts.cache_hits, counts.cache_misses, counts.items], [2, 1, 2]);
  assert.equal(rig.tallies.model("m").pending, 0);
});

test("times of the cache are counted: looking up for hits, keeping as well for misses", () => {
  const rig = new Rig();
  const us: [string, number][] = [];
  // Each look at the clock takes a microsecond, so that what lies between two looks takes one too.
  let nowUs = 0;
  const cached = new CachedInference(
    { nowUs: () => nowUs++, submit: (asked, reply) => rig.engine.submit(asked, reply), cancel: () => {} },
    rig.answers,
    {
      cacheHit: (_request, _timings, took) => us.push(["hit", took]),
      cacheMiss: (_request, took) => us.push(["miss", took]),
      cacheKept: (_request, took) => us.push(["kept", took]),
    },
  );
  const asked = request({ cacheAs: "content", inputs: [X] });
  cached.submit(asked, () => {});
  rig.complete();
  cached.submit(asked, () => {});
  assert.deepEqual(us, [
    ["miss", 1],
    ["kept", 1],
    ["hit", 1],
  ]);
  rig.tallies.cacheMiss(asked, 3);
  rig.tallies.cacheKept(asked, 4);
  const { cacheMiss } = new TallyStatistics(rig.tallies).statistics("m")!;
  assert.deepEqual(cacheMiss, { count: 1, us: 7 });
});
