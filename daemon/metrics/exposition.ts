/** The counters and gauges of the metrics endpoint, read from the tallies when somebody asks. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { CacheFigures } from "../cache/answer-cache.ts";
import type { DelayStatus } from "../status.ts";
import type { EngineTallies } from "./engine-tallies.ts";
import { type ExecutionTally, type LaneTally, labelsOfKey, type ModelTally, START_REASONS } from "./tally.ts";

/** What is measured elsewhere and shown here. */
export interface MetricSources {
  /** Engine clock, microseconds. */
  readonly nowUs: () => number;
  readonly eventLoopDelay?: () => DelayStatus;
  /** What waits in the queues now, by model version's key. */
  readonly queues?: () => readonly {
    readonly model: string;
    readonly queuedItems: number;
    readonly queuedBytes: number;
  }[];
  readonly cache?: () => CacheFigures;
  /** Whether each known model version is ready. */
  readonly models?: () => readonly { readonly name: string; readonly version: string; readonly ready: boolean }[];
}

type Labels = Record<string, string>;
type Sample = readonly [labels: Labels, value: number];

/** Registers a metric whose values are made when it is collected. */
function collected(
  Kind: typeof Counter | typeof Gauge,
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly string[],
  samples: () => Iterable<Sample>,
): void {
  const fill = (metric: Counter<string> | Gauge<string>): void => {
    metric.reset();
    for (const [labels, value] of samples()) metric.inc(labels, value);
  };
  const options = { name, help, labelNames: [...labelNames], registers: [registry] };
  if (Kind === Counter)
    new Counter({
      ...options,
      collect() {
        fill(this);
      },
    });
  else
    new Gauge({
      ...options,
      collect() {
        fill(this);
      },
    });
}

const MODEL = ["model", "version"];

export function exposeTallies(registry: Registry, tallies: EngineTallies, sources: MetricSources): void {
  const labels = (tally: ModelTally): Labels => ({ model: tally.name, version: tally.version });
  const perModel = (
    name: string,
    help: string,
    value: (tally: ModelTally) => number,
    Kind: typeof Counter | typeof Gauge = Counter,
  ): void => {
    collected(Kind, registry, name, help, MODEL, function* () {
      for (const tally of tallies.models.values()) yield [labels(tally), value(tally)];
    });
  };
  /** One more label with a value for each entry of a record. */
  const perModelAnd = (
    label: string,
    name: string,
    help: string,
    values: (tally: ModelTally) => Readonly<Record<string, number | undefined>>,
  ): void => {
    collected(Counter, registry, name, help, [...MODEL, label], function* () {
      for (const tally of tallies.models.values()) {
        for (const [key, value] of Object.entries(values(tally)))
          yield [{ ...labels(tally), [label]: key }, value ?? 0];
      }
    });
  };

  perModel("nv_inference_request_success", "Requests answered with a result", (tally) => tally.answered);
  perModelAnd("reason", "nv_inference_request_failure", "Requests answered with an error, or given up", (tally) => ({
    REJECTED: tally.shedTotal + tally.refused,
    CANCELED: tally.cancelled,
    BACKEND: tally.failed,
    OTHER: tally.lost,
  }));
  perModel("nv_inference_count", "Items inferred, cached answers left out", (tally) => tally.inferredItems);
  perModel("nv_inference_exec_count", "Batches executed", (tally) => tally.succeededExecutions);
  perModel("nv_inference_request_duration_us", "From arrival to result, summed", (tally) =>
    Math.round(tally.successUs),
  );
  perModel("nv_inference_queue_duration_us", "Time requests waited, summed", (tally) => Math.round(tally.queueUs));
  perModel("nv_inference_compute_input_duration_us", "Time inputs were gathered, summed", (tally) =>
    Math.round(tally.gatherUs),
  );
  perModel("nv_inference_compute_infer_duration_us", "Time the model executed, summed", (tally) =>
    Math.round(tally.executeUs),
  );
  perModel("nv_inference_compute_output_duration_us", "Time outputs were collected, summed", (tally) =>
    Math.round(tally.collectUs),
  );
  perModel(
    "nv_inference_pending_request_count",
    "Requests that wait for their execution",
    (tally) => tally.pending,
    Gauge,
  );
  perModel("nv_cache_num_hits_per_model", "Requests answered from the cache", (tally) => tally.cacheHits);
  perModel("nv_cache_num_misses_per_model", "Requests that the cache had no answer for", (tally) => tally.cacheMisses);
  perModel(
    "nv_cache_hit_duration_per_model",
    "Time to look up answers that were cached, summed, microseconds",
    (tally) => tally.cacheHitUs,
  );
  perModel(
    "nv_cache_miss_duration_per_model",
    "Time to look up answers that were not cached and to keep them, summed, microseconds",
    (tally) => tally.cacheMissUs,
  );

  perModelAnd("class", "slackline_requests_total", "Requests accepted", (tally) => ({
    deadline: tally.requests - tally.bestEffortRequests,
    best_effort: tally.bestEffortRequests,
  }));
  perModelAnd("outcome", "slackline_answers_total", "Requests answered with a result", (tally) => ({
    on_time: tally.onTime,
    late: tally.late,
    best_effort: tally.bestEffort,
  }));
  perModelAnd("cause", "slackline_shed_total", "Requests refused or dropped before execution", (tally) => tally.shed);
  perModelAnd(
    "cause",
    "slackline_deadline_misses_total",
    "Requests with a deadline that were not answered by it",
    (tally) => tally.misses,
  );
  perModel(
    "slackline_demoted_total",
    "Requests that went on as best-effort work, as they would miss an SLO they did not ask for",
    (tally) => tally.demoted,
  );
  perModelAnd(
    "cause",
    "slackline_fallbacks_total",
    "Requests that the model refused and its fallback answered",
    (tally) => tally.fallbacks,
  );
  perModelAnd(
    "cause",
    "slackline_fallback_failures_total",
    "Requests that the model refused and its fallback could not answer",
    (tally) => tally.fallbackFailures,
  );
  perModelAnd("phase", "slackline_cancelled_total", "Requests cancelled by their callers", (tally) => ({
    queued: tally.cancelledQueued,
    executing: tally.cancelledExecuting,
  }));
  perModel("slackline_items_executed_total", "Items in executed batches, padding left out", (tally) => tally.items);
  perModel(
    "slackline_padding_items_total",
    "Padding in executed batches, in items; sequences count by the share that they are padded by",
    (tally) => tally.paddingItems,
  );
  perModelAnd(
    "class",
    "slackline_device_seconds_total",
    "Time on devices and replicas by why it was spent: deadline, fill, share",
    (tally) => Object.fromEntries(START_REASONS.map((reason) => [reason, tally.busyUs[reason] / 1e6])),
  );
  exposeLanes(registry, tallies, sources);
  exposeRest(registry, tallies, sources);
}

