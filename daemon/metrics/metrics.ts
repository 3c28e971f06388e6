import { setImmediate } from "node:timers/promises";
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { PrometheusDistributions } from "./distributions.ts";
import { EngineTallies } from "./engine-tallies.ts";
import { exposeTallies, type MetricSources } from "./exposition.ts";
import { TallyStatistics } from "./statistics.ts";

export interface MetricsOptions extends MetricSources {
  /** The daemon's version, shown as a label. */
  readonly version: string;
  /** Whether to add the process's own figures (CPU, memory, garbage collection); true by default. */
  readonly processMetrics?: boolean;
}

/** All that is counted in the daemon: give `tallies` to the engine and the wire as their observer, read the rest. */
export class Metrics {
  readonly registry: Registry = new Registry();
  readonly tallies: EngineTallies;
  readonly statistics: TallyStatistics;

  constructor(options: MetricsOptions) {
    this.tallies = new EngineTallies({ distributions: new PrometheusDistributions(this.registry) });
    this.statistics = new TallyStatistics(this.tallies);
    exposeTallies(this.registry, this.tallies, options);
    new Gauge({
      name: "slackline_info",
      help: "Version of the daemon",
      labelNames: ["version"],
      registers: [this.registry],
    }).set({ version: options.version }, 1);
    if (options.processMetrics ?? true) collectDefaultMetrics({ register: this.registry });
  }

  /**
   * The page of the metrics endpoint, in Prometheus's text format. Made metric by metric, with the event loop let run in
   * between: with many models the whole page takes tens of milliseconds.
   */
  async text(): Promise<string> {
    const parts: string[] = [];
    for (const { name } of this.registry.getMetricsAsArray()) {
      parts.push(await this.registry.getSingleMetricAsString(name));
      await setImmediate();
    }
    return `${parts.join("\n\n")}\n`;
  }
}
