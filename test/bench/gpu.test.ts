import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gpuHtml } from "../../bench/gpu/html.ts";
import { searchLiveCapacity } from "../../bench/gpu/measure.ts";
import { benchModels } from "../../bench/gpu/models.ts";
import { OneShape } from "../../bench/gpu/one-shape.ts";
import { bestRoundRobin, predictCapacity, predictLoad } from "../../bench/gpu/predict.ts";
import type { GpuBenchResult, LoadFigures } from "../../bench/gpu/result.ts";
import { gpuText } from "../../bench/gpu/text.ts";
import { bestFiller, MANY_CORES, type Points, pointsOf, workload } from "../../bench/gpu/workload.ts";
import type { Scheduler, SchedulerEvent } from "../../daemon/scheduler/types.ts";
import { sampleModel } from "./sample-status.ts";

const models = benchModels(true);
/** A fast device: half of a lone item's time is fixed, the rest grows with the batch. */
const profiles = new Map<string, Points>(
  models.map(({ name, maxBatch }) => [name, [1, 8, maxBatch].map((bucket) => [bucket, 0.5 + bucket / 20] as const)]),
);
const options = { name: "test", warmupS: 0.2, measureS: 1, limits: MANY_CORES };

function load(scale: number, more: Partial<LoadFigures> = {}): LoadFigures {
  return {
    scale,
    offered_per_s: 100 * scale,
    goodput_per_s: 99 * scale,
    attainment: 1,
    attainment_worst_model: 1,
    latency_ms: { p50: 1, p90: 2, p99: 3, p999: 4, max: 5 },
    device_busy_share: 0.5,
    batch_size_mean: 4,
    best_effort_items_per_s: 0,
    best_effort_share: 0,
    predicted_within_10: null,
    predicted_within_25: 0.9,
    runtime: { executions: 10, execution_ms_mean: 2, outside_share: 0.1 },
    gpu: null,
    models: {
      digits: { attainment: 1, latency_ms: { p50: 1, p90: 2, p99: 3, p999: 4, max: 5 }, predicted_within_25: 0.9 },
    },
    generator_lag_ms_p99: 1,
    valid: true,
    ...more,
  };
}

