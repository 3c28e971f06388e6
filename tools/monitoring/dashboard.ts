/** What the dashboard shows. */
import type { Dashboard, Query, Row } from "./grafana.ts";

const DAEMON = 'job=~"$job",instance=~"$instance"';
const MODEL = `${DAEMON},model=~"$model"`;

/** Increase per second of a counter of the daemon's, and of its models' with further matchers (`,outcome="late"`). */
const rate = (counter: string, matchers = DAEMON): string => `rate(${counter}{${matchers}}[$__rate_interval])`;
const perModel = (counter: string, matchers = ""): string => rate(counter, MODEL + matchers);
/** By labels, or of everything. */
const sum = (by: string, expr: string): string => (by === "" ? `sum(${expr})` : `sum by (${by}) (${expr})`);
/** Nothing where there is nothing to divide by; `whole` may be a sum. */
const ratio = (part: string, whole: string): string => `${part} / (${whole} > 0)`;
/** Of two that make up the whole. */
const share = (part: string, rest: string): string => ratio(part, `${part} + ${rest}`);
/** Of what a histogram observed lately. */
const mean = (by: string, histogram: string): string =>
  ratio(sum(by, perModel(`${histogram}_sum`)), sum(by, perModel(`${histogram}_count`)));
const quantile = (q: number, by: string, histogram: string): string =>
  `histogram_quantile(${q}, ${sum(`${by}, le`, perModel(`${histogram}_bucket`))})`;

/** On-time answers as a share of all requests with deadlines; those that a fallback answered count as the fallback's. */
function onTimeShare(by: string): string {
  const onTime = sum(by, perModel("slackline_answers_total", ',outcome="on_time"'));
  const missed = sum(by, perModel("slackline_deadline_misses_total"));
  return share(onTime, `(${missed} or 0 * ${onTime})`);
}

/** A metric that is shown as it is, by daemon. */
const ofDaemon = (metric: string, legend: string): Query => ({
  expr: `${metric}{${DAEMON}}`,
  legend: `${legend} {{instance}}`,
});

const OVERVIEW: Row = {
  title: "Overview",
  panels: [
    {
      title: "On time",
      description:
        "Share of requests with deadlines that were answered by them. Those that a fallback answered count as the fallback's, those that it couldn't answer either count for both models.",
      kind: "number",
      unit: "percentunit",
      max: 1,
      noValue: "no traffic",
      colors: {
        base: "red",
        steps: [
          [0.95, "orange"],
          [0.99, "green"],
        ],
      },
      queries: [{ expr: onTimeShare(""), legend: "on time" }],
    },
    {
      title: "Requests",
      description: "Requests accepted.",
      kind: "number",
      unit: "reqps",
      queries: [{ expr: sum("", perModel("slackline_requests_total")), legend: "requests" }],
    },
    {
      title: "Model versions not ready",
      description: "Versions that are loading or can't be served. /status and the log say why.",
      kind: "number",
      unit: "short",
      colors: { base: "green", steps: [[1, "red"]] },
      queries: [{ expr: `count(slackline_model_ready{${MODEL}} == 0) or vector(0)`, legend: "not ready" }],
    },
    {
      title: "Lanes down",
      description: "Device lanes and CPU replicas that are out of service. They are started again by themselves.",
      kind: "number",
      unit: "short",
      colors: { base: "green", steps: [[1, "red"]] },
      queries: [{ expr: `count(slackline_lane_up{${DAEMON}} == 0) or vector(0)`, legend: "down" }],
    },
    {
      title: "On time by model",
      description:
        "Share of each model's requests with deadlines that were answered by them, those left out that its fallback answered.",
      unit: "percentunit",
      max: 1,
      queries: [{ expr: onTimeShare("model"), legend: "{{model}}" }],
    },
    {
      title: "Requests by class",
      description: "Requests accepted, with a deadline (the caller's or the model's SLO) and best effort.",
      kind: "stacked",
      unit: "reqps",
      queries: [{ expr: sum("class", perModel("slackline_requests_total")), legend: "{{class}}" }],
    },
    {
      title: "Deadline misses by cause",
      description:
        "late, expired, sacrificed: shed, as they could not be on time or others were worth more. queue_items, queue_bytes: the queue was full. unloaded: the model went away. blocked, own_batches, mispredicted, held, execution: answered late, by what they waited for most. failed, lost: the execution failed or its lane died.",
      kind: "stacked",
      unit: "reqps",
      queries: [{ expr: sum("cause", perModel("slackline_deadline_misses_total")), legend: "{{cause}}" }],
    },
    {
      title: "Device time by class",
      description:
        "Lanes busy, 1 is one lane all the time. deadline: work that deadlines need; fill: best-effort work in time that they leave; share: best-effort work by its guaranteed share.",
      kind: "stacked",
      unit: "short",
      queries: [{ expr: sum("class", perModel("slackline_device_seconds_total")), legend: "{{class}}" }],
    },
    {
      title: "Device time by model",
      description: "Lanes busy, 1 is one lane all the time.",
      kind: "stacked",
      unit: "short",
      queries: [{ expr: sum("model", perModel("slackline_device_seconds_total")), legend: "{{model}}" }],
    },
    {
      title: "Refused before acceptance",
      description:
        "Requests answered with an error before they reached a queue: not valid, model unknown or not ready, or inflight_bytes_max reached.",
      kind: "stacked",
      unit: "reqps",
      queries: [{ expr: sum("code, cause", rate("slackline_refused_total")), legend: "{{code}} {{cause}}" }],
    },
  ],
};

