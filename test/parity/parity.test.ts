import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { readLiveLog } from "../../bench/parity/live-log.ts";
import { withMeasuredProfiles } from "../../bench/parity/measured-profiles.ts";
import { ATTAINMENT_TOLERANCE, P99_TOLERANCE, parityOf } from "../../bench/parity/parity.ts";
import { parseScenario, type Scenario } from "../../bench/scenario/schema.ts";
import { simulate } from "../../bench/sim/simulation.ts";
import { DecisionLog } from "../../daemon/engine/decision-log.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";

const FOLDER = mkdtempSync(path.join(tmpdir(), "slackline-parity-"));
after(() => rmSync(FOLDER, { recursive: true }));
const LOG = path.join(FOLDER, "decisions.jsonl");

const NOISE = 0.08;

/** @param slower factor on execution times */
function scenario(slower: number): Scenario {
  const model = (name: string, ms: number, slo_ms: number, rate_per_s: number) => ({
    name,
    max_batch: 4,
    slo_ms,
    profile: { points_ms: [1, 2, 4].map((bucket) => [bucket, slower * ms * (1 + bucket / 3)]) },
    arrivals: { process: "poisson", rate_per_s },
  });
  const models = [model("quick", 2, 40, 300), model("slow", 6, 90, 110)];
  return parseScenario({ name: "pair", warmup_s: 1, measure_s: 15, models, noise: NOISE }, "pair");
}

function record(run: Scenario): void {
  let text = "";
  const log = new DecisionLog((chunk) => {
    text += chunk;
  });
  simulate(run, { policy: "own", scheduler: (options) => createScheduler(options), observers: [log] });
  log.flush();
  writeFileSync(LOG, text);
}

test("a run is foretold from its own log, though the profile that was told is off", () => {
  record(scenario(1.2));
  const log = readLiveLog(LOG);
  const told = { ...scenario(1), noise: 0 };
  const parity = parityOf(told, log, 1, path.join(FOLDER, "trace.csv"));
  assert.ok(parity.live.offered > 2000 && parity.live.attainment < 0.999, JSON.stringify(parity.live));
  assert.equal(parity.simulated.offered, parity.live.offered);
  assert.ok(Math.abs(parity.attainment_difference) <= ATTAINMENT_TOLERANCE, String(parity.attainment_difference));
  assert.ok(Math.abs(parity.p99_difference) <= P99_TOLERANCE, String(parity.p99_difference));
  assert.ok(Math.abs(parity.noise - NOISE) < 0.03, String(parity.noise));
  assert.deepEqual(Object.keys(parity.models), ["quick", "slow"]);
});

test("buckets that hardly ran are as much slower as the others", () => {
  const executions = Array.from({ length: 10 }, (_, i) => ({
    lane: "gpu0",
    model: "quick",
    bucket: 1,
    startUs: i * 9000,
    us: 5000,
  }));
  const log = { requests: [], executions, turnaroundUs: 100 };
  const quick = withMeasuredProfiles(scenario(1), log).models[0]!;
  const [first, second] = (quick.profile as { points_ms: [number, number][] }).points_ms;
  assert.ok(Math.abs(first![1] - 5.1) < 1e-9);
  // 2 ms × (1 + 1/3) became 5 ms, so 2 ms × (1 + 2/3) is as many milliseconds more.
  assert.ok(Math.abs(second![1] - (10 / 3 + (5 - 8 / 3) + 0.1)) < 1e-9);
});

test("drops, failures and best-effort work in a log are understood", () => {
  const lines = [
    { t: 10, ev: "arrive", id: 1, model: "m/1", items: 1, deadline: 900 },
    { t: 11, ev: "arrive", id: 2, model: "m/1", items: 1, deadline: 900 },
    { t: 12, ev: "arrive", id: 3, model: "m/1", items: 1, deadline: null },
    { t: 20, ev: "start", device: "cpu0", model: "m/1", ids: [1], size: 1, bucket: 1 },
    { t: 120, ev: "end", device: "cpu0", model: "m/1" },
    { t: 150, ev: "start", device: "cpu0", model: "m/1", ids: [2, 3], size: 2, bucket: 2 },
    { t: 250, ev: "end", device: "cpu0", model: "m/1", ok: false },
    { t: 260, ev: "arrive", id: 4, model: "m/1", items: 1, deadline: 270 },
    { t: 261, ev: "drop", id: 4, cause: "late" },
  ];
  writeFileSync(LOG, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const { requests, executions, turnaroundUs } = readLiveLog(LOG);
  assert.deepEqual(
    requests.map(({ model, endUs }) => [model, endUs]),
    [
      ["m", 120],
      ["m", null],
      ["m", null],
    ],
  );
  assert.deepEqual(executions, [{ lane: "cpu0", model: "m", bucket: 1, startUs: 20, us: 100 }]);
  assert.equal(turnaroundUs, 30);
});
