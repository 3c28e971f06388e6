import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { tritonHtml, tritonMarkdown } from "../../bench/triton/report.ts";
import { configuration } from "../../bench/triton/repository.ts";
import { bestTrial, type LoadFigures, summaries, type TritonResult } from "../../bench/triton/result.ts";
import { BARE, TRIED } from "../../bench/triton/settings.ts";

function figures(load: number, attainment: number, seed = 1): LoadFigures {
  return {
    load,
    seed,
    offered_per_s: 200 * load,
    attainment,
    attainment_worst_model: attainment / 2,
    attainment_by_model: {},
    best_effort_items_per_s: 10 * seed,
    generator_lag_p99_ms: 1,
  };
}

describe("comparison with Triton", () => {
  it("writes settings into a model's configuration", () => {
    const model = { name: "digits", maxBatch: 64, sloMs: 100 };
    const plain = configuration(model, BARE);
    assert.match(plain, /^max_batch_size: 64$/m);
    assert.match(plain, /max_queue_delay_microseconds: 0$/m);
    assert.doesNotMatch(plain, /rate_limiter|priority_queue_policy/);
    const all = configuration(model, { queueDelayUs: 2000, oneAtATime: true, rejectAfterSlo: 0.5 });
    assert.match(all, /max_queue_delay_microseconds: 2000/);
    assert.match(all, /rate_limiter/);
    assert.match(all, /timeout_action: REJECT, default_timeout_microseconds: 50000/);
  });

  it("takes the settings under which most was on time, whether tried first or last", () => {
    const trials = [0.7, 0.9, 0.8].map((attainment, i) => ({
      settings: TRIED[i]!,
      loads: [figures(0.6, 1), figures(1, attainment)],
    }));
    assert.equal(bestTrial(trials), trials[1]);
    assert.equal(bestTrial([...trials].reverse()), trials[1]);
  });

  it("takes the median of the rounds at each load and says how far they were apart", () => {
    const [low, high, ...rest] = summaries([
      figures(1, 0.5, 1),
      figures(0.5, 1, 1),
      figures(1, 0.8, 2),
      figures(0.5, 0.9, 2),
      figures(1, 0.7, 3),
    ]);
    assert.deepEqual(rest, []);
    assert.equal(low!.load, 0.5);
    assert.equal(low!.attainment, 0.95);
    assert.equal(high!.attainment, 0.7);
    assert.deepEqual([high!.attainment_least, high!.attainment_most], [0.5, 0.8]);
    assert.equal(high!.best_effort_items_per_s, 20);
  });

  it("reports every server at every load, as text and as a page", () => {
    const loads = [figures(0.5, 1), figures(1, 0.75)];
    const result: TritonResult = {
      date: "2026-01-02",
      commit: "abc",
      command: "npm run bench:triton --",
      cpu: "a processor",
      cores: 2,
      node: "20",
      measure_s: 8,
      models: [{ name: "digits", slo_ms: 100, max_batch: 64, rate_per_s_at_load_1: 200 }],
      trials: [{ settings: BARE, loads }],
      contestants: [
        { name: "slackline", settings: null, loads, filled: loads },
        { name: "Triton", settings: BARE, loads: [figures(0.5, 0.9), figures(1, 0.25)], filled: loads },
      ],
    };
    const text = tritonMarkdown(result);
    assert.match(
      text,
      /^\| 0\.50 \| 100 \| slackline \| 100 %[^|]*\| 50\.0 % \| 1\.00 \|\n\| {2}\| {2}\| Triton \| 90\.0 %[^|]*\| 45\.0 % \| 1\.00 \|$/m,
    );
    assert.match(text, /queue delay 0 ms, models at once, nothing rejected \(taken\)/);
    const page = tritonHtml(result);
    assert.equal(page.match(/<polyline/g)?.length, 2);
    assert.match(page, /12\.5 % on time/);
  });
});
