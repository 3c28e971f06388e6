import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { checkLog } from "../../bench/check/check-log.ts";
import { COMPARISON_POLICIES } from "../../bench/policies/index.ts";
import { Random } from "../../bench/scenario/random.ts";
import { parseScenario } from "../../bench/scenario/schema.ts";
import { simulate } from "../../bench/sim/simulation.ts";
import { DecisionLog } from "../../daemon/engine/decision-log.ts";
import type { Scheduler, SchedulerOptions } from "../../daemon/scheduler/types.ts";
import { randomScenarioJson } from "./random-scenario.ts";

const FOLDER = mkdtempSync(path.join(tmpdir(), "slackline-policies-"));
after(() => rmSync(FOLDER, { recursive: true }));

const SEEDS = 25;

/** Those that by design let later requests overtake, or take the newest first. */
const OVERTAKING = new Set(["clockwork", "shepherd-flex", "bento-adaptive"]);

for (const { name, variants } of COMPARISON_POLICIES) {
  test(`${name}: what it decides is possible, and every request ends`, () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = new Random(seed, name);
      // On every second device the next batch is to be sent before the last one ends.
      const json = { ...randomScenarioJson(random), ...(seed % 2 === 0 ? { handover_ms: 0.4 } : {}) };
      const variant = variants[random.integer(0, variants.length - 1)]!;
      const scenario = path.join(FOLDER, "scenario.json");
      const log = path.join(FOLDER, "log.jsonl");
      writeFileSync(scenario, JSON.stringify(json));
      let text = "";
      const observer = new DecisionLog((chunk) => {
        text += chunk;
      });
      const { total } = simulate(parseScenario(json, scenario), {
        policy: name,
        scheduler: variant.create,
        observers: [observer],
      });
      observer.flush();
      writeFileSync(log, text);
      const { problems, window } = checkLog(log, scenario);
      const wrong = problems.filter(({ kind }) => kind !== "order" || !OVERTAKING.has(name));
      assert.deepEqual(wrong, [], `${variant.label}, seed ${seed}`);
      assert.deepEqual([window?.offered, window?.on_time], [total.offered, total.on_time], `seed ${seed}`);
    }
  });
}

const OPTIONS: SchedulerOptions = {
  fairness: false,
  bestEffortShareMin: 0,
  tenantWeights: {},
  gatherUs: 0,
  handoverUs: 0,
};

test("opponents too send the next batch before the last one ends, where that is told to take time", () => {
  const scenario = parseScenario(
    {
      name: "handover",
      warmup_s: 0,
      measure_s: 5,
      handover_ms: 0.5,
      models: ["a", "b"].map((name) => ({
        name,
        max_batch: 1,
        slo_ms: 50,
        profile: { points_ms: [[1, 1]] },
        arrivals: { process: "uniform", rate_per_s: 450 },
      })),
    },
    "handover",
  );
  for (const name of ["eager-edf", "tf-serving"]) {
    const [variant] = COMPARISON_POLICIES.find((policy) => policy.name === name)!.variants;
    const onTime = (handoverUs?: number) =>
      simulate(scenario, {
        policy: name,
        scheduler: (options) => variant!.create({ ...options, handoverUs: handoverUs ?? options.handoverUs }),
      }).total.attainment;
    assert.equal(onTime(), 1, name);
    // With half a millisecond between executions of one there is time for two thirds of the requests.
    assert.ok(onTime(0)! < 0.8, name);
  }
});

/** A policy's scheduler with one lane and one model, of 1 ms an execution. */
function started(create: (options: SchedulerOptions) => Scheduler): Scheduler {
  const scheduler = create(OPTIONS);
  const profile = [
    { bucket: 1, us: 1000 },
    { bucket: 4, us: 1000 },
  ];
  scheduler.step({ type: "lane-up", lane: "gpu0", kind: "device" }, 0);
  const spec = { model: "m", maxBatch: 4, sloUs: 50_000, weight: 1, minShare: 0, shedImplicit: true };
  scheduler.step({ type: "model-add", spec: { ...spec, queueItemsMax: 1000, queueBytesMax: 1e9 } }, 0);
  scheduler.step({ type: "loaded", lane: "gpu0", model: "m", profiles: { "": profile } }, 0);
  return scheduler;
}

test("executions that take longer than told are expected to go on doing so", () => {
  const policy = COMPARISON_POLICIES.find(({ name }) => name === "eager-edf")!;
  const scheduler = started(policy.variants[0]!.create);
  const request = (id: number, deadlineUs: number) =>
    ({
      type: "arrive",
      request: {
        id,
        model: "m",
        items: 1,
        bytes: 0,
        shape: "",
        deadlineUs,
        explicit: true,
        expiresUs: null,
        tenant: "",
      },
    }) as const;
  const first = scheduler.step(request(1, 10_000), 0).find((effect) => effect.type === "start");
  assert.ok(first?.type === "start");
  const { execution } = first.plan;
  scheduler.step({ type: "end", lane: "gpu0", execution, us: 2000, ok: true }, 2000);
  const effects = scheduler.step(request(2, 3500), 2000);
  assert.deepEqual(
    effects.map(({ type }) => type),
    ["shed"],
  );
});