describe("the GPU benchmark", () => {
  it("asks for equal parts of the device, within what the wire carries", () => {
    const { scenario, deviceShare, scaleMax } = workload(models, profiles, options);
    const rates = scenario.models.map(({ arrivals }) => arrivals!.rate_per_s);
    assert.ok(rates.reduce((sum, rate) => sum + rate, 0) <= MANY_CORES.requestsPerSMax);
    assert.ok(deviceShare > 0 && deviceShare <= 1);
    assert.ok(scaleMax >= 1);
    for (const [i, { slo_ms, max_batch }] of scenario.models.entries()) {
      assert.ok(slo_ms >= MANY_CORES.sloMsMin);
      assert.equal(max_batch, models[i]!.maxBatch);
    }
    const image = scenario.models.find(({ name }) => name === "resnet18")!;
    assert.ok(image.arrivals!.rate_per_s * 3 * 224 * 224 * 4 <= MANY_CORES.bytesPerSMax / models.length);
  });

  it("says which model has no profile", () => {
    assert.throws(() => workload(models, new Map(), options), /digits has no profile/);
  });

  it("makes measured profiles monotone", () => {
    const measured: Points = [1, 2, 4].map((bucket, i) => [bucket, [2, 1.9, 5][i]!]);
    const times = pointsOf(sampleModel("m", { profile_ms: measured })).map(([, ms]) => ms);
    assert.deepEqual(times, [2, 2, 5]);
  });

  it("gives to some models what others can't take of the device", () => {
    const uneven = new Map<string, Points>([
      ["digits", [[512, 0.5]]],
      ["encoder", [[64, 200]]],
      ["ranker", [[512, 0.5]]],
    ]);
    const { scenario, deviceShare } = workload(models.slice(0, 3), uneven, options);
    const [digits, encoder, ranker] = scenario.models.map(({ arrivals }) => arrivals!.rate_per_s);
    assert.equal(digits, ranker);
    assert.ok(digits! < MANY_CORES.requestsPerSMax / 3 + 0.01);
    assert.ok(encoder! * 16 * (200 / 64) > 0.5 * 1000, "most of the device is the encoder's");
    assert.ok(Math.abs(deviceShare - 1) < 1e-3, `${deviceShare} of the device`);
  });

  it("fills with the model whose requests take most of the device", () => {
    assert.equal(bestFiller(models, profiles), "digits");
    assert.equal(bestFiller(models, new Map(profiles).set("encoder", [[64, 200]])), "encoder");
  });

  it("simulates what it runs live, and finds a round robin to compare with", () => {
    const { scenario } = workload(models.slice(0, 3), profiles, options);
    const capacity = predictCapacity(scenario);
    assert.ok(capacity > 0);
    const { attainment, device_busy_share } = predictLoad(scenario, capacity / 2);
    assert.ok(attainment > 0.95, `${attainment} on time at half the capacity`);
    assert.ok(device_busy_share > 0);
    assert.match(bestRoundRobin(scenario, 1), /^tf-serving\(timeoutShare=/);
  });

  it("finds the capacity by halving, and says what limits it", async () => {
    const at = (limit: number, valid = true) =>
      searchLiveCapacity(async (scale) => load(scale, scale > limit ? { attainment: 0.5, valid } : {}), 2, 8);
    const found = await at(0.7);
    assert.ok(found.scale <= 0.7 && found.scale > 0.68);
    assert.equal(found.limit, "deadlines");
    assert.equal((await at(0.7, false)).limit, "generator");
    assert.equal((await at(5)).limit, "range");
  });

  it("lets a policy of one shape schedule a model whose only shape has a name", () => {
    const seen: SchedulerEvent[] = [];
    const policy: Scheduler = {
      step: (event) => {
        seen.push(event);
        if (event.type !== "wake") return [];
        const plan = { execution: 1, lane: "l", model: "m", shape: "", ids: [1], items: 1, bucket: 1 };
        return [{ type: "start", plan: { ...plan, steps: [{ predictedUs: 5 }], reason: "deadline" } }];
      },
    };
    const scheduler = new OneShape(policy);
    const profile = [{ bucket: 1, us: 5 }];
    scheduler.step({ type: "loaded", lane: "l", model: "m", profiles: { "x:4": profile, "*": [] } }, 0);
    assert.deepEqual(seen[0], { type: "loaded", lane: "l", model: "m", profiles: { "": profile } });
    const [effect] = scheduler.step({ type: "wake" }, 1);
    assert.ok(effect?.type === "start");
    assert.equal(effect.plan.shape, "x:4");
  });

  it("reports as text and as a page", () => {
    const capacity = { scale: 0.5, per_s: 50, limit: "deadlines" as const, probes: [load(0.5), load(1)] };
    const simulated = { attainment: 1, latency_ms_p99: 3, device_busy_share: 0.5, best_effort_items_per_s: 0 };
    const result: GpuBenchResult = {
      date: "2026-01-02",
      command: "npm run bench:gpu --",
      commit: "abc",
      cpu: "Some <Processor>",
      cores: 4,
      node: "v24",
      device: { provider: "cuda", name: "Some GPU", reason: "", passed_over: [] },
      loaded_share: 0.8,
      profiles_ms: Object.fromEntries(profiles),
      ready_s: 3,
      added_latency: [],
      sets: {
        three: {
          slo_ms: { digits: 20, gone: 30 },
          device_share_at_scale_1: 1,
          capacity,
          loaded: load(0.4),
          filled: load(0.4),
          fill_model: "digits",
          simulated: { capacity_scale: 0.6, loaded: simulated, filled: simulated },
          round_robin: { policy: "tf-serving", capacity: { ...capacity, scale: 0.25 }, loaded: load(0.4) },
        },
      },
      alone: { capacity: { digits: capacity }, slices_scale: 0.4, devices_needed: 3 },
      left_out: ["six: not asked for"],
    };
    const text = gpuText(result);
    assert.match(text, /Sharing carries 2\.00 times as much/);
    assert.match(text, /three: digits +20\.0 ms +100 % +3\.00 ms/);
    assert.match(text, /left out: six/);
    const page = gpuHtml(result);
    assert.match(page, /Some &lt;Processor&gt;/);
    assert.doesNotMatch(page, /NaN|undefined/);
  });
});
