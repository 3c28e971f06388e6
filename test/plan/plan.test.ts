import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { withModel } from "../../bench/plan/added-model.ts";
import { liveScenario } from "../../bench/plan/live-scenario.ts";
import { planFor } from "../../bench/plan/plan.ts";
import { changeText, planText, reasonText } from "../../bench/plan/report.ts";
import { parseScenario, type Scenario } from "../../bench/scenario/schema.ts";
import { sampleModel, sampleStatus } from "../bench/sample-status.ts";
import { OVERLOADED, STAND_IN } from "../sim/small-scenario.ts";

const MAIN = fileURLToPath(new URL("../../bench/plan/main.js", import.meta.url));

/** A model whose requests are quick and urgent, and one whose batches take longer than those can wait. */
function scenario(heavyPerS: number): Scenario {
  const light = {
    name: "light",
    max_batch: 16,
    slo_ms: 25,
    profile: { alpha_ms: 0.5, beta_ms: 2 },
    arrivals: { process: "poisson", rate_per_s: 100 },
  };
  const heavy = {
    name: "heavy",
    max_batch: 1,
    slo_ms: 400,
    profile: { points_ms: [[1, 30]] },
    arrivals: { process: "poisson", rate_per_s: heavyPerS },
  };
  return parseScenario(
    { name: "two", warmup_s: 0.5, measure_s: 8, models: heavyPerS === 0 ? [light] : [light, heavy] },
    "two",
  );
}