const MODELS: Row = {
  title: "Models",
  panels: [
    {
      title: "Requests",
      description: "Requests accepted.",
      unit: "reqps",
      queries: [{ expr: sum("model", perModel("slackline_requests_total")), legend: "{{model}}" }],
    },
    {
      title: "Answers by outcome",
      description:
        "Requests answered with a result. best_effort holds those too that stated no deadline and would have missed the SLO.",
      unit: "reqps",
      queries: [{ expr: sum("model, outcome", perModel("slackline_answers_total")), legend: "{{model}} {{outcome}}" }],
    },
    {
      title: "Errors by reason",
      description:
        "REJECTED: refused or shed. CANCELED: by the caller. BACKEND: the execution failed. OTHER: lost with its lane.",
      unit: "reqps",
      queries: [
        { expr: sum("model, reason", perModel("nv_inference_request_failure")), legend: "{{model}} {{reason}}" },
      ],
    },
    {
      title: "Latency, median",
      description: "From arrival to the end of the batch, or until the answer was found in the cache.",
      unit: "s",
      queries: [{ expr: quantile(0.5, "model", "slackline_request_duration_seconds"), legend: "{{model}}" }],
    },
    {
      title: "Latency, p99",
      description: "From arrival to the end of the batch, or until the answer was found in the cache.",
      unit: "s",
      queries: [{ expr: quantile(0.99, "model", "slackline_request_duration_seconds"), legend: "{{model}}" }],
    },
    {
      title: "Where the time goes",
      description:
        "Mean time of an answered request in the queue, and of its batch in gathering inputs, executing and collecting outputs.",
      kind: "stacked",
      unit: "µs",
      queries: [
        ["queue", "queue"],
        ["compute_input", "gather"],
        ["compute_infer", "execute"],
        ["compute_output", "collect"],
      ].map(([part, legend]) => ({
        expr: ratio(
          sum("", perModel(`nv_inference_${part}_duration_us`)),
          sum("", perModel("nv_inference_request_success")),
        ),
        legend: legend!,
      })),
    },
    {
      title: "Slack at dispatch, least twentieth",
      description:
        "Time that a request's deadline left beyond its predicted end when its batch started: a twentieth of the requests had less. Near 0 there is no room for more load.",
      unit: "s",
      signed: true,
      queries: [{ expr: quantile(0.05, "model", "slackline_dispatch_slack_seconds"), legend: "{{model}}" }],
    },
    {
      title: "Batch size",
      description: "Mean items in a batch, padding left out.",
      unit: "short",
      queries: [{ expr: mean("model", "slackline_batch_items"), legend: "{{model}}" }],
    },
    {
      title: "Padding",
      description:
        "Share of what was executed that is padding: batches are padded to buckets, sequences to their lengths.",
      unit: "percentunit",
      max: 1,
      queries: [
        {
          expr: share(
            sum("model", perModel("slackline_padding_items_total")),
            sum("model", perModel("slackline_items_executed_total")),
          ),
          legend: "{{model}}",
        },
      ],
    },
    {
      title: "Queue",
      description: "Items that wait.",
      unit: "short",
      queries: [{ expr: sum("model", `slackline_queued_items{${MODEL}}`), legend: "{{model}}" }],
    },
    {
      title: "Queue, bytes",
      description: "Bytes that wait; queue_bytes_max bounds them.",
      unit: "bytes",
      queries: [{ expr: sum("model", `slackline_queued_bytes{${MODEL}}`), legend: "{{model}}" }],
    },
    {
      title: "Shed by cause",
      description: "Requests refused or dropped before execution, best-effort ones too.",
      unit: "reqps",
      queries: [{ expr: sum("model, cause", perModel("slackline_shed_total")), legend: "{{model}} {{cause}}" }],
    },
    {
      title: "Demoted",
      description: "Requests that stated no deadline, would have missed the SLO and went on as best-effort work.",
      unit: "reqps",
      queries: [{ expr: sum("model", perModel("slackline_demoted_total")), legend: "{{model}}" }],
    },
    {
      title: "Fallbacks",
      description: "Requests that a model's fallback answered in its place, and those that it could not answer either.",
      unit: "reqps",
      queries: [
        { expr: sum("model", perModel("slackline_fallbacks_total")), legend: "{{model}} answered" },
        { expr: sum("model", perModel("slackline_fallback_failures_total")), legend: "{{model}} not answered" },
      ],
    },
    {
      title: "Cache hits",
      description: "Share of the requests of models with cache: true that were answered from memory.",
      unit: "percentunit",
      max: 1,
      queries: [
        {
          expr: share(
            sum("model", perModel("nv_cache_num_hits_per_model")),
            sum("model", perModel("nv_cache_num_misses_per_model")),
          ),
          legend: "{{model}}",
        },
      ],
    },
    {
      title: "Cache memory",
      description: "Memory that cached answers take; cache_bytes_max bounds it.",
      unit: "bytes",
      queries: [ofDaemon("slackline_cache_bytes", "cache")],
    },
    {
      title: "Versions",
      description: "Share of a model's requests that went to each version.",
      unit: "percentunit",
      max: 1,
      queries: [
        {
          expr: `${sum("model, version", perModel("slackline_requests_total"))} / on (model) group_left () (${sum("model", perModel("slackline_requests_total"))} > 0)`,
          legend: "{{model}}/{{version}}",
        },
      ],
    },
    {
      title: "Deadline misses by version",
      description: "Requests with deadlines that each version did not answer by them: does a new one do worse?",
      unit: "reqps",
      queries: [
        { expr: sum("model, version", perModel("slackline_deadline_misses_total")), legend: "{{model}}/{{version}}" },
      ],
    },
  ],
};

