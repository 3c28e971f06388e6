import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { batchMax } from "../../bench/scenario/schema.ts";
import { dataFolder, publishedScenarios } from "../../bench/scenarios/published.ts";
import { simulate } from "../../bench/sim/simulation.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";

const FOLDER = mkdtempSync(path.join(tmpdir(), "slackline-data-"));
after(() => rmSync(FOLDER, { recursive: true }));

function write(file: string, text: string): void {
  writeFileSync(path.join(FOLDER, file), text);
}

const CLIENTS = [
  { name: "rt", kind: "realtime", arrival: { type: "uniform", rate_per_s: 20 } },
  { name: "be", kind: "besteffort", arrival: { type: "closed-loop" } },
];

test("without the folder there are no scenarios, but a sentence that says what to do", () => {
  const { scenarios, skipped } = publishedScenarios(path.join(FOLDER, "nowhere"));
  assert.deepEqual(scenarios, []);
  assert.match(skipped ?? "", /nowhere has no azure-llm-conv\.csv.*--data DIR/);
  assert.equal(dataFolder("/some/where"), "/some/where");
});

test("published traces, workloads and profiles become scenarios that can be simulated", () => {
  write("azure-llm-conv.csv", "arrival_us,model,slo_us\n0,llm-conv,\n90000000,llm-conv,\n");
  write("orion-fig10.csv", "arrival_us,model,slo_us\n31000,rt,\n4000000,rt,\n");
  write("disb-workloads.json", JSON.stringify({ workloads: { A: CLIENTS, C: CLIENTS, D: CLIENTS, E: CLIENTS } }));
  const alone = ["A", "C", "D", "E"].flatMap((workload) => [
    `${workload},tensorrt,total_latency_alone_avg,rt,2000,us`,
    `${workload},tensorrt,total_latency_alone_avg,be,5000,us`,
    `${workload},triton,total_latency_alone_avg,be,9000,us`,
  ]);
  write("disb-published-results.csv", ["workload,framework,metric,client,value,unit", ...alone].join("\n"));
  const points = Array.from({ length: 40 }, (_, i) => [i + 1, i === 3 ? 1 : 2 + i]);
  const profiles = ["resnet50", "vgg_s", "vgg16"].map((model) => ({ model, points }));
  write("profiles.json", JSON.stringify([...profiles, { model: "resnet_0", alpha_ms: 1, beta_ms: 5 }]));

  const { scenarios, skipped } = publishedScenarios(FOLDER);
  assert.equal(skipped, null);
  assert.deepEqual(
    scenarios.map(({ name }) => name),
    ["azure", "orion", "disb-a", "disb-c", "disb-d", "disb-e"],
  );
  for (const scenario of scenarios) {
    const short = { ...scenario, warmup_s: 0, measure_s: 5 };
    const { total } = simulate(short, { policy: "own", scheduler: (options) => createScheduler(options) });
    assert.ok(total.offered > 0 && total.attainment > 0.9, `${scenario.name}: ${total.on_time} of ${total.offered}`);
  }
  const disb = scenarios.at(-1)!;
  assert.deepEqual(disb.models[0]!.profile, { points_ms: [[1, 2]] });
  assert.equal(disb.models[0]!.slo_ms, 15);
  assert.deepEqual(disb.best_effort, [{ model: "be", backlog: "infinite", outstanding: 1, tenant: "" }]);
  assert.equal(batchMax(scenarios[0]!.models[0]!), 16);
});

test("a folder that holds something else is named, with what is missing in it", () => {
  write("profiles.json", "[]");
  assert.throws(() => publishedScenarios(FOLDER), /profiles\.json: 1 problem\n {2}there is no profile of 'resnet50'/);
});
