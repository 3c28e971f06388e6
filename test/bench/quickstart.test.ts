import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deviceFigures, servedFigures } from "../../bench/load/daemon-status.ts";
import { LoadRun } from "../../bench/load/load-run.ts";
import type { LoadTest } from "../../bench/load/load-test.ts";
import { planLoad } from "../../bench/load/plan.ts";
import { loadResult } from "../../bench/load/result.ts";
import type { Call, CallOutcome } from "../../bench/load/target.ts";
import { gatherFacts, inWords, verdict } from "../../bench/quickstart/facts.ts";
import { quickstartHtml } from "../../bench/quickstart/html-report.ts";
import { mixedLoad } from "../../bench/quickstart/mix.ts";
import { quickstartText } from "../../bench/quickstart/report.ts";
import type { DaemonStatus, ModelStatus } from "../../daemon/status.ts";
import { sampleModel, sampleStatus } from "./sample-status.ts";
import { VirtualClock, VirtualTarget } from "./virtual-load.ts";

const MIX = { warmupS: 0, measureS: 10, seed: 1 };

function spent(model: ModelStatus, deadlineUs: number, fillUs: number): ModelStatus {
  const busy_us = { deadline: deadlineUs, fill: fillUs, share: 0 };
  return { ...model, counts: { ...model.counts, executions: 100, items: 250, slots: 400, busy_us } };
}

/** The status ten seconds later. */
function later(before: DaemonStatus): DaemonStatus {
  const lane = before.lanes[0]!;
  return {
    ...before,
    now_us: before.now_us + 10_000_000,
    lanes: [
      {
        ...lane,
        executions: { deadline: 110, fill: 105, share: 0 },
        busy_us: { deadline: lane.busy_us.deadline + 6_000_000, fill: lane.busy_us.fill + 3_000_000, share: 0 },
      },
    ],
    models: before.models.map((model, i) => spent(model, 3_000_000, i === 0 ? 3_000_000 : 0)),
  };
}

async function driven(status: DaemonStatus, answer: (call: Call) => CallOutcome): Promise<LoadTest> {
  const clock = new VirtualClock();
  const scenario = mixedLoad(status, MIX)!;
  const target = new VirtualTarget(clock, (call) => ({ afterUs: 20_000, outcome: answer(call) }));
  const run = new LoadRun({ plan: planLoad(scenario), target, clock, drainUs: 1_000_000 });
  const record = await clock.until(run.run());
  const after = later(status);
  const result = loadResult({
    run: {
      scenario: "quickstart",
      seed: 1,
      scale: 1,
      target: "t",
      transport: "stream",
      started_at: "2025-01-01T00:00:00.000Z",
      warmup_s: 0,
    },
    record,
    lagMsMax: 5,
    devices: deviceFigures(status, after),
    served: servedFigures(status, after),
  });
  return { result, latencies: { total: record.total.latencyUs, models: new Map() }, status: { before: status, after } };
}

const answered = (): CallOutcome => ({
  type: "answered",
  timings: { batchItems: 2, bucket: 2, queueUs: 0, executeUs: 0, lane: "cpu0" },
});

describe("mixed load", () => {
  it("gives every ready model a part of the device that leaves slack", () => {
    const scenario = mixedLoad(sampleStatus(), MIX)!;
    assert.deepEqual(
      scenario.models.map(({ name }) => name),
      ["fast", "slow"],
    );
    const single = (name: string) => (name === "fast" ? 2 : 40);
    const load = scenario.models.reduce((sum, m) => sum + (m.arrivals!.rate_per_s * single(m.name)) / 1000, 0);
    assert.ok(load > 0.4 && load < 0.8, `load ${load}`);
    assert.deepEqual(
      scenario.best_effort.map(({ model, backlog }) => [model, backlog]),
      [["fast", "infinite"]],
    );
  });

  it("leaves out models that are not ready, and is null where none is", () => {
    const broken = sampleModel("broken", { state: "UNAVAILABLE", reason: "no such operator" });
    const status = sampleStatus({ models: [broken, sampleModel("fine")] });
    assert.deepEqual(
      mixedLoad(status, MIX)!.models.map(({ name }) => name),
      ["fine"],
    );
    assert.equal(mixedLoad(sampleStatus({ models: [broken] }), MIX), null);
  });

  it("never asks for more of a very fast model than the wire can carry", () => {
    const status = sampleStatus({ models: [sampleModel("tiny", { profile_ms: [[1, 0.01]] })] });
    const { models, best_effort } = mixedLoad(status, MIX)!;
    assert.ok(models[0]!.arrivals!.rate_per_s <= 200);
    assert.equal(best_effort[0]!.items, 1, "as many as its largest bucket");
  });
});

describe("quickstart report", () => {
  it("names the device and why, profiles, figures by model, and the device's time", async () => {
    const before = sampleStatus();
    const test = await driven(before, answered);
    const facts = gatherFacts(test, test.status!.after);
    const text = quickstartText(facts);
    assert.match(text, /^Device: cpu \(Some Processor, 2 cores\)\. chosen by 'auto'/m);
    assert.match(text, /not cuda: libonnxruntime_providers_cuda\.so is not installed\./);
    assert.match(text, /fast +device +100 ms +1: 2\.00 {2}2: 3\.00 {2}4: 5\.00 {2}8: 9\.00/);
    assert.match(text, /slow +\d+ +\d+ +0 +0 +0 +100 % +20\.\d +20\.\d +2\.00/);
    assert.match(text, /busy 90\.0 %: deadlines 60\.0 %, best effort 30\.0 % \(fast, /);
    assert.equal(verdict(facts), "good");
    assert.match(inWords(facts), /^2 models shared one device .*: 100 % of \d/);
  });

  it("says so where deadlines were missed, and fails only where nothing worked", async () => {
    const before = sampleStatus();
    const shedding = await driven(before, ({ model }) =>
      model === "fast" ? { type: "shed", cause: "late" } : answered(),
    );
    const poor = gatherFacts(shedding, before);
    assert.equal(verdict(poor), "poor");
    assert.match(inWords(poor), /shed before they cost anything/);

    const error: CallOutcome = { type: "error", code: "INTERNAL", message: "broken" };
    const failing = gatherFacts(await driven(before, ({ model }) => (model === "slow" ? error : answered())), before);
    assert.equal(verdict(failing), "failed");
    assert.match(inWords(failing), /\d+ ended in errors.*INTERNAL: broken/);

    const nothing = gatherFacts(await driven(before, () => ({ type: "shed", cause: "late" })), before);
    assert.equal(verdict(nothing), "failed");
    assert.match(inWords(nothing), /Nothing was served/);
  });

  it("is one HTML file that loads nothing and escapes what it did not write", async () => {
    const test = await driven(sampleStatus(), answered);
    const html = quickstartHtml(gatherFacts(test, test.status!.after));
    assert.match(html, /no &lt;hardware&gt; adapter/);
    assert.doesNotMatch(html, /<(script|link|img)|https?:\/\/|NaN|undefined|Infinity/);
    assert.equal(html.match(/<svg/g)?.length, 3);
  });
});
