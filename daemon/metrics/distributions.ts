import { Histogram, type Registry } from "prom-client";
import type { Distributions } from "./engine-tallies.ts";
import type { ModelTally } from "./tally.ts";

type Child = Histogram.Internal<"model" | "version">;

interface Children {
  readonly batchItems: Child;
  readonly slack: Child;
  readonly executionRatio: Child;
  readonly latency: Child;
}

const LABELS = ["model", "version"] as const;

/** The histograms of the metrics endpoint. The children by label are kept: looking them up costs more than observing. */
export class PrometheusDistributions implements Distributions {
  readonly #histograms: { readonly [K in keyof Children]: Histogram<"model" | "version"> };
  readonly #children = new WeakMap<ModelTally, Children>();

  constructor(registry: Registry) {
    const histogram = (name: string, help: string, buckets: number[]): Histogram<"model" | "version"> =>
      new Histogram({ name, help, labelNames: LABELS, buckets, registers: [registry] });
    this.#histograms = {
      batchItems: histogram(
        "slackline_batch_items",
        "Items in a batch, padding left out",
        [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024],
      ),
      slack: histogram(
        "slackline_dispatch_slack_seconds",
        "Time that a request's deadline left beyond the predicted execution when its batch started; negative: predicted late",
        [-1, -0.1, -0.01, 0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5],
      ),
      executionRatio: histogram(
        "slackline_execution_ratio",
        "Actual over predicted execution time",
        [0.5, 0.75, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4, 10],
      ),
      latency: histogram(
        "slackline_request_duration_seconds",
        "From a request's arrival to the end of its batch, or until its answer was found in the cache",
        [0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.35, 0.5, 1, 2, 5, 10],
      ),
    };
  }

  batchItems(model: ModelTally, items: number): void {
    this.#of(model).batchItems.observe(items);
  }

  slack(model: ModelTally, us: number): void {
    this.#of(model).slack.observe(us / 1e6);
  }

  executionRatio(model: ModelTally, ratio: number): void {
    this.#of(model).executionRatio.observe(ratio);
  }

  latency(model: ModelTally, us: number): void {
    this.#of(model).latency.observe(us / 1e6);
  }

  #of(model: ModelTally): Children {
    let children = this.#children.get(model);
    if (children === undefined) {
      const labels = { model: model.name, version: model.version };
      const { batchItems, slack, executionRatio, latency } = this.#histograms;
      children = {
        batchItems: batchItems.labels(labels),
        slack: slack.labels(labels),
        executionRatio: executionRatio.labels(labels),
        latency: latency.labels(labels),
      };
      this.#children.set(model, children);
    }
    return children;
  }
}