function exposeLanes(registry: Registry, tallies: EngineTallies, sources: MetricSources): void {
  const lanes = function* (
    value: (tally: ExecutionTally, lane: string) => Readonly<Record<string, number>>,
  ): Generator<Sample> {
    for (const tally of tallies.lanes.values()) {
      for (const [key, each] of Object.entries(value(tally, tally.lane)))
        yield [{ lane: tally.lane, class: key }, each];
    }
  };
  collected(Counter, registry, "slackline_lane_seconds_total", "Time a lane executed, by why", ["lane", "class"], () =>
    lanes((tally) => Object.fromEntries(START_REASONS.map((reason) => [reason, tally.busyUs[reason] / 1e6]))),
  );
  collected(
    Counter,
    registry,
    "slackline_lane_executions_total",
    "Batches a lane executed, by why",
    ["lane", "class"],
    () => lanes((tally) => tally.executions),
  );
  const perLane = (
    Kind: typeof Counter | typeof Gauge,
    name: string,
    help: string,
    value: (tally: LaneTally) => number,
  ): void => {
    collected(Kind, registry, name, help, ["lane"], function* () {
      for (const tally of tallies.lanes.values()) {
        if (Kind === Counter || !tally.removed) yield [{ lane: tally.lane }, value(tally)];
      }
    });
  };
  perLane(Gauge, "slackline_lane_up", "Whether the lane is in service", (tally) => (tally.up ? 1 : 0));
  perLane(Counter, "slackline_lane_losses_total", "Times the lane died", (tally) => tally.losses);
  perLane(
    Gauge,
    "slackline_idle_fill_share",
    "Best-effort fill as a share of the time that deadline work left over in the last minute",
    ({ lane }) => tallies.idleFillShare(lane, sources.nowUs()),
  );
}

function exposeRest(registry: Registry, tallies: EngineTallies, sources: MetricSources): void {
  collected(
    Counter,
    registry,
    "slackline_refused_total",
    "Requests answered with an error before they were accepted",
    ["code", "cause"],
    function* () {
      for (const { code, cause, count } of tallies.refusals.values()) yield [{ code, cause }, count];
    },
  );
  const { eventLoopDelay, queues, cache, models } = sources;
  if (eventLoopDelay !== undefined) {
    const help = "Delay of the daemon's event loop in its last ten seconds";
    collected(Gauge, registry, "slackline_event_loop_delay_seconds", help, ["quantile"], () => {
      const { p50, p99, max } = eventLoopDelay();
      return [
        [{ quantile: "0.5" }, p50 / 1e3],
        [{ quantile: "0.99" }, p99 / 1e3],
        [{ quantile: "1" }, max / 1e3],
      ];
    });
  }
  if (queues !== undefined) {
    collected(Gauge, registry, "slackline_queued_items", "Items that wait", MODEL, () =>
      queues().map(({ model, queuedItems }): Sample => [labelsOfKey(model), queuedItems]),
    );
    collected(Gauge, registry, "slackline_queued_bytes", "Bytes that wait", MODEL, () =>
      queues().map(({ model, queuedBytes }): Sample => [labelsOfKey(model), queuedBytes]),
    );
  }
  if (cache !== undefined) {
    const figure = (Kind: typeof Counter | typeof Gauge, name: string, help: string, of: keyof CacheFigures): void =>
      collected(Kind, registry, name, help, [], () => [[{}, cache()[of]]]);
    figure(Gauge, "slackline_cache_bytes", "Memory that cached answers take, as cache_bytes_max bounds it", "bytes");
    figure(Gauge, "slackline_cache_entries", "Answers that are cached", "entries");
    figure(
      Counter,
      "slackline_cache_evictions_total",
      "Cached answers, the least recently used, that had to make room",
      "evictions",
    );
  }
  if (models !== undefined) {
    collected(Gauge, registry, "slackline_model_ready", "Whether the model version serves requests", MODEL, () =>
      models().map(({ name, version, ready }): Sample => [{ model: name, version }, ready ? 1 : 0]),
    );
  }
}
