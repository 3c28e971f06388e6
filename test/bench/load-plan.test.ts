import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, it } from "node:test";
import { planLoad } from "../../bench/load/plan.ts";
import { readScenario } from "../../bench/scenario/read.ts";
import { parseScenario, type Scenario } from "../../bench/scenario/schema.ts";

function scenario(more: object = {}): Scenario {
  const value = {
    name: "test",
    seed: 7,
    warmup_s: 1,
    measure_s: 10,
    models: [
      { name: "a", max_batch: 8, slo_ms: 100, arrivals: { process: "poisson", rate_per_s: 100 } },
      {
        name: "b",
        max_batch: 4,
        slo_ms: 50,
        items: { min: 1, max: 4 },
        explicit_deadlines: false,
        tenant: "shop",
        arrivals: { process: "gamma", rate_per_s: 50, cv: 2 },
      },
      { name: "unused", max_batch: 4, slo_ms: 50 },
    ],
    ...more,
  };
  return parseScenario(value, "test");
}

describe("load plan", () => {
  it("is the same for the same seed and another for another", () => {
    const first = planLoad(scenario());
    assert.deepEqual(planLoad(scenario()), first);
    assert.deepEqual(planLoad(scenario(), { seed: 7 }), first);
    assert.notDeepEqual(planLoad(scenario(), { seed: 8 }).requests, first.requests);
  });

  it("is in order of time, within the run, at about the rates that were asked for", () => {
    const { requests, warmupUs, measureUs } = planLoad(scenario());
    assert.deepEqual({ warmupUs, measureUs }, { warmupUs: 1_000_000, measureUs: 10_000_000 });
    assert.ok(requests.every(({ atUs }, r) => r === 0 || atUs >= requests[r - 1]!.atUs));
    assert.ok(requests.at(-1)!.atUs < 11_000_000);
    const ofA = requests.filter(({ model }) => model === "a").length;
    assert.ok(ofA > 900 && ofA < 1300, `${ofA} requests of model a in 11 s at 100 a second`);
  });

  it("carries items, deadlines and tenants of each model", () => {
    const { requests, models } = planLoad(scenario());
    assert.deepEqual(models, ["a", "b"]);
    for (const { model, items, deadlineUs, stated, tenant } of requests) {
      if (model === "a") assert.deepEqual([items, deadlineUs, stated, tenant], [1, 100_000, true, ""]);
      else assert.deepEqual([deadlineUs, stated, tenant], [50_000, false, "shop"]);
    }
    assert.deepEqual(
      new Set(requests.filter(({ model }) => model === "b").map(({ items }) => items)),
      new Set([1, 2, 3, 4]),
    );
  });

  it("takes scale, warm-up and duration in place of the scenario's", () => {
    const base = planLoad(scenario()).requests.length;
    const scaled = planLoad(scenario(), { scale: 3 }).requests.length;
    assert.ok(scaled > 2.5 * base && scaled < 3.5 * base, `${scaled} requests at 3 times the rate of ${base}`);
    const short = planLoad(scenario(), { warmupS: 0, measureS: 2 });
    assert.deepEqual([short.warmupUs, short.measureUs], [0, 2_000_000]);
    assert.ok(short.requests.at(-1)!.atUs < 2_000_000);
  });

  it("refuses what would be too many requests, at steady and at changing rates", () => {
    const tooMany = /^test comes to more than 5,000,000 requests: /;
    assert.throws(() => planLoad(scenario(), { measureS: 1e9 }), { message: tooMany });
    assert.throws(() => planLoad(scenario(), { scale: 1e9 }), { message: tooMany });
    const arrivals = { process: "uniform", rate_per_s: 1e9, curve: [[0, 1]] };
    const curved = scenario({ models: [{ name: "a", max_batch: 8, slo_ms: 100, arrivals }] });
    assert.throws(() => planLoad(curved), { message: tooMany });
  });

  it("keeps four batches of an infinite backlog outstanding unless told otherwise", () => {
    const { backlogs } = planLoad(
      scenario({
        best_effort: [
          { model: "a", backlog: "infinite" },
          { model: "b", backlog: 500, outstanding: 5 },
        ],
      }),
    );
    assert.deepEqual(
      backlogs.map(({ model, outstandingMax, count }) => [model, outstandingMax, count]),
      [
        ["a", 32, Number.POSITIVE_INFINITY],
        ["b", 5, 500],
      ],
    );
  });

  it("follows a trace, and ends with one that is shorter", (test) => {
    const dir = mkdtempSync(path.join(tmpdir(), "slackline-plan-"));
    test.after(() => rmSync(dir, { recursive: true }));
    writeFileSync(path.join(dir, "t.csv"), "arrival_us,model,slo_us\n0,a,\n2000,b,7000\n90000000,a,\n");
    const models = [
      { name: "a", max_batch: 8, slo_ms: 100 },
      { name: "b", max_batch: 8, slo_ms: 100 },
    ];
    const value = { name: "trace", measure_s: 1, models, trace: { file: "t.csv", speed: 2 } };
    writeFileSync(path.join(dir, "s.json"), JSON.stringify(value));
    const traced = readScenario(path.join(dir, "s.json"));
    const { requests, measureUs } = planLoad(traced);
    assert.equal(measureUs, 1_000_000);
    assert.deepEqual(
      requests.map(({ atUs, model, deadlineUs }) => [atUs, model, deadlineUs]),
      [
        [0, "a", 100_000],
        [1000, "b", 7000],
      ],
    );
    const fast = planLoad(traced, { scale: 100 });
    assert.deepEqual([fast.measureUs, fast.requests.length], [450_001, 3]);
    assert.throws(() => planLoad(traced, { scale: 100, warmupS: 0.5 }), /t\.csv: .*within the warm-up of 0\.5 s/s);
  });
});