const byLane = (expr: string): string => sum("instance, lane", expr);

const LANES: Row = {
  title: "Lanes and device",
  panels: [
    {
      title: "Lanes busy",
      description: "Share of the time in which a lane executed. Near 1 with deadline work, the device is full.",
      unit: "percentunit",
      max: 1,
      queries: [{ expr: byLane(rate("slackline_lane_seconds_total")), legend: "{{instance}} {{lane}}" }],
    },
    {
      title: "Lanes busy by reason",
      description:
        "deadline: work that deadlines need; fill: best-effort work in time that they leave; share: best-effort work by its guaranteed share.",
      unit: "percentunit",
      max: 1,
      queries: [
        {
          expr: sum("instance, lane, class", rate("slackline_lane_seconds_total")),
          legend: "{{instance}} {{lane}} {{class}}",
        },
      ],
    },
    {
      title: "Executions",
      description: "Batches that a lane executed.",
      unit: "ops",
      queries: [{ expr: byLane(rate("slackline_lane_executions_total")), legend: "{{instance}} {{lane}}" }],
    },
    {
      title: "Idle time filled",
      description: "Best-effort work as a share of the time that deadline work left over in the last minute.",
      unit: "percentunit",
      max: 1,
      queries: [{ expr: byLane(`slackline_idle_fill_share{${DAEMON}}`), legend: "{{instance}} {{lane}}" }],
    },
    {
      title: "Lane deaths",
      description: "Times a lane died. What it executed was lost; it is started again and its models are loaded anew.",
      unit: "short",
      queries: [
        {
          expr: byLane(`increase(slackline_lane_losses_total{${DAEMON}}[$__rate_interval])`),
          legend: "{{instance}} {{lane}}",
        },
      ],
    },
    {
      title: "Execution time, actual over predicted",
      description:
        "Median and p95 over a model's executions. 1 is what was planned with; a p95 far above makes requests late that were predicted to be on time.",
      unit: "short",
      queries: [
        { expr: quantile(0.5, "model", "slackline_execution_ratio"), legend: "{{model}} median" },
        { expr: quantile(0.95, "model", "slackline_execution_ratio"), legend: "{{model}} p95" },
      ],
    },
    {
      title: "GPU utilization",
      description: "Share of the last second in which the GPU ran a kernel, as nvidia-smi tells it.",
      unit: "percentunit",
      max: 1,
      queries: [ofDaemon("nv_gpu_utilization", "{{gpu_uuid}}")],
    },
    {
      title: "GPU memory",
      description: "In use by all processes, and how much there is, as nvidia-smi tells it.",
      unit: "bytes",
      queries: [
        ofDaemon("nv_gpu_memory_used_bytes", "used {{gpu_uuid}}"),
        ofDaemon("nv_gpu_memory_total_bytes", "total {{gpu_uuid}}"),
      ],
    },
    {
      title: "GPU power",
      description: "Drawn, and the limit, as nvidia-smi tells it.",
      unit: "watt",
      queries: [
        ofDaemon("nv_gpu_power_usage", "drawn {{gpu_uuid}}"),
        ofDaemon("nv_gpu_power_limit", "limit {{gpu_uuid}}"),
      ],
    },
  ],
};

