import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Recorder } from "../../bench/load/recorder.ts";
import { reportText } from "../../bench/load/report.ts";
import type { LoadResult } from "../../bench/load/result.ts";
import { figure, percent } from "../../bench/report/format.ts";
import { table } from "../../bench/report/table.ts";

function figuresOf(fill: (recorder: Recorder) => void) {
  const recorder = new Recorder();
  fill(recorder);
  return recorder.figures(10);
}

function result(more: Partial<LoadResult> = {}): LoadResult {
  const busy = figuresOf((recorder) => {
    const timings = { batchItems: 4, bucket: 4, queueUs: 0, executeUs: 0, lane: "gpu0" };
    for (let n = 0; n < 99; n++) recorder.ended({ type: "answered", timings }, 1, 7_300, 50_000);
    recorder.ended({ type: "shed", cause: "late" }, 1, 100, 50_000);
  });
  const idle = figuresOf((recorder) => recorder.bestEffortEnded({ type: "answered", timings: null }, 8));
  return {
    scenario: "five-equal",
    seed: 3,
    scale: 1,
    target: "127.0.0.1:8001",
    transport: "stream",
    started_at: "2025-01-01T00:00:00.000Z",
    warmup_s: 2,
    measured_s: 10,
    valid: true,
    problems: [],
    interrupted: false,
    generator_lag_ms: { p50: 0.1, p90: 0.2, p99: 0.4, p999: 1, max: 2.04 },
    total: busy,
    models: { busy, idle },
    attainment_worst_model: 0.99,
    devices: {
      cpu0: {
        provider: "cpu",
        busy_share: 0.631,
        best_effort_share: 0.22,
        executions: 1234,
        batch_size_mean: 3.5,
        padding_share: 0.1,
      },
    },
    error_examples: {},
    ...more,
  };
}

describe("load report", () => {
  it("says which answers the model itself did not give", () => {
    const busy = figuresOf((recorder) => {
      for (const otherwise of ["fallback", "cached", "cached", undefined] as const) {
        recorder.ended({ type: "answered", timings: null, otherwise }, 1, 1_000, 50_000);
      }
    });
    assert.deepEqual([busy.on_time, busy.fallback, busy.cached], [4, 1, 2]);
    const text = reportText(result({ models: { busy } }));
    assert.match(text, /^fallback: busy 1 requests answered by another model$/m);
    assert.match(text, /^cache: busy 2 requests answered from memory$/m);
    assert.doesNotMatch(reportText(result()), /another model|from memory/);
  });

  it("shows every model, the total, the device and the generator's lag", () => {
    const text = reportText(result());
    const rows = text.split("\n");
    assert.match(rows[0]!, /five-equal against 127\.0\.0\.1:8001 \(stream\), seed 3: 10\.0 s measured after 2\.00 s/);
    assert.match(text, /^busy +100 +99 +0 +1 +0 +99\.0 % +9\.90 +7\.30 +7\.30 .* 4\.00$/m);
    assert.match(text, /^total +100/m);
    assert.match(text, /^best effort: idle 1 requests answered, 0\.80 items\/s$/m);
    assert.match(
      text,
      /^device cpu0 \(cpu\): busy 63\.1 % of the time, 22\.0 % with best-effort work; 1,234 executions of 3\.50 items/m,
    );
    assert.match(text, /^shed because: late 1$/m);
    assert.match(text, /^generator lag: p50 0\.10 ms, p99 0\.40 ms, max 2\.04 ms$/m);
    assert.doesNotMatch(text, /INVALID/);
  });

  it("shows nothing in place of figures that do not exist", () => {
    assert.match(reportText(result()), /^idle +0 +0 +0 +0 +0 +– +0\.00 +– +– +– +– +– +–$/m);
  });

  it("says when a run was invalid or stopped", () => {
    const text = reportText(result({ valid: false, problems: ["the reason"], interrupted: true }));
    assert.match(text, /^INVALID: the reason$/m);
    assert.match(text, /^Stopped before its end/m);
  });

  it("names errors with an example", () => {
    const total = figuresOf((recorder) => recorder.ended({ type: "error", code: "INTERNAL", message: "m" }, 1, 1, 2));
    const text = reportText(result({ total, error_examples: { INTERNAL: "it broke" } }));
    assert.match(text, /^errors: INTERNAL 1, for example: it broke$/m);
  });
});

describe("report figures", () => {
  it("keeps three digits and never rounds a share to all or nothing", () => {
    assert.deepEqual([0.4217, 7.31, 48.24, 1204.4].map(figure), ["0.42", "7.31", "48.2", "1,204"]);
    assert.deepEqual([0, 0.0004, 0.5, 0.99996, 1, 2.5].map(percent), [
      "0 %",
      "0.04 %",
      "50.0 %",
      "99.99 %",
      "100 %",
      "250 %",
    ]);
  });

  it("aligns columns", () => {
    const lines = table(
      [
        { title: "name", align: "left" },
        { title: "n", align: "right" },
      ],
      [
        ["a", "1"],
        ["long name", "1,000"],
        ["sum", "1,001"],
      ],
      2,
    );
    assert.deepEqual(lines, [
      "name           n",
      "────────────────",
      "a              1",
      "long name  1,000",
      "────────────────",
      "sum        1,001",
    ]);
  });
});
