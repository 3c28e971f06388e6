import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelSpec } from "../../daemon/scheduler/types.ts";
import { linear, World } from "./world.ts";

function world(spec: Partial<ModelSpec> = {}): World {
  const made = new World();
  made.lane("gpu");
  made.model({ model: "m", ...spec }, linear(1000, 5000, 8));
  made.model({ model: "other" }, linear(0, 50_000, 1));
  return made;
}

test("a deadline that has passed is refused on arrival", () => {
  const at = world();
  at.runFor(1000);
  const request = at.arrive("m", { inUs: 0 });
  assert.equal(request.cause, "expired");
});

test("a deadline that nothing could meet is refused on arrival, saying when the answer would have come", () => {
  const request = world().arrive("m", { inUs: 5999 });
  assert.equal(request.cause, "late");
  assert.equal(request.detail?.predictedEndUs, 6000);
});

test("a request that the running batch makes late is shed at once, and told which model blocked it", () => {
  const at = world();
  at.arrive("other");
  const request = at.arrive("m", { inUs: 55_000 });
  assert.equal(request.state, "shed");
  assert.equal(request.endUs, 0);
  assert.equal(request.detail?.blockedBy, "other");
  assert.equal(request.detail?.predictedEndUs, 56_000);
  assert.ok((request.detail?.retryAfterUs ?? 0) > 0);
});

test("a request that the running batch leaves in time waits for it", () => {
  const at = world();
  at.arrive("other");
  const request = at.arrive("m", { inUs: 56_000 });
  at.runFor(60_000);
  assert.equal(request.endUs, 56_000);
});

test("an implicit deadline that will be missed demotes, and the answer comes late", () => {
  const at = world({ sloUs: 20_000 });
  at.arrive("other");
  const request = at.arrive("m");
  assert.equal(request.demoted, true);
  at.runFor(60_000);
  assert.equal(request.state, "answered");
});

test("a model that sheds implicit deadlines sheds them", () => {
  const at = world({ sloUs: 20_000, shedImplicit: true });
  at.arrive("other");
  assert.equal(at.arrive("m").cause, "late");
});

test("the oldest are given up for a batch that saves more", () => {
  const at = world();
  at.arrive("other");
  const old = at.arrive("m", { inUs: 56_500 });
  const young = Array.from({ length: 8 }, () => at.arrive("m", { inUs: 64_000 }));
  at.runFor(100_000);
  assert.equal(old.cause, "sacrificed");
  assert.equal(old.detail?.blockedBy, "m");
  for (const request of young) assert.equal(request.endUs, 63_000);
});

test("queues are limited by items and by bytes", () => {
  const at = world({ queueItemsMax: 4, queueBytesMax: 1000 });
  at.arrive("other");
  at.arrive("m", { items: 3, bytes: 10 });
  const many = at.arrive("m", { items: 2, bytes: 10 });
  assert.equal(many.cause, "queue_items");
  assert.deepEqual([many.detail?.limit, many.detail?.queuedItems], [4, 3]);
  const large = at.arrive("m", { items: 1, bytes: 991 });
  assert.equal(large.cause, "queue_bytes");
  assert.equal(large.detail?.limit, 1000);
  assert.equal(at.arrive("m", { items: 1, bytes: 990 }).state, "queued");
});

test("a full queue's retry hint counts all that fills it, work without deadlines too", () => {
  const at = world({ queueItemsMax: 8 });
  at.arrive("other");
  for (let i = 0; i < 8; i++) at.arrive("m", { inUs: null });
  const { cause, detail } = at.arrive("m", { inUs: null });
  assert.equal(cause, "queue_items");
  // Behind the one that executes, eight items take at least as long as one full batch.
  assert.ok(detail!.retryAfterUs! >= 50_000 + 13_000, String(detail!.retryAfterUs));
});

test("in a full queue work without deadlines gives its place to work with one, the last to come first", () => {
  const at = world({ queueItemsMax: 8, queueBytesMax: 100 });
  at.arrive("other");
  const waiting = Array.from({ length: 8 }, () => at.arrive("m", { inUs: null, bytes: 10 }));
  const urgent = at.arrive("m", { inUs: 500_000, items: 2, bytes: 50 });
  assert.equal(urgent.state, "queued");
  assert.deepEqual(
    waiting.map(({ cause }) => cause ?? "waits"),
    ["waits", "waits", "waits", "waits", "waits", "queue_bytes", "queue_items", "queue_items"],
  );
  assert.ok((waiting[7]!.detail?.retryAfterUs ?? 0) > 0);
  // What can't be in time anyway, or never fits, takes nobody's place.
  assert.equal(at.arrive("m", { inUs: 10_000, items: 8, bytes: 1 }).state, "shed");
  assert.equal(at.arrive("m", { inUs: 500_000, items: 9, bytes: 1 }).cause, "queue_items");
  assert.equal(waiting[4]!.state, "queued");
  at.runFor(1_000_000);
  assert.equal(urgent.state, "answered");
});