const PROCESS: Row = {
  title: "Daemon's process",
  panels: [
    {
      title: "Memory",
      description: "Resident memory of the daemon's process; lanes and CPU replicas are processes of their own.",
      unit: "bytes",
      queries: [ofDaemon("process_resident_memory_bytes", "resident")],
    },
    {
      title: "Heap",
      description: "V8's heap, and buffers outside of it: messages, most of all.",
      unit: "bytes",
      queries: [
        ofDaemon("nodejs_heap_size_used_bytes", "heap in use"),
        ofDaemon("nodejs_heap_size_total_bytes", "heap"),
        ofDaemon("nodejs_external_memory_bytes", "outside"),
      ],
    },
    {
      title: "CPU",
      description: "Cores that the daemon's process uses. The event loop is one thread: it is full at about 1.",
      unit: "short",
      queries: [{ expr: rate("process_cpu_seconds_total"), legend: "{{instance}}" }],
    },
    {
      title: "Event-loop delay",
      description: "How late timers ran in the last ten seconds. All requests wait for it.",
      unit: "s",
      queries: [ofDaemon("slackline_event_loop_delay_seconds", "{{quantile}}")],
    },
    {
      title: "Garbage collection",
      description: "Share of the time that went to collections, by kind.",
      unit: "percentunit",
      queries: [
        { expr: sum("instance, kind", rate("nodejs_gc_duration_seconds_sum")), legend: "{{kind}} {{instance}}" },
      ],
    },
    {
      title: "Open files",
      description: "Files, sockets and shared memory that the daemon's process has open.",
      unit: "short",
      queries: [ofDaemon("process_open_fds", "open")],
    },
  ],
};

export const DASHBOARD: Dashboard = {
  uid: "slackline",
  title: "slackline",
  description: "Requests by deadline, models, device lanes and process of slackline daemons.",
  variables: [
    { name: "job", of: "slackline_info" },
    { name: "instance", of: 'slackline_info{job=~"$job"}' },
    { name: "model", of: `slackline_model_ready{${DAEMON}}` },
  ],
  rows: [OVERVIEW, MODELS, LANES, PROCESS],
};
