import assert from "node:assert/strict";
import { test } from "node:test";
import { planFor } from "../../bench/plan/plan.ts";
import { planText } from "../../bench/plan/report.ts";
import { type Capacity, searchCapacity } from "../../bench/sim/capacity.ts";
import { reportText } from "../../bench/sim/report.ts";
import type { SimulationResult } from "../../bench/sim/result.ts";
import { simulate } from "../../bench/sim/simulation.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { smallScenario } from "./small-scenario.ts";

/** One device carries 100 requests/s, and so does each of four replicas, which the planning bound leaves out. */
const REPLICATED = smallScenario({
  best_effort: [],
  measure_s: 6,
  models: [
    {
      name: "m",
      max_batch: 1,
      slo_ms: 200,
      profile: { alpha_ms: 10, beta_ms: 0 },
      cpu_replicas: { count: 4, profile: { alpha_ms: 10, beta_ms: 0 } },
      arrivals: { process: "poisson", rate_per_s: 300 },
    },
  ],
});

function at(scale: number): SimulationResult {
  return simulate(REPLICATED, { policy: "slackline", scheduler: (options) => createScheduler(options), scale });
}

/** What the search finds where these scales are carried, and the scenario's rates are so many times the planning bound. */
function search(carried: (scale: number) => boolean, scaleMax?: number, load = 1): Capacity & { scales: number[] } {
  const sample = at(0.1);
  const scales: number[] = [];
  const found = searchCapacity(
    (scale) => {
      scales.push(scale);
      const attainment = carried(scale) ? 1 : 0.5;
      const { total } = sample;
      return { ...sample, load: load * scale, total: { ...total, attainment }, attainment_worst_model: attainment };
    },
    undefined,
    scaleMax,
  );
  return { ...found, scales };
}

test("what CPU replicas carry beyond the planning bound is capacity", () => {
  const found = searchCapacity(at);
  assert.ok(found.capacity_scale > 1.5 && found.capacity_scale < 1.8, String(found.capacity_scale));
  assert.equal(found.capacity_open, false);
  const plan = planFor(REPLICATED);
  assert.ok(plan.fits && plan.headroom! > 1.4 && !plan.headroom_open, String(plan.headroom));
  assert.equal(plan.breaks_first?.model, "m");
  assert.match(planText(plan), /headroom: × 1\.\d\d \(all rates may grow/);
});

test("a capacity that is the end of what was tried says so", () => {
  const open = search(() => true, 7);
  assert.deepEqual([open.capacity_scale, open.capacity_open, open.capacity_worst_model_open], [7, true, true]);
  assert.match(reportText(at(1), open), /all requests .*: rates × 7\.000 or more \(.*; no larger scale was tried\)/);
  assert.equal(search(() => true).capacity_scale, 100);
  const closed = search((scale) => scale < 5);
  assert.ok(closed.capacity_scale < 5 && closed.capacity_scale > 4.9, String(closed.capacity_scale));
  assert.equal(closed.capacity_open, false);
  assert.doesNotMatch(reportText(at(1), closed), /or more/);
  assert.equal(search(() => false).capacity_open, false);
});

test("no less than the scenario's own rates is reported where they are carried", () => {
  const found = search((scale) => scale < 0.45 || scale === 1);
  assert.equal(found.capacity_scale, 1);
});

test("a capacity within twice the planning bound is found without trying more", () => {
  const found = search((scale) => scale < 0.873);
  assert.ok(Math.abs(found.capacity_scale - 0.873) <= 0.005, String(found.capacity_scale));
  assert.equal(Math.max(...found.scales), 1.1);
});

test("the search ends where only a tiny share of the rates is carried", () => {
  const found = search((scale) => scale < 0.0044, undefined, 200);
  assert.equal(found.capacity_scale, 0.0043);
  assert.ok(found.scales.length < 20, found.scales.join(" "));
});
