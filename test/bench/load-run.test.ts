import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type LoadRecord, LoadRun, type LoadRunOptions } from "../../bench/load/load-run.ts";
import type { LoadPlan, PlannedBacklog, PlannedRequest } from "../../bench/load/plan.ts";
import { type LoadResult, loadResult } from "../../bench/load/result.ts";
import type { CallOutcome } from "../../bench/load/target.ts";
import { ANSWERED, VirtualClock, VirtualTarget } from "./virtual-load.ts";

function request(atUs: number, more: Partial<PlannedRequest> = {}): PlannedRequest {
  return { atUs, model: "m", tenant: "", items: 1, deadlineUs: 50_000, stated: true, ...more };
}

function plan(requests: readonly PlannedRequest[], more: Partial<LoadPlan> = {}): LoadPlan {
  return { seed: 1, requests, backlogs: [], models: ["m"], warmupUs: 0, measureUs: 1_000_000, ...more };
}

function backlog(more: Partial<PlannedBacklog> = {}): PlannedBacklog {
  return { model: "m", tenant: "", items: 1, outstandingMax: 3, count: Number.POSITIVE_INFINITY, ...more };
}

type Behaviour = ConstructorParameters<typeof VirtualTarget>[1];

function setUp(behave: Behaviour): { clock: VirtualClock; target: VirtualTarget } {
  const clock = new VirtualClock();
  return { clock, target: new VirtualTarget(clock, behave) };
}

function run(
  { clock, target }: { clock: VirtualClock; target: VirtualTarget },
  of: LoadPlan,
  more: Partial<LoadRunOptions> = {},
): Promise<LoadRecord> {
  return clock.until(new LoadRun({ plan: of, target, clock, drainUs: 5_000_000, ...more }).run());
}

const figures = (record: LoadRecord, model = "m") => record.models.get(model)!.figures(record.measuredUs / 1e6);
const timings = (batchItems: number) => ({ batchItems, bucket: batchItems, queueUs: 0, executeUs: 0, lane: "gpu0" });

function resultOf(record: LoadRecord): LoadResult {
  const run_ = { scenario: "s", seed: 1, scale: 1, target: "t", transport: "stream", started_at: "", warmup_s: 0 };
  return loadResult({ run: run_, record, lagMsMax: 5, devices: {}, served: new Map() });
}