/** Asks ten times a second for a time; the part that is answered by a deadline that leaves twice what an execution takes. */
function askFor(at: World, seconds: number): number {
  const asked = Array.from({ length: 10 * seconds }, () => {
    at.runFor(100_000);
    return at.arrive("m", { inUs: 20_000 });
  });
  at.runFor(50_000);
  const met = asked.filter(({ state, endUs, deadlineUs }) => state === "answered" && endUs <= deadlineUs!);
  return met.length / asked.length;
}

test("a model whose device was slow for a while is served again when that is over, and little is wasted until then", () => {
  let factor = 1;
  const at = new World({ durationUs: ({ bucket }) => factor * (9000 + 1000 * bucket) });
  at.lane("gpu");
  at.model({ model: "m" }, linear(1000, 9000, 4));
  assert.equal(askFor(at, 5), 1);
  factor = 3;
  assert.equal(askFor(at, 20), 0);
  const before = at.started.length;
  assert.equal(askFor(at, 200), 0);
  assert.ok(at.started.length - before < 80, `${at.started.length - before} of 2000 were executed in vain`);
  factor = 1;
  askFor(at, 70);
  assert.equal(askFor(at, 20), 1);
});

test("a request that alone is more than may wait is not told to come back", () => {
  const at = world({ queueItemsMax: 4, queueBytesMax: 1000 });
  at.arrive("other");
  for (const queued of [0, 1]) {
    for (const [cause, size] of [
      ["queue_items", { items: 5 }],
      ["queue_bytes", { bytes: 1001 }],
    ] as const) {
      const refused = at.arrive("m", size);
      assert.equal(refused.cause, cause);
      assert.deepEqual([refused.detail?.queuedItems, refused.detail?.retryAfterUs], [queued, undefined]);
    }
    at.arrive("m");
  }
});

test("what leaves the queue makes room in it", () => {
  const at = world({ queueItemsMax: 1 });
  at.arrive("other");
  at.cancel(at.arrive("m"));
  assert.equal(at.arrive("m").state, "queued");
});

test("requests for a cold model wait until it is loaded", () => {
  const at = world();
  at.model({ model: "cold", sloUs: 1_000_000 }, null);
  const request = at.arrive("cold");
  at.runFor(500_000);
  assert.equal(request.state, "queued");
  at.load("gpu", "cold", linear(1000, 5000, 4));
  assert.equal(request.startUs, 500_000);
});

test("requests for a cold model end by their deadline: shed where explicit, demoted where not", () => {
  const at = world();
  at.model({ model: "cold", sloUs: 20_000 }, null);
  const explicit = at.arrive("cold", { inUs: 10_000 });
  const implicit = at.arrive("cold");
  at.runFor(30_000);
  assert.equal(explicit.cause, "late");
  assert.ok(explicit.endUs <= 10_001);
  assert.equal(implicit.demoted, true);
  at.load("gpu", "cold", linear(1000, 5000, 4));
  at.runFor(10_000);
  assert.equal(implicit.state, "answered");
});

test("removing a model sheds what it has queued", () => {
  const at = world();
  at.arrive("other");
  const queued = [at.arrive("m"), at.arrive("m", { inUs: null })];
  at.removeModel("m");
  for (const request of queued) assert.equal(request.cause, "unloaded");
  assert.equal(at.arrive("m", { inUs: 1000 }).cause, "unloaded");
});

test("an execution that overruns does not leave requests without an end", () => {
  const at = new World({ durationUs: () => 1_000_000 });
  at.lane("gpu");
  at.model({ model: "m" }, linear(1000, 5000, 8));
  at.arrive("m");
  const request = at.arrive("m", { inUs: 50_000 });
  at.runFor(60_000);
  assert.equal(request.cause, "late");
  assert.ok(request.endUs <= 50_000, "told before its deadline");
});
