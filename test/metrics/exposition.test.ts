import assert from "node:assert/strict";
import { test } from "node:test";
import { Metrics } from "../../daemon/metrics/metrics.ts";
import { EngineRig, linearProfile, modelSpec, request } from "../support/engine-rig.ts";

/** The value of one line of the page; null where there is no such line. */
function value(page: string, line: string): number | null {
  const found = page.split("\n").find((text) => text.startsWith(`${line} `));
  return found === undefined ? null : Number(found.slice(line.length + 1));
}

function rigWithMetrics(): { readonly rig: EngineRig; readonly metrics: Metrics } {
  let rig: EngineRig | null = null;
  const metrics: Metrics = new Metrics({
    version: "1.2.3",
    processMetrics: false,
    nowUs: () => rig?.clock.nowUs() ?? 0,
    eventLoopDelay: () => ({ p50: 1, p99: 2, max: 3 }),
    queues: () => rig?.engine.snapshot().models ?? [],
    cache: () => ({ bytes: 4_096, entries: 3, evictions: 2 }),
    models: () => [{ name: "digits", version: "1", ready: true }],
  });
  rig = new EngineRig({ observers: [metrics.tallies] });
  rig.engine.addModel(modelSpec("digits/1"));
  rig.engine.loaded("gpu0", "digits/1", { "": linearProfile(4) });
  return { rig, metrics };
}

test("the names that dashboards know have the engine's figures", async () => {
  const { rig, metrics } = rigWithMetrics();
  const model = "digits/1";
  rig.submit({ model });
  rig.submit({ model, items: 2 });
  rig.submit({ model });
  rig.clock.advance(2_000);
  rig.device.complete([], { gatherUs: 10, executeUs: 1_900, collectUs: 5 });
  rig.clock.advance(4_000);
  rig.device.complete([], { gatherUs: 20, executeUs: 3_900, collectUs: 6 });
  rig.submit({ model });
  rig.device.fail("broken");
  rig.submit({ model });
  rig.submit({ model });
  metrics.tallies.refused(model, "INVALID_ARGUMENT", "invalid");
  const page = await metrics.text();
  const labels = '{model="digits",version="1"}';
  assert.equal(value(page, `nv_inference_request_success${labels}`), 3);
  assert.equal(value(page, 'nv_inference_request_failure{model="digits",version="1",reason="BACKEND"}'), 1);
  assert.equal(value(page, 'nv_inference_request_failure{model="digits",version="1",reason="REJECTED"}'), 1);
  assert.equal(value(page, `nv_inference_count${labels}`), 4);
  assert.equal(value(page, `nv_inference_exec_count${labels}`), 2);
  assert.equal(value(page, `nv_inference_request_duration_us${labels}`), 2_000 + 2 * 6_000);
  assert.equal(value(page, `nv_inference_queue_duration_us${labels}`), 4_000);
  assert.equal(value(page, `nv_inference_compute_input_duration_us${labels}`), 50);
  assert.equal(value(page, `nv_inference_compute_infer_duration_us${labels}`), 1_900 + 2 * 3_900);
  assert.equal(value(page, `nv_inference_compute_output_duration_us${labels}`), 17);
  assert.equal(value(page, `nv_inference_pending_request_count${labels}`), 1);
  assert.match(page, /# TYPE nv_inference_request_success counter/);
  assert.match(page, /# TYPE nv_inference_pending_request_count gauge/);
});

test("the cache's names have its figures, and a model's hits and misses", async () => {
  const { metrics } = rigWithMetrics();
  const asked = { ...request({ model: "digits/1" }), id: -1, arrivedUs: 0, bytes: 0 };
  const timings = { queueUs: 0, gatherUs: 0, executeUs: 0, collectUs: 0, batchItems: 0, bucket: 0, lateUs: 0 };
  metrics.tallies.cacheHit(asked, { ...timings, lane: null, waited: null }, 5, 5);
  for (const us of [10, 20]) metrics.tallies.cacheMiss(asked, us);
  metrics.tallies.cacheKept(asked, 30);
  const page = await metrics.text();
  const labels = '{model="digits",version="1"}';
  assert.equal(value(page, `nv_cache_num_hits_per_model${labels}`), 1);
  assert.equal(value(page, `nv_cache_num_misses_per_model${labels}`), 2);
  assert.equal(value(page, `nv_cache_hit_duration_per_model${labels}`), 5);
  assert.equal(value(page, `nv_cache_miss_duration_per_model${labels}`), 60);
  assert.equal(value(page, `nv_inference_request_success${labels}`), 1);
  assert.equal(value(page, `nv_inference_count${labels}`), 0);
  assert.equal(value(page, "slackline_cache_bytes"), 4_096);
  assert.equal(value(page, "slackline_cache_entries"), 3);
  assert.equal(value(page, "slackline_cache_evictions_total"), 2);
});

test("slackline's own names cover batches, slack, misses, predictions, device time, padding and delay", async () => {
  const { rig, metrics } = rigWithMetrics();
  const model = "digits/1";
  rig.submit({ model, deadlineUs: 52_000 });
  rig.clock.advance(60_000);
  rig.device.complete([], { executeUs: 4_000 });
  const page = await metrics.text();
  const labels = 'model="digits",version="1"';
  assert.equal(value(page, `slackline_batch_items_count{${labels}}`), 1);
  assert.equal(value(page, `slackline_batch_items_bucket{le="1",${labels}}`), 1);
  assert.equal(value(page, `slackline_dispatch_slack_seconds_sum{${labels}}`), 0.05);
  assert.equal(value(page, `slackline_execution_ratio_sum{${labels}}`), 2);
  assert.equal(value(page, `slackline_request_duration_seconds_sum{${labels}}`), 0.06);
  assert.equal(value(page, `slackline_deadline_misses_total{${labels},cause="execution"}`), 1);
  assert.equal(value(page, `slackline_answers_total{${labels},outcome="late"}`), 1);
  assert.equal(value(page, `slackline_device_seconds_total{${labels},class="deadline"}`), 0.06);
  assert.equal(value(page, 'slackline_lane_seconds_total{lane="gpu0",class="fill"}'), 0);
  assert.equal(value(page, `slackline_padding_items_total{${labels}}`), 0);
  assert.equal(value(page, 'slackline_event_loop_delay_seconds{quantile="0.99"}'), 0.002);
  assert.equal(value(page, 'slackline_idle_fill_share{lane="gpu0"}'), 0);
  assert.equal(value(page, `slackline_queued_items{${labels}}`), 0);
  assert.equal(value(page, `slackline_model_ready{${labels}}`), 1);
  assert.equal(value(page, 'slackline_lane_up{lane="gpu0"}'), 1);
  assert.equal(value(page, 'slackline_info{version="1.2.3"}'), 1);
});

test("reading the page twice gives the same figures: counters are not added up", async () => {
  const { rig, metrics } = rigWithMetrics();
  rig.submit({ model: "digits/1" });
  rig.device.complete();
  assert.equal(await metrics.text(), await metrics.text());
});

test("names that need escaping stay one label", async () => {
  const { metrics } = rigWithMetrics();
  metrics.tallies.model('we"ird\\name/3');
  assert.match(await metrics.text(), /nv_inference_count\{model="we\\"ird\\\\name",version="3"\} 0/);
});
