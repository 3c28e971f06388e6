import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { atLeast, atMost, budgetMarkdown, budgetText } from "../../bench/budgets/budget.ts";
import { quantile, weightedQuantile } from "../../bench/budgets/quantile.ts";

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

  it("count each value by its weight", () => {
    assert.equal(
      weightedQuantile(
        [
          [1, 0.25],
          [9, 1],
          [2, 0.25],
        ],
        0.5,
      ),
      9,
    );
  });
});
