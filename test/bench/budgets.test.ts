import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { atLeast, atMost, budgetMarkdown, budgetText } from "../../bench/budgets/budget.ts";
import { parseRatios, type RatioCounts, ratioShare } from "../../bench/budgets/execution-ratio.ts";
import { quantile } from "../../bench/budgets/quantile.ts";

describe("budget report", () => {
  const lines = [
    atMost("added latency", 1, "ms", 0.42, "direct 3 ms", "median"),
    atMost("gap", 2, "%", 2.5),
    atLeast("throughput", 75, "% of bare", 80),
  ];

  it("tells what held and what did not", () => {
    const rows = budgetText(lines).split("\n").slice(2);
    assert.match(rows[0]!, /^added latency +≤ 1 ms median +0\.42 ms +yes +direct 3 ms$/);
    assert.match(rows[1]!, /^gap +≤ 2 % +2\.50 % +NO$/);
    assert.match(rows[2]!, /^throughput +≥ 75 % of bare +80\.0 % of bare +yes$/);
    assert.match(budgetMarkdown(lines), /^\| gap \| ≤ 2 % \| 2\.50 % \| NO \| {2}\|$/m);
  });

  it("does not hold where nothing was measured", () => {
    assert.equal(atMost("gap", 2, "%", Number.NaN).held, false);
    assert.equal(atLeast("throughput", 2, "%", Number.NaN).held, false);
  });
});

describe("quantiles", () => {
  it("are values that occurred", () => {
    assert.equal(quantile([5, 1, 3], 0.5), 3);
    assert.equal(quantile([1, 2, 3, 4], 0.95), 4);
    assert.ok(Number.isNaN(quantile([], 0.5)));
  });
});

describe("execution ratios", () => {
  const page = (counts: readonly number[]): RatioCounts =>
    parseRatios(
      [
        "# TYPE slackline_execution_ratio histogram",
        ...["0.75", "0.9", "1.1", "1.25", "+Inf"].map(
          (le, i) => `slackline_execution_ratio_bucket{le="${le}",model="m",version="1"} ${counts[i]}`,
        ),
        'slackline_execution_ratio_sum{model="m",version="1"} 12.5',
        'slackline_execution_ratio_bucket{le="+Inf",model="idle",version="1"} 0',
      ].join("\n"),
    );

  it("are counted between two pages", () => {
    const before = page([5, 5, 5, 5, 10]);
    const after = page([5, 6, 9, 10, 20]);
    assert.deepEqual(ratioShare(before, after, 0.9, 1.1), { executions: 10, within: 0.3 });
    assert.deepEqual(ratioShare(before, after, 0.75, 1.25, "m"), { executions: 10, within: 0.5 });
    assert.ok(Number.isNaN(ratioShare(before, after, 0.75, 1.25, "idle").within));
  });
});
