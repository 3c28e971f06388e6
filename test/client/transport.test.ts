import assert from "node:assert/strict";
import { afterEach, describe, it, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import {
  type InferOptions,
  type InferResult,
  SlacklineClient,
  type SlacklineClientOptions,
  SlacklineError,
  tensor,
} from "slackline-client";
import { type Behaviour, FakeDaemon, type FakeDaemonOptions } from "./fake-daemon.ts";

const cleanup: (() => void)[] = [];
afterEach(() => {
  for (const undo of cleanup.splice(0)) undo();
});

async function startDaemon(options: FakeDaemonOptions = {}): Promise<FakeDaemon> {
  const daemon = await FakeDaemon.start(options);
  cleanup.push(() => daemon.kill());
  return daemon;
}

function connect(options: SlacklineClientOptions): SlacklineClient {
  const client = new SlacklineClient(options);
  cleanup.push(() => client.close());
  return client;
}

const int = (value: number) => ({ x: tensor.int32([1], Int32Array.of(value)) });
const intOf = (result: InferResult): number => result.output("x", "INT32").data[0]!;

async function failure(promise: Promise<unknown>): Promise<SlacklineError> {
  const error = await promise.then(
    () => assert.fail("it should have failed"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SlacklineError, String(error));
  return error;
}

/** Deterministic numbers in 0..1. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function shuffled(count: number, seed: number): number[] {
  const next = random(seed);
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

for (const transport of ["stream", "unary"] as const) {
  describe(`a client over ${transport}`, { timeout: 60_000 }, () => {
    it("gives each request its own answer, in whatever order they complete", async (t) => {
      const seed = Math.floor(Math.random() * 2 ** 32);
      t.diagnostic(`seed ${seed}`);
      const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: daemon.target, transport });
      const count = 300;
      const all = Promise.all(Array.from({ length: count }, (_, i) => client.infer("m", int(i)).then(intOf)));
      await daemon.until(() => daemon.held === count);
      daemon.release(shuffled(count, seed));
      assert.deepEqual(
        await all,
        Array.from({ length: count }, (_, i) => i),
      );
      assert.ok(daemon.arrivals.every(({ via }) => via === transport));
    });

    it("tells the daemon the deadline, and gives up when no answer comes", async () => {
      const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: daemon.target, transport, graceMs: 10 });
      await client.waitForReady();
      const error = await failure(client.infer("slow", int(1), { deadlineMs: 150 }));
      assert.equal(error.code, "DEADLINE_EXCEEDED");
      assert.equal(error.reason, "no_answer");
      assert.match(error.message, /'slow' gave no answer by the deadline of 150 ms/);
      const [arrival] = daemon.arrivals;
      const stated = Number(arrival!.request.parameters.deadline_ms?.int64_param);
      assert.ok(stated > 0 && stated <= 150, `deadline_ms is ${stated}`);
      if (transport === "unary") assert.ok(arrival!.grpcDeadlineMs <= 160);
      await daemon.until(() => daemon.cancelled.length === 1);
    });

    it("takes an answer that comes within the grace after the deadline, and says how late it is", async () => {
      const daemon = await startDaemon();
      daemon.behave = () => ({ type: "echo", parameters: { slackline_late_us: { int64_param: 2500 } } });
      const client = connect({ target: daemon.target, transport });
      const result = await client.infer("m", int(1), { deadlineMs: 5_000 });
      assert.equal(result.lateMs, 2.5);
      assert.equal(result.timings, undefined);
    });

    it("tells an answer that was cached from one that was executed", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport });
      assert.equal((await client.infer("m", int(1))).cached, false);
      daemon.behave = () => ({ type: "echo", parameters: { slackline_cache_hit: { bool_param: true } } });
      assert.equal((await client.infer("m", int(1))).cached, true);
    });

    it("applies the client's deadline to requests without one", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport, deadlineMs: 60_000 });
      await client.infer("m", int(1));
      await client.infer("m", int(1), { deadlineMs: Number.POSITIVE_INFINITY });
      const [first, second] = daemon.arrivals;
      assert.ok(Number(first!.request.parameters.deadline_ms?.int64_param) > 50_000);
      assert.equal(second!.request.parameters.deadline_ms, undefined);
    });

    it("cancels what its signal aborts, at the daemon too", async () => {
      const daemon = await startDaemon({
        behave: (request) => (request.model_name === "stuck" ? { type: "hold" } : { type: "echo" }),
      });
      const client = connect({ target: daemon.target, transport });
      const controller = new AbortController();
      const { signal } = controller;
      const stuck = Array.from({ length: 20 }, () => failure(client.infer("stuck", int(1), { signal })));
      const other = client.infer("m", int(2), { signal });
      await daemon.until(() => daemon.held === 20);
      assert.equal(intOf(await other), 2);
      controller.abort("changed my mind");
      for (const error of await Promise.all(stuck)) {
        assert.equal(error.code, "CANCELLED");
        assert.equal(error.reason, "aborted");
        assert.equal(error.cause, "changed my mind");
      }
      await daemon.until(() => daemon.cancelled.length === 20);
      daemon.release();
      assert.equal((await failure(client.infer("m", int(1), { signal }))).reason, "aborted");
      assert.equal(intOf(await client.infer("m", int(3))), 3);
    });

    it("reports the daemon's errors with cause and retry hint", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport });
      daemon.behave = () => ({
        type: "error",
        code: "RESOURCE_EXHAUSTED",
        message: "queue_items_max of 'm' is 64",
        cause: "queue_items",
        retryAfterMs: 40,
      });
      const shed = await failure(client.infer("m", int(1), { deadlineMs: 5_000 }));
      assert.deepEqual(
        [shed.name, shed.code, shed.reason, shed.retryAfterMs, shed.message],
        ["SlacklineError", "RESOURCE_EXHAUSTED", "queue_items", 40, "queue_items_max of 'm' is 64"],
      );
      daemon.behave = () => ({
        type: "error",
        code: "NOT_FOUND",
        message: "Request for unknown model: 'x' is not found",
      });
      const unknown = await failure(client.infer("x", int(1)));
      assert.deepEqual(
        [unknown.code, unknown.reason, unknown.retryAfterMs, unknown.message],
        ["NOT_FOUND", undefined, undefined, "Request for unknown model: 'x' is not found"],
      );
      assert.equal(daemon.arrivals.length, 2);
    });

    it("waits for a daemon that starts late", async () => {
      const first = await startDaemon();
      const { port, target } = first;
      first.kill();
      const client = connect({ target, transport });
      const answers = Promise.all(
        [1, 2, 3].map((value) => client.infer("m", int(value), value === 3 ? {} : { deadlineMs: 20_000 }).then(intOf)),
      );
      await startDaemon({ port });
      assert.deepEqual(await answers, [1, 2, 3]);
    });

    it("says UNAVAILABLE when the deadline leaves no time to reach a daemon", async () => {
      const gone = await startDaemon();
      gone.kill();
      const client = connect({ target: gone.target, transport, connectTimeoutMs: 80 });
      const withDeadline = await failure(client.infer("m", int(1), { deadlineMs: 100 }));
      assert.deepEqual([withDeadline.code, withDeadline.reason], ["UNAVAILABLE", "no_connection"]);
      assert.match(withDeadline.message, /by the deadline of 100 ms: 127\.0\.0\.1:\d+: .*ECONNREFUSED/);
      const without = await failure(client.infer("m", int(1)));
      assert.equal(without.code, "UNAVAILABLE");
      assert.match(without.message, /within 80 ms \(connectTimeoutMs\)/);
    });

    it("loses no request when the daemon dies and comes back", async () => {
      const first = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: first.target, transport });
      const count = 100;
      const answers = Promise.all(
        Array.from({ length: count }, (_, i) => client.infer("m", int(i), { deadlineMs: 20_000 }).then(intOf)),
      );
      await first.until(() => first.held === count);
      first.kill();
      const second = await startDaemon({ port: first.port });
      assert.deepEqual(
        await answers,
        Array.from({ length: count }, (_, i) => i),
      );
      const left = second.arrivals.map(({ request }) => Number(request.parameters.deadline_ms?.int64_param));
      assert.ok(left.every((ms) => ms > 0 && ms < 20_000));
    });

    it("fails a request alone that can't be sent again, since its tensor is gone", async () => {
      const first = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: first.target, transport, streams: 1 });
      const moved = int(0);
      const requests = [int(1), moved, int(2), int(3)].map((inputs) => client.infer("m", inputs).then(intOf));
      const bad = failure(requests.splice(1, 1)[0]!);
      await first.until(() => first.held === 4);
      structuredClone(moved.x.data, { transfer: [moved.x.data.buffer as ArrayBuffer] });
      first.kill();
      await startDaemon({ port: first.port });
      assert.deepEqual(await Promise.all(requests), [1, 2, 3]);
      const { code, message } = await bad;
      assert.equal(code, "INVALID_ARGUMENT");
      assert.match(message, /the request for model 'm' can't be encoded: .*detached/);
    });

    it("tries a shed request on another daemon while its deadline leaves time", async () => {
      const shed = { type: "error", code: "RESOURCE_EXHAUSTED", message: "full", cause: "queue_items" } as const;
      const full = await startDaemon({ behave: () => shed });
      const idle = await startDaemon();
      const client = connect({ targets: [full.target, idle.target], transport });
      await client.waitForReady();
      await Promise.all([full, idle].map((daemon) => client.serverMetadata({ target: daemon.target })));
      const count = 40;
      const answers = await Promise.all(
        Array.from({ length: count }, (_, i) => client.infer("m", int(i), { deadlineMs: 10_000 }).then(intOf)),
      );
      assert.deepEqual(
        answers,
        Array.from({ length: count }, (_, i) => i),
      );
      assert.ok(full.arrivals.length > 0);
      assert.equal(idle.arrivals.length, count);

      idle.behave = () => shed;
      const before = full.arrivals.length + idle.arrivals.length;
      assert.equal((await failure(client.infer("m", int(1)))).reason, "queue_items");
      assert.equal(full.arrivals.length + idle.arrivals.length, before + 2);
      assert.equal((await failure(client.infer("m", int(1), { retry: false }))).reason, "queue_items");
      assert.equal(full.arrivals.length + idle.arrivals.length, before + 3);
    });

    it("goes back to the daemon that shed a request when the other one dies", async () => {
      const full: Behaviour = { type: "error", code: "RESOURCE_EXHAUSTED", message: "full", cause: "queue_items" };
      const shedding = await startDaemon({ behave: () => full });
      const dying = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ targets: [shedding.target, dying.target], transport, streams: 1 });
      await client.waitForReady();
      const all = [1, 2, 3].map((i) => client.infer("m", int(i), { deadlineMs: 60_000 }).then(intOf));
      await dying.until(() => dying.held === 3);
      assert.ok(shedding.arrivals.length > 0);
      shedding.behave = () => ({ type: "echo" });
      dying.kill();
      assert.deepEqual(await Promise.all(all), [1, 2, 3]);
      assert.equal(intOf(await client.infer("m", int(4), { deadlineMs: 60_000 })), 4);
    });

    it("comes back to a daemon that says when", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport });
      let refusals = 0;
      daemon.behave = () =>
        refusals++ < 2
          ? { type: "error", code: "UNAVAILABLE", message: "device restarting", cause: "restarting", retryAfterMs: 5 }
          : { type: "echo" };
      assert.equal(intOf(await client.infer("m", int(4), { deadlineMs: 10_000 })), 4);
      refusals = 0;
      const error = await failure(client.infer("m", int(4), { deadlineMs: 4 }));
      assert.ok(["UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(error.code));
    });

    it("takes what a daemon with `errors: triton` sheds for shed, not for a daemon that will be there again", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport });
      const codes = { late: "DEADLINE_EXCEEDED", queue_items: "RESOURCE_EXHAUSTED", overloaded: "RESOURCE_EXHAUSTED" };
      for (const [cause, code] of Object.entries(codes)) {
        daemon.behave = () => ({ type: "error", code: "UNAVAILABLE", message: "shed", cause, retryAfterMs: 1 });
        const shed = await failure(client.infer("m", int(1), { deadlineMs: 500 }));
        assert.deepEqual([shed.code, shed.reason, shed.retryAfterMs], [code, cause, 1]);
      }
      assert.equal(daemon.arrivals.length, 3);
    });

    it("comes back to a daemon that restarts, and after a lane was lost, once", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport });
      let refusals = 0;
      let cause = "draining";
      daemon.behave = () =>
        refusals-- > 0 ? { type: "error", code: "UNAVAILABLE", message: "not now", cause } : { type: "echo" };
      refusals = 4;
      assert.equal(intOf(await client.infer("m", int(4))), 4);
      cause = "lost";
      refusals = 1;
      assert.equal(intOf(await client.infer("m", int(5))), 5);
      refusals = 2;
      assert.equal((await failure(client.infer("m", int(5)))).reason, "lost");
      cause = "not_ready";
      refusals = 1;
      assert.equal((await failure(client.infer("m", int(5)))).reason, "not_ready");
    });

    it("loses no request without a deadline, however often the daemon dies that has it", async (t) => {
      let daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: daemon.target, transport });
      const answer = client.infer("m", int(7)).then(intOf);
      const { now } = performance;
      let laterMs = 0;
      t.mock.method(performance, "now", () => now.call(performance) + laterMs);
      for (let deaths = 0; deaths < 3; deaths++) {
        await daemon.until(() => daemon.held === 1);
        // An hour in the daemon's queue.
        laterMs += 3_600_000;
        daemon.kill();
        daemon = await startDaemon({ port: daemon.port, behave: () => ({ type: "hold" }) });
      }
      await daemon.until(() => daemon.held === 1);
      daemon.release();
      assert.equal(await answer, 7);
    });

    it("gives up a request without a deadline that no daemon keeps", async (t) => {
      let laterMs = 0;
      const { now } = performance;
      t.mock.method(performance, "now", () => now.call(performance) + laterMs);
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport, connectTimeoutMs: 2_000 });
      daemon.behave = () => {
        laterMs += 500;
        return { type: "break", code: "UNAVAILABLE" };
      };
      assert.equal((await failure(client.infer("m", int(1)))).code, "UNAVAILABLE");
    });

    it("gives a request another chance after a lane was lost, whatever it lost before", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport });
      let attempts = 0;
      daemon.behave = () => {
        attempts++;
        if (attempts === 1) return { type: "break", code: "UNAVAILABLE" };
        if (attempts === 2)
          return { type: "error", code: "UNAVAILABLE", message: "the device was lost", cause: "lost" };
        return { type: "echo" };
      };
      assert.equal(intOf(await client.infer("m", int(8))), 8);
      assert.equal(attempts, 3);
    });

    it("tries a request whose lane was lost once more, however many daemons there are", async () => {
      const lost: Behaviour = { type: "error", code: "UNAVAILABLE", message: "the device was lost", cause: "lost" };
      const daemons = await Promise.all(Array.from({ length: 4 }, () => startDaemon({ behave: () => lost })));
      const targets = daemons.map(({ target }) => target);
      const attempts = (): number => daemons.reduce((sum, { arrivals }) => sum + arrivals.length, 0);
      const several = connect({ targets, transport });
      for (const target of targets) await several.serverMetadata({ target });
      assert.equal((await failure(several.infer("m", int(1)))).reason, "lost");
      assert.equal(attempts(), 2);
      assert.equal((await failure(several.infer("m", int(1), { retry: false }))).reason, "lost");
      assert.equal(attempts(), 3);
      const byName = connect({ target: `dns:///${targets[0]}`, transport });
      assert.equal((await failure(byName.infer("m", int(1)))).reason, "lost");
      assert.equal(attempts(), 5);
    });

    it("sends less to a daemon that stays silent, and more again once it answers", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport, streams: 1, graceMs: 0 });
      for (let i = 0; i < 10; i++) await client.infer("m", int(i), { deadlineMs: 60_000 });
      daemon.behave = () => ({ type: "hold" });
      const burst = (deadlineMs: number) =>
        Promise.allSettled(Array.from({ length: 400 }, (_, i) => client.infer("m", int(i), { deadlineMs })));

      for (const { status, reason } of (await burst(100)) as PromiseRejectedResult[]) {
        assert.deepEqual([status, (reason as SlacklineError).reason], ["rejected", "no_answer"]);
      }
      await daemon.until(() => daemon.arrivals.length === 410);
      const held = burst(1_000);
      await daemon.until(() => daemon.arrivals.length > 410);
      await pause(100);
      const sent = daemon.arrivals.length - 410;
      assert.ok(sent <= 200, `${sent} of 400 were sent`);

      daemon.behave = () => ({ type: "echo" });
      daemon.release();
      await held;
      for (const { status } of await burst(60_000)) assert.equal(status, "fulfilled");
    });

    it("sends on where one model takes long and others are answered", async () => {
      const behave: FakeDaemonOptions["behave"] = ({ model_name }) => ({
        type: model_name === "slow" ? "hold" : "echo",
      });
      const daemon = await startDaemon({ behave });
      const client = connect({ target: daemon.target, transport, streams: 1, graceMs: 0 });
      await client.waitForReady();
      const slow = Array.from({ length: 8 }, (_, i) =>
        client.infer("slow", int(i), { deadlineMs: 100 }).then(
          () => "answered",
          (error: SlacklineError) => error.reason,
        ),
      );
      await client.infer("m", int(1), { deadlineMs: 60_000 });
      assert.deepEqual(new Set(await Promise.all(slow)), new Set(["no_answer"]));
      daemon.behave = () => ({ type: "hold" });
      const many = Array.from({ length: 100 }, (_, i) =>
        client.infer("many", int(i), { deadlineMs: 60_000 }).then(intOf),
      );
      await daemon.until(() => daemon.held === 108);
      daemon.release();
      assert.equal((await Promise.all(many)).length, 100);
    });

    it("takes deadlines of any length", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport });
      for (const deadlineMs of [0.9e9, 2 ** 32, 1e12]) {
        assert.equal(intOf(await client.infer("m", int(6), { deadlineMs })), 6);
      }
    });

    it("spreads requests over its targets", async () => {
      const daemons = await Promise.all([startDaemon(), startDaemon(), startDaemon()]);
      for (const daemon of daemons) daemon.behave = () => ({ type: "hold" });
      const client = connect({ targets: daemons.map(({ target }) => target), transport });
      for (const { target } of daemons) await client.serverMetadata({ target });
      const count = 30;
      const all = Promise.all(Array.from({ length: count }, (_, i) => client.infer("m", int(i))));
      await Promise.all(daemons.map((daemon) => daemon.until(() => daemon.held === count / 3)));
      for (const daemon of daemons) daemon.release();
      await all;
    });

    it("spreads requests over the addresses of one name", async () => {
      const daemons = await Promise.all([startDaemon(), startDaemon()]);
      const client = connect({ target: `ipv4:${daemons.map(({ target }) => target).join(",")}`, transport });
      // Addresses connect one after the other: ask until both have been reached.
      while (daemons.some(({ arrivals }) => arrivals.length === 0)) {
        await Promise.all(Array.from({ length: 8 }, (_, i) => client.infer("m", int(i))));
        if (daemons.some(({ arrivals }) => arrivals.length === 0))
          for (const daemon of daemons) daemon.breakStreams("OK");
      }
    });

    it("names the tenant, the client's or the request's own", async () => {
      const daemon = await startDaemon();
      const client = connect({ target: daemon.target, transport, tenant: "acme", metadata: { "x-team": "search" } });
      await client.infer("m", int(1));
      await client.infer("m", int(1), { tenant: "globex" });
      await client.infer("m", int(1), { metadata: { "x-trace": "t1" } });
      const seen = daemon.arrivals.map(({ metadata }) =>
        ["slackline-tenant", "x-team", "x-trace"].map((key) => metadata.get(key)[0]),
      );
      assert.deepEqual(seen, [
        ["acme", "search", undefined],
        ["globex", "search", undefined],
        ["acme", "search", "t1"],
      ]);
      assert.equal(daemon.arrivals[2]!.via, "unary");
    });

    it("asks for timings and reads them", async () => {
      const daemon = await startDaemon();
      const int64 = (value: number) => ({ int64_param: value });
      daemon.behave = (request) => ({
        type: "echo",
        parameters: request.parameters.slackline_timings?.bool_param
          ? {
              slackline_queue_us: int64(1200),
              slackline_gather_us: int64(10),
              slackline_execute_us: int64(7000),
              slackline_collect_us: int64(20),
              slackline_batch_items: int64(6),
              slackline_bucket: int64(8),
              slackline_lane: { string_param: "gpu0" },
              slackline_wait_blocked_us: int64(1000),
              slackline_wait_blocked_by: { string_param: "resnet18/1" },
              slackline_wait_own_batches_us: int64(150),
              slackline_wait_mispredicted_us: int64(30),
              slackline_wait_held_us: int64(50),
            }
          : {},
      });
      const client = connect({ target: daemon.target, transport });
      assert.equal((await client.infer("m", int(1))).timings, undefined);
      assert.deepEqual((await client.infer("m", int(1), { timings: true, bestEffort: true })).timings, {
        queueUs: 1200,
        gatherUs: 10,
        executeUs: 7000,
        collectUs: 20,
        batchItems: 6,
        bucket: 8,
        lane: "gpu0",
        waited: { blockedUs: 1000, blockedBy: "resnet18/1", ownBatchesUs: 150, mispredictedUs: 30, heldUs: 50 },
      });
      assert.equal(daemon.arrivals[1]!.request.parameters.best_effort?.bool_param, true);
    });

    it("rejects what is outstanding when closed, and everything after", async () => {
      const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: daemon.target, transport });
      const outstanding = failure(client.infer("m", int(1)));
      await daemon.until(() => daemon.held === 1);
      client.close();
      assert.deepEqual([(await outstanding).code, (await outstanding).reason], ["CANCELLED", "closed"]);
      assert.equal((await failure(client.infer("m", int(1)))).reason, "closed");
      await assert.rejects(client.ready(), /closed/);
      client.close();
    });

    it("limits how many requests wait for a connection", async () => {
      const gone = await startDaemon();
      gone.kill();
      const client = connect({ target: gone.target, transport, queueMax: 2 });
      const waiting = [1, 2].map((value) => failure(client.infer("m", int(value), { deadlineMs: 200 })));
      const refused = await failure(client.infer("m", int(3), { deadlineMs: 200 }));
      assert.deepEqual([refused.code, refused.reason], ["RESOURCE_EXHAUSTED", "client_queue"]);
      for (const error of await Promise.all(waiting)) assert.equal(error.code, "UNAVAILABLE");
    });
  });
}

describe("streams", { timeout: 60_000 }, () => {
  for (const code of ["OK", "UNAVAILABLE", "INTERNAL", "UNKNOWN"] as const) {
    it(`that end with ${code} lose no request`, async () => {
      const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: daemon.target });
      const count = 50;
      const answers = Promise.all(Array.from({ length: count }, (_, i) => client.infer("m", int(i)).then(intOf)));
      await daemon.until(() => daemon.held === count);
      daemon.behave = () => ({ type: "echo" });
      daemon.breakStreams(code);
      assert.deepEqual(
        await answers,
        Array.from({ length: count }, (_, i) => i),
      );
      assert.equal(intOf(await client.infer("m", int(7))), 7);
    });
  }

  it("deliver the answers that were sent before the server ended them", async () => {
    const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
    const client = connect({ target: daemon.target });
    const count = 50;
    const answers = Promise.all(Array.from({ length: count }, (_, i) => client.infer("m", int(i)).then(intOf)));
    await daemon.until(() => daemon.held === count);
    daemon.release();
    daemon.breakStreams("OK");
    await answers;
    assert.equal(daemon.arrivals.length, count);
  });

  it("are reopened again and again", async () => {
    const daemon = await startDaemon();
    const client = connect({ target: daemon.target, streams: 1 });
    for (let i = 0; i < 20; i++) {
      assert.equal(intOf(await client.infer("m", int(i))), i);
      daemon.breakStreams(i % 2 === 0 ? "OK" : "UNAVAILABLE");
    }
    assert.equal(daemon.arrivals.length, 20);
  });

  describe("that are full", () => {
    /** A client with one stream and 3,000 requests of a kind, of which some wait; the daemon answers none. */
    async function filled(options: InferOptions) {
      const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: daemon.target, streams: 1, connectTimeoutMs: 20 });
      await client.waitForReady();
      await connected(client, daemon);
      const many = Array.from({ length: 3_000 }, (_, i) => client.infer("m", int(i), options).then(intOf));
      await daemon.until(() => daemon.held > 1_000);
      return { daemon, client, many };
    }

    /** Once a request has been answered, the stream is open. */
    async function connected(client: SlacklineClient, daemon: FakeDaemon): Promise<void> {
      const first = client.infer("first", int(0), { deadlineMs: 60_000 });
      await daemon.until(() => daemon.held === 1);
      daemon.release();
      await first;
    }

    /** Requests of a model that have reached the daemon. */
    const arrived = (daemon: FakeDaemon, model = "m"): number =>
      daemon.arrivals.filter(({ request }) => request.model_name === model).length;

    it("of background work still take the rest, and of what has no deadline what has one", async () => {
      const { daemon, client, many } = await filled({ bestEffort: true });
      const plain = client.infer("plain", int(1)).then(intOf);
      await daemon.until(() => arrived(daemon, "plain") === 1);
      assert.equal(arrived(daemon), 1_024);
      const more = Array.from({ length: 3_000 }, (_, i) => client.infer("more", int(i)).then(intOf));
      await daemon.until(() => arrived(daemon, "more") > 1_000);
      const urgent = client.infer("urgent", int(2), { deadlineMs: 60_000 }).then(intOf);
      await daemon.until(() => arrived(daemon, "urgent") === 1);
      assert.equal(arrived(daemon) + arrived(daemon, "plain") + arrived(daemon, "more"), 2_048);

      // Whatever room there is goes to the more urgent.
      daemon.behave = () => ({ type: "echo" });
      daemon.release();
      assert.deepEqual(await Promise.all([plain, urgent]), [1, 2]);
      const all = Array.from({ length: 3_000 }, (_, i) => i);
      assert.deepEqual(await Promise.all(more), all);
      assert.deepEqual(await Promise.all(many), all);
      const order = daemon.arrivals.slice(2_050).map(({ request }) => request.model_name);
      assert.ok(order.lastIndexOf("more") < order.indexOf("m"), "background work went before the rest");
    });

    it("let what waits be aborted, and cancel what the daemon has", async () => {
      const controller = new AbortController();
      const { daemon, client, many } = await filled({ bestEffort: true, signal: controller.signal });
      const ends = Promise.all(many.map(failure));
      controller.abort();
      for (const { code } of await ends) assert.equal(code, "CANCELLED");
      await daemon.until(() => daemon.cancelled.length === 1_024);
      const after = client.infer("after", int(3), { bestEffort: true }).then(intOf);
      await daemon.until(() => arrived(daemon, "after") === 1);
      daemon.release();
      assert.equal(await after, 3);
      assert.equal(arrived(daemon), 1_024, "none was sent in place of an aborted one");
    });

    it("let what waits run into its deadline", async () => {
      const { daemon, client, many } = await filled({ bestEffort: true });
      const late = await failure(client.infer("late", int(4), { bestEffort: true, deadlineMs: 20 }));
      assert.deepEqual([late.code, late.reason], ["DEADLINE_EXCEEDED", "client_queue"]);
      assert.equal(arrived(daemon, "late"), 0);
      daemon.behave = () => ({ type: "echo" });
      daemon.release();
      await Promise.all(many);
    });

    it("limit how many wait, each kind for itself", async () => {
      const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: daemon.target, streams: 1, queueMax: 10 });
      await connected(client, daemon);
      const many = Array.from({ length: 1_034 }, (_, i) => client.infer("m", int(i), { bestEffort: true }));
      const refused = await failure(client.infer("m", int(0), { bestEffort: true }));
      assert.deepEqual([refused.code, refused.reason], ["RESOURCE_EXHAUSTED", "client_queue"]);
      const urgent = client.infer("urgent", int(2), { deadlineMs: 60_000 }).then(intOf);
      await daemon.until(() => arrived(daemon, "urgent") === 1);
      daemon.behave = () => ({ type: "echo" });
      daemon.release();
      assert.equal(await urgent, 2);
      await Promise.all(many);
    });
  });

  it("that the server stops reading hold up nobody else", async () => {
    const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
    const client = connect({ target: daemon.target, streams: 2 });
    await client.infer("m", int(0), { deadlineMs: 1 }).catch(() => {});
    await daemon.until(() => daemon.streams.size === 2);
    daemon.behave = () => ({ type: "echo" });
    const [slow] = daemon.streams;
    slow!.pause();
    const big = { x: tensor.uint8([200_000], new Uint8Array(200_000)) };
    let answered = 0;
    const countAnswer = (): void => {
      answered++;
      if (answered === 40) slow!.resume();
    };
    // Some go to the slow stream, which nobody can tell from the other yet; the others are answered while it stands still.
    const all = Array.from({ length: 100 }, (_, i) => client.infer("m", i < 40 ? big : int(i)).then(countAnswer));
    await Promise.all(all);
    assert.equal(answered, 100);
  });

  it("are given no more than they can write, and the rest waits", async () => {
    const daemon = await startDaemon();
    const client = connect({ target: daemon.target, streams: 1 });
    const big = { x: tensor.uint8([2_000_000], new Uint8Array(2_000_000)) };
    const results = await Promise.all(Array.from({ length: 30 }, () => client.infer("m", big)));
    assert.equal(results.length, 30);
    assert.equal(daemon.arrivals.length, 30);
  });

  it("that only swallow requests get no more of them than their share", async () => {
    const daemon = await startDaemon();
    const client = connect({ target: daemon.target, streams: 2, graceMs: 0 });
    let swallowing: unknown = null;
    daemon.behave = (_request, { metadata }) => {
      swallowing ??= metadata;
      return metadata === swallowing ? { type: "hold" } : { type: "echo" };
    };
    for (let i = 0; i < 40; i++) await client.infer("m", int(i), { deadlineMs: 200 }).catch(() => {});
    assert.ok(daemon.held <= 3, `${daemon.held} of 40 went to the stream that answers nothing`);
  });

  it("fail only the request that breaks them", async () => {
    const daemon = await startDaemon({ maxMessageBytes: 100_000 });
    const client = connect({ target: daemon.target });
    const count = 30;
    const good = Array.from({ length: count }, (_, i) => client.infer("m", int(i)).then(intOf));
    const bad = failure(client.infer("m", { x: tensor.uint8([200_000], new Uint8Array(200_000)) }));
    const more = Array.from({ length: count }, (_, i) => client.infer("m", int(i)).then(intOf));
    const { code, message } = await bad;
    assert.equal(code, "RESOURCE_EXHAUSTED");
    assert.match(message, /larger than max/);
    const expected = Array.from({ length: count }, (_, i) => i);
    assert.deepEqual(await Promise.all(good), expected);
    assert.deepEqual(await Promise.all(more), expected);
  });

  describe("that are replaced, since their name may have new addresses,", () => {
    /** A client whose one stream can be made to age, and has one request outstanding. */
    async function replaced(t: TestContext) {
      const age: (() => void)[] = [];
      const { setTimeout } = globalThis;
      t.mock.method(globalThis, "setTimeout", (fn: () => void, ms: number, ...rest: []) => {
        if (ms === 5 * 60_000) age.push(fn);
        return setTimeout(fn, ms, ...rest);
      });
      const daemon = await startDaemon({ behave: () => ({ type: "hold" }) });
      const client = connect({ target: `dns:///${daemon.target}`, streams: 1 });
      const controller = new AbortController();
      const outstanding = client.infer("m", int(1), { signal: controller.signal });
      await daemon.until(() => daemon.held === 1);
      age[0]!();
      await daemon.until(() => daemon.streamsOpened === 2);
      return { daemon, client, outstanding, abort: () => controller.abort() };
    }

    it("end when their last request is answered", async (t) => {
      const { daemon, outstanding } = await replaced(t);
      assert.equal(daemon.streams.size, 2);
      daemon.release();
      assert.equal(intOf(await outstanding), 1);
      await daemon.until(() => daemon.streams.size === 1);
    });

    it("end when their last request is given up", async (t) => {
      const { daemon, outstanding, abort } = await replaced(t);
      abort();
      assert.equal((await failure(outstanding)).reason, "aborted");
      await daemon.until(() => daemon.streams.size === 1);
      assert.equal(daemon.cancelled.length, 1);
    });

    it("are not opened again when they break", async (t) => {
      const { daemon, client, outstanding } = await replaced(t);
      daemon.behave = () => ({ type: "echo" });
      daemon.kill();
      const again = await startDaemon({ port: daemon.port });
      assert.equal(intOf(await outstanding), 1);
      assert.equal(intOf(await client.infer("m", int(2))), 2);
      assert.equal(again.streamsOpened, 1);
    });

    it("are closed with the client", async (t) => {
      const { daemon, client, outstanding } = await replaced(t);
      client.close();
      assert.equal((await failure(outstanding)).reason, "closed");
      await daemon.until(() => daemon.streams.size === 0);
    });
  });

  it("give way to unary calls where the server has none", async () => {
    const daemon = await startDaemon({ streams: false });
    const client = connect({ target: daemon.target });
    for (let i = 0; i < 5; i++) assert.equal(intOf(await client.infer("m", int(i))), i);
    assert.ok(daemon.arrivals.every(({ via }) => via === "unary"));
  });

  it("carry requests to the daemon that is left when another dies", async () => {
    const [dying, staying] = await Promise.all([startDaemon({ behave: () => ({ type: "hold" }) }), startDaemon()]);
    const client = connect({ targets: [dying.target, staying.target] });
    for (const { target } of [dying, staying]) await client.serverMetadata({ target });
    const count = 60;
    const answers = Promise.all(Array.from({ length: count }, (_, i) => client.infer("m", int(i)).then(intOf)));
    await dying.until(() => dying.held >= count / 4);
    dying.kill();
    assert.deepEqual(
      await answers,
      Array.from({ length: count }, (_, i) => i),
    );
  });
});