test("what fits says so, with how much more would fit and who would be late first", () => {
  const plan = planFor(scenario(0));
  assert.ok(plan.fits);
  assert.equal(plan.models[0]!.reasons, null);
  assert.ok(plan.headroom! > 2 && !plan.headroom_open, String(plan.headroom));
  assert.equal(plan.breaks_first?.model, "light");
  assert.match(
    planText(plan),
    /^two fits \(its lane is busy .*headroom: × [\d.]+ \(all rates may grow.*breaks first: light/s,
  );
});

test("where models are cheap, the headroom is searched up to a limit, with runs that stay small", () => {
  const model = (name: string, slo_ms: number, rate_per_s: number) => ({
    name,
    max_batch: 64,
    slo_ms,
    profile: { alpha_ms: 0.001, beta_ms: 0.03 },
    arrivals: { process: "poisson", rate_per_s },
  });
  const cheap = (slo_ms: number, rate_per_s: number) =>
    parseScenario({ name: "cheap", warmup_s: 2, measure_s: 30, models: [model("text", slo_ms, rate_per_s)] }, "cheap");
  const scales: number[] = [];
  const plan = planFor(cheap(100, 80), (scale) => scales.push(scale));
  assert.ok(plan.fits && plan.headroom_open && plan.breaks_first === null);
  assert.deepEqual([plan.headroom, Math.max(...scales)], [100, 100]);
  assert.ok(scales.length <= 12, scales.join(" "));
  assert.match(planText(plan), /headroom: more than × 100\.00 .*no larger one was tried/);
  // With a long SLO a run can't be short, so that less is tried.
  assert.equal(planFor(cheap(1000, 1000)).headroom, 3);
});

test("time of lanes adds up to what the headline says of them", () => {
  const base = scenario(0);
  const plan = planFor({ ...base, devices: [{ ...base.devices[0]!, lanes: 2 }] });
  assert.equal(plan.lanes, 2);
  assert.equal(plan.busy_share, plan.models[0]!.lane_share / 2);
  assert.match(planText(plan), /its 2 lanes are busy [\d.]+ % on average.*of a lane/s);
});

test("a model that misses is told what stood before its requests", () => {
  const plan = planFor(scenario(8));
  assert.ok(!plan.fits);
  const light = plan.models.find(({ name }) => name === "light")!;
  assert.ok(!light.fits && light.reasons !== null);
  assert.equal(light.reasons.before[0]!.model, "heavy");
  assert.ok(light.reasons.before[0]!.share > 0.5 && Math.abs(light.reasons.before[0]!.batch_ms - 30) < 20);
  const shares = light.reasons.before.reduce((sum, { share }) => sum + share, light.reasons.free_share);
  assert.ok(Math.abs(shares - 1) < 0.05, String(shares));
  assert.match(planText(plan), /two does not fit: light.* below 99 % on time.*heavy's batches .* ms each/s);
  assert.match(reasonText("light", light.reasons), /^heavy's batches [\d.]+ %/);
});

test("an added model's cost to the others is told", () => {
  const before = planFor(scenario(0));
  const added = withModel(scenario(0), "more:rate_per_s=8,slo_ms=400,alpha_ms=0,beta_ms=30,max_batch=1");
  const after = planFor(added);
  assert.ok(after.headroom! < before.headroom!);
  assert.match(changeText(before, after), /headroom: × .* before, × .* after\n {2}light: .* on time before/);
  const like = withModel(scenario(0), "twin:rate_per_s=5,like=light").models[1]!;
  assert.deepEqual([like.name, like.slo_ms, like.arrivals?.rate_per_s], ["twin", 25, 5]);
});

test("what --add does not understand is named, with what it takes", () => {
  for (const [text, message] of [
    ["twin", /no settings after a name; it takes a JSON file/],
    ["twin:rate_per_s=5,like=nobody", /no model 'nobody' to be like, only light/],
    ["twin:rate_per_s=fast,like=light", /rate_per_s is a number, not 'fast'/],
    ["twin:speed=5", /'speed=5' is not understood/],
    ["twin:slo_ms=5,like=light", /rate_per_s is missing/],
    ["light:rate_per_s=5,like=light", /'light' is used more than once/],
    ["/nowhere/model.json", /cannot be read as JSON/],
  ] as const) {
    assert.throws(() => withModel(scenario(0), text), message, text);
  }
});

test("a daemon's rates are those between two snapshots", () => {
  const counts = sampleModel("fast").counts;
  const later = { ...counts, requests: 140, on_time: 100, best_effort: 40, items: 280 };
  const before = sampleStatus();
  const replica = sampleModel("spare", { placement: "replica", replica_profile_ms: [[1, 7]], profile_ms: null });
  const loading = sampleModel("later", { state: "LOADING" });
  const models = [sampleModel("fast", { counts: later }), sampleModel("slow"), replica, loading];
  const { scenario: found, notes } = liveScenario(before, sampleStatus({ now_us: 11_000_000, models }), "here:8001");
  assert.deepEqual(found.models[0]!.arrivals, { process: "poisson", rate_per_s: 10 });
  assert.equal(found.models[0]!.items, 2);
  assert.deepEqual(found.models[2]!.cpu_replicas, { count: 1, profile: { points_ms: [[1, 7]] } });
  assert.deepEqual(found.models[2]!.devices, []);
  assert.match(notes.join("\n"), /slow had no requests .* in 10 s.*\n.*spare.*\nlater is left out: it is not ready/s);
  assert.throws(() => liveScenario(before, sampleStatus({ models: [loading] }), "here:8001"), /no model that is ready/);
});

test("a model's replicas are those of its lanes that are replicas, however many devices there are", () => {
  const [gpu] = sampleStatus().lanes;
  const lanes = [
    ...["cuda0", "cuda1"].map((lane) => ({ ...gpu!, lane })),
    ...["cpu/fast/1/0", "cpu/fast/1/1", "cpu/slow/1/0"].map((lane) => ({ ...gpu!, lane, kind: "replica" as const })),
  ];
  const fast = sampleModel("fast", {
    placement: "both",
    replica_profile_ms: [[1, 7]],
    lanes: ["cuda0", "cuda1", "cpu/fast/1/0", "cpu/fast/1/1"],
  });
  const { scenario: found } = liveScenario(
    sampleStatus(),
    sampleStatus({ now_us: 2_000_000, models: [fast], lanes }),
    "here",
  );
  assert.equal(found.models[0]!.cpu_replicas!.count, 2);
  assert.deepEqual(
    found.devices.map(({ lanes }) => lanes),
    [2],
  );
});

test("a daemon that was started anew while it was observed has no rates to tell", () => {
  assert.throws(
    () => liveScenario(sampleStatus(), sampleStatus({ pid: 99, now_us: 500_000 }), "here:8001"),
    /^Error: the daemon at here:8001 was started anew while it was observed; observe it once more$/,
  );
});

test("what a daemon answered from its cache is no load to plan for", () => {
  const { counts } = sampleModel("fast");
  const later = { ...counts, requests: 200, on_time: 150, best_effort: 50, cache_hits: 100, items: 300 };
  const models = [sampleModel("fast", { counts: later })];
  const { scenario: found } = liveScenario(sampleStatus(), sampleStatus({ now_us: 11_000_000, models }), "here:8001");
  assert.deepEqual(found.models[0]!.arrivals, { process: "poisson", rate_per_s: 7.5 });
  assert.equal(found.models[0]!.items, 3);
});

test("what a fallback answered is load of the model that was asked, which falls back in the plan too", () => {
  const { counts } = sampleModel("fast");
  const models = [
    sampleModel("asked", {
      fallback: "stand-in",
      counts: { ...counts, requests: 200, on_time: 120, shed: { late: 80 }, fallbacks: 50, items: 120 },
    }),
    sampleModel("stand-in", { version: 1, traffic: 0.1 }),
    sampleModel("stand-in", { version: 2, traffic: 0.9, counts: { ...counts, requests: 80, on_time: 80, items: 80 } }),
  ];
  const { scenario: found } = liveScenario(sampleStatus(), sampleStatus({ now_us: 11_000_000, models }), "here:8001");
  const rates = found.models.map(({ name, arrivals, fallback }) => [name, arrivals?.rate_per_s, fallback]);
  assert.deepEqual(rates, [
    ["asked", 20, "stand-in/2"],
    ["stand-in/1", undefined, undefined],
    ["stand-in/2", 3, undefined],
  ]);
});

test("a fallback that nobody asks by name has its place in the plan, and the model says what part it answered", () => {
  const models = [{ ...OVERLOADED, fallback: STAND_IN.name }, STAND_IN];
  const plan = planFor(parseScenario({ name: "falls back", warmup_s: 2, measure_s: 8, models }, "falls back"));
  const [heavy, small] = plan.models;
  assert.ok(heavy!.fallback_share > 0.2 && heavy!.fallback_share < 0.6, String(heavy!.fallback_share));
  assert.deepEqual([small!.name, small!.rate_per_s, small!.fits], ["small", 0, true]);
  assert.ok(small!.lane_share > 0.02);
  assert.match(planText(plan), /\nheavy .* % by its fallback; /);
});

test("the command says what is wrong with a command line, a file or a daemon", () => {
  const plan = (...args: string[]) => spawnSync(process.execPath, [MAIN, ...args], { encoding: "utf8" });
  assert.equal(plan().status, 2);
  assert.match(plan("a.json", "--target", "x:1").stderr, /Give either the path of a scenario file, or --target/);
  assert.match(plan("/nowhere.json").stderr, /^slackline plan: \/nowhere\.json: 1 problem\n {2}cannot be read: ENOENT/);
  const unreachable = plan("--target", "127.0.0.1:1", "--http", "127.0.0.1:1");
  assert.equal(unreachable.status, 1);
  assert.match(unreachable.stderr, /no slackline daemon answers at http:\/\/127\.0\.0\.1:1\/status/);
});

test("the command adds a model to what a daemon serves", async () => {
  let now_us = 0;
  const server = createServer((_, response) => {
    now_us += 50_000;
    response.end(JSON.stringify(sampleStatus({ now_us })));
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const http = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const plan = (...args: string[]) =>
    promisify(execFile)(process.execPath, [MAIN, "--http", http, "--window", "0.05", ...args]);
  await assert.rejects(plan(), { code: 1, stderr: /has no requests to plan for; add some with --add/ });
  const { stdout } = await plan("--add", "more:rate_per_s=20,like=fast");
  assert.match(stdout, /headroom: not known, since there are no requests that could grow\n/);
  assert.match(stdout, /with what is added fits.*\nmore +\d/s);
});