describe("load run", () => {
  it("sends each request at its time, however long the earlier ones take", async () => {
    const world = setUp(() => ({ afterUs: 900_000, outcome: ANSWERED }));
    await run(world, plan([request(0), request(1_000), request(1_500), request(700_000)]));
    const first = world.target.calls[0]!.sentUs;
    assert.deepEqual(
      world.target.calls.map(({ sentUs }) => sentUs - first),
      [0, 1_000, 1_500, 700_000],
    );
  });

  it("tells on time, late, shed and errors apart, and their causes and codes", async () => {
    const ends: { afterUs: number; outcome: CallOutcome }[] = [
      { afterUs: 50_000, outcome: ANSWERED },
      { afterUs: 50_001, outcome: ANSWERED },
      { afterUs: 10, outcome: { type: "shed", cause: "late" } },
      { afterUs: 10, outcome: { type: "shed", cause: "queue_items" } },
      { afterUs: 10, outcome: { type: "shed", cause: "late" } },
      { afterUs: 10, outcome: { type: "error", code: "INTERNAL", message: "the first message" } },
      { afterUs: 10, outcome: { type: "error", code: "INTERNAL", message: "another" } },
    ];
    const world = setUp((_, n) => ends[n]!);
    const record = await run(world, plan(ends.map((_, n) => request(n * 100_000))));
    const { offered, on_time, late, shed, errors, shed_causes, error_codes, attainment, latency_ms } = figures(record);
    assert.deepEqual({ offered, on_time, late, shed, errors }, { offered: 7, on_time: 1, late: 1, shed: 3, errors: 2 });
    assert.deepEqual(shed_causes, { late: 2, queue_items: 1 });
    assert.deepEqual(error_codes, { INTERNAL: 2 });
    assert.equal(attainment, 1 / 7);
    assert.equal(latency_ms.max > 49.9 && latency_ms.max < 50.1, true, `max ${latency_ms.max}`);
    assert.deepEqual([...record.errorExamples], [["INTERNAL", "the first message"]]);
  });

  it("counts latency from the scheduled time and takes the generator's delay from the deadline it states", async () => {
    const world = setUp(() => ({ afterUs: 45_000, outcome: ANSWERED }));
    world.clock.wakeDelayUs = 10_000;
    const record = await run(world, plan([request(100_000)]));
    assert.equal(world.target.calls[0]!.deadlineMs, 40);
    const { late, on_time, latency_ms } = figures(record);
    assert.deepEqual({ late, on_time }, { late: 1, on_time: 0 });
    assert.ok(Math.abs(latency_ms.p50 - 55) < 0.1, `p50 ${latency_ms.p50}`);
  });

  it("marks a run invalid where its own lag was too large, and only there", async () => {
    const result = async (wakeDelayUs: number) => {
      const world = setUp(() => ({ afterUs: 1_000, outcome: ANSWERED }));
      world.clock.wakeDelayUs = wakeDelayUs;
      const record = await run(world, plan(Array.from({ length: 50 }, (_, n) => request(n * 20_000))));
      return resultOf(record);
    };
    const punctual = await result(300);
    assert.equal(punctual.valid, true);
    assert.ok(punctual.generator_lag_ms.p99 < 0.4);
    const behind = await result(8_000);
    assert.equal(behind.valid, false);
    assert.match(behind.problems[0]!, /could not keep to its schedule.*8\.0 ms.*limit 5 ms/);
  });

  it("marks a run invalid in which nothing was measured", async () => {
    const behaviour = () => ({ afterUs: 1_000, outcome: ANSWERED });
    const none = resultOf(await run(setUp(behaviour), plan([])));
    assert.equal(none.valid, false);
    assert.match(none.problems[0]!, /^no request was measured: the scenario has none in that time/);
    const stop = new AbortController();
    const world = setUp(behaviour);
    world.clock.after(400_000, () => stop.abort());
    const early = await run(world, plan([request(0), request(600_000)], { warmupUs: 500_000 }), {
      signal: stop.signal,
    });
    assert.equal(world.target.calls.length, 1);
    assert.match(resultOf(early).problems[0]!, /^no request was measured: the run was stopped before one had ended/);
    const filled = resultOf(await run(setUp(behaviour), plan([], { backlogs: [backlog()] })));
    assert.equal(filled.valid, true, "work without deadlines is measured as well");
  });

  it("states no deadline where the scenario leaves it to the model, and still judges by the SLO", async () => {
    const world = setUp(() => ({ afterUs: 60_000, outcome: ANSWERED }));
    const record = await run(world, plan([request(0, { stated: false })]));
    assert.equal(world.target.calls[0]!.deadlineMs, null);
    assert.equal(figures(record).late, 1);
  });

  it("sends warm-up requests without counting them", async () => {
    const world = setUp(() => ({ afterUs: 1_000, outcome: ANSWERED }));
    const edges: [string, number][] = [];
    const record = await run(world, plan([request(0), request(499_999), request(500_000)], { warmupUs: 500_000 }), {
      onWindow: (edge) => edges.push([edge, world.clock.nowUs()]),
    });
    assert.equal(world.target.calls.length, 3);
    assert.equal(figures(record).offered, 1);
    assert.equal(record.measuredUs, 1_000_000);
    assert.deepEqual(
      edges.map(([edge]) => edge),
      ["begin", "end"],
    );
    assert.equal(edges[1]![1] - edges[0]![1], 1_000_000);
  });

  it("waits for the answers of the window's last requests", async () => {
    const world = setUp(() => ({ afterUs: 2_000_000, outcome: ANSWERED }));
    const record = await run(world, plan([request(999_999)]));
    assert.equal(figures(record).late, 1);
    assert.equal(record.measuredUs, 1_000_000);
  });

  it("counts as errors what is never answered", async () => {
    const world = setUp(() => null);
    const record = await run(world, plan([request(0)]), { drainUs: 3_000_000 });
    assert.deepEqual(figures(record).error_codes, { UNANSWERED: 1 });
    assert.match(record.errorExamples.get("UNANSWERED")!, /no answer within 3 s/);
  });

  it("stops when told to, with what has ended by then", async () => {
    const world = setUp((_, n) => (n < 2 ? { afterUs: 1_000, outcome: ANSWERED } : null));
    const stop = new AbortController();
    world.clock.after(200_000 + 350_000, () => stop.abort());
    const requests = Array.from({ length: 10 }, (_, n) => request(n * 100_000));
    const record = await run(world, plan(requests), { signal: stop.signal });
    assert.equal(record.interrupted, true);
    assert.equal(world.target.calls.length, 4);
    assert.equal(figures(record).offered, 2);
    assert.equal(record.measuredUs, 350_000);
  });

  it("keeps a best-effort backlog full, apart from requests with deadlines", async () => {
    const world = setUp(({ bestEffort }) =>
      bestEffort ? { afterUs: 100_000, outcome: { type: "answered", timings: timings(3) } } : null,
    );
    const record = await run(world, plan([], { backlogs: [backlog()] }));
    const { offered, best_effort, batch_size_mean } = figures(record);
    assert.equal(offered, 0);
    assert.ok(world.target.calls.every(({ deadlineMs }) => deadlineMs === null));
    // Three outstanding at a time, 100 ms each, for one second; what is answered at its very end may fall on either side.
    assert.ok(best_effort.answered >= 27 && best_effort.answered <= 30, `answered ${best_effort.answered}`);
    assert.equal(best_effort.items_per_s, best_effort.answered);
    assert.equal(Math.round(batch_size_mean! * 1000), 3000);
  });

  it("sends a counted backlog once", async () => {
    const world = setUp(() => ({ afterUs: 10_000, outcome: ANSWERED }));
    await run(world, plan([], { backlogs: [backlog({ count: 7 })] }));
    assert.equal(world.target.calls.length, 7);
  });

  it("lets a backlog rest after a refusal instead of asking again at once", async () => {
    const world = setUp(() => ({ afterUs: 10, outcome: { type: "shed", cause: "queue_items" } }));
    const record = await run(world, plan([], { backlogs: [backlog()] }));
    const { length } = world.target.calls;
    assert.ok(length > 30 && length < 90, `${length} calls in a second`);
    assert.ok(figures(record).best_effort.shed > 0);
  });

  it("reports the mean batch size over executions, not over requests", async () => {
    // One execution of three requests and one of a single: their mean is 2, although three in four requests saw 3.
    const world = setUp((_, n) => ({ afterUs: 1_000, outcome: { type: "answered", timings: timings(n < 3 ? 3 : 1) } }));
    const record = await run(world, plan([request(0), request(0), request(0), request(500_000)]));
    assert.equal(figures(record).batch_size_mean, 2);
  });
});
