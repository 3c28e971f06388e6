/** Alert rules and dashboard ask for what the daemon has: misspelt or renamed metrics would just never show. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { parser } from "@prometheus-io/lezer-promql";
import { parse } from "yaml";
import { GpuMetrics } from "../../daemon/metrics/gpu-metrics.ts";
import { Metrics } from "../../daemon/metrics/metrics.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { RpcCause } from "../../daemon/rpc/errors.ts";
import type { ShedCause } from "../../daemon/scheduler/types.ts";
import { EngineRig, request } from "../support/engine-rig.ts";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

interface PanelJson {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: { readonly uid: string };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig?: { readonly defaults: { readonly unit: string } };
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly legendFormat: string }[];
}

interface DashboardJson {
  readonly panels: readonly PanelJson[];
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly query: string | { query: string } }[];
  };
}

const fileText = (name: string): string => readFileSync(path.join(PACKAGE_ROOT, name), "utf8");
const RULES: readonly Rule[] = parse(fileText("tools/monitoring/alerts.yaml")).groups.flatMap(
  (group: { rules: Rule[] }) => group.rules,
);
const DASHBOARD: DashboardJson = JSON.parse(fileText("tools/monitoring/dashboard.json"));

/** What one metric of the exposition can be asked for. */
interface Exposed {
  readonly isCounter: boolean;
  /** Values by label, those that were shown. */
  readonly labels: ReadonlyMap<string, ReadonlySet<string>>;
}

/** Prometheus gives these to whatever it scrapes. */
const TARGET_LABELS = ["job", "instance"];

/** All metrics of a daemon, in which everything that has a cause has happened. */
async function exposition(): Promise<ReadonlyMap<string, Exposed>> {
  const { registry, tallies } = new Metrics({
    version: "1",
    nowUs: () => 0,
    eventLoopDelay: () => ({ p50: 1, p99: 2, max: 3 }),
    queues: () => [{ model: "m/1", queuedItems: 1, queuedBytes: 1 }],
    cache: () => ({ bytes: 1, entries: 1, evictions: 1 }),
    models: () => [{ name: "m", version: "1", ready: true }],
  });
  new GpuMetrics(registry, { intervalMs: 1 });
  const rig = new EngineRig({ observers: [tallies] });
  rig.submit();
  rig.device.complete();
  const shed: readonly ShedCause[] = ["expired", "late", "sacrificed", "queue_items", "queue_bytes", "unloaded"];
  for (const cause of shed) {
    tallies.shed({ ...request(), id: 0, arrivedUs: 0, bytes: 0 }, cause, {}, 0);
    for (const end of ["answered", "refused"] as const) tallies.fellBack({ model: "m", cause, shed: null }, end);
  }
  const refused: readonly RpcCause[] = ["not_ready", "inflight_bytes", "unread_answers", "overloaded"];
  for (const cause of refused) {
    tallies.refused("m", "RESOURCE_EXHAUSTED", cause);
    for (const end of ["answered", "refused"] as const) tallies.fellBack({ model: "m", cause, shed: null }, end);
  }
  const exposed = new Map<string, Exposed>([["up", { isCounter: false, labels: new Map() }]]);
  const labelNames = new Map(
    registry.getMetricsAsArray().map((metric) => [
      metric.name,
      // Part of every metric, though not of its type: those that have no value yet show their labels nowhere else.
      (metric as unknown as { labelNames: readonly string[] }).labelNames,
    ]),
  );
  for (const { name, type, values } of await registry.getMetricsAsJSON()) {
    const isHistogram = String(type) === "histogram";
    for (const part of isHistogram ? ["_bucket", "_sum", "_count"] : [""]) {
      const labels = new Map<string, Set<string>>();
      for (const label of labelNames.get(name)!) labels.set(label, new Set());
      if (part === "_bucket") labels.set("le", new Set());
      for (const value of values) {
        for (const [label, text] of Object.entries(value.labels)) labels.get(label)?.add(String(text));
      }
      exposed.set(`${name}${part}`, { isCounter: isHistogram || String(type) === "counter", labels });
    }
  }
  return exposed;
}

type Node = ReturnType<typeof parser.parse>["topNode"];

/** What is wrong with an expression of PromQL; empty where nothing is. */
function problemsOf(expr: string, exposed: ReadonlyMap<string, Exposed>): readonly string[] {
  const text = expr.replaceAll("$__rate_interval", "5m");
  const textOf = (node: Node): string => text.slice(node.from, node.to);
  const below = (node: Node, name: string): readonly Node[] => {
    const found: Node[] = [];
    node.cursor().iterate((each) => {
      if (each.name === name) found.push(each.node);
    });
    return found;
  };
  const root = parser.parse(text).topNode;
  const problems: string[] = [];
  const broken = below(root, "⚠");
  if (broken.length > 0) problems.push(`no PromQL at character ${broken[0]!.from}`);
  const metricsOf = (node: Node): readonly string[] =>
    below(node, "VectorSelector").map((selector) => textOf(selector.getChild("Identifier")!));
  const requireLabels = (node: Node, labels: readonly string[]): void => {
    for (const metric of metricsOf(node)) {
      for (const label of labels) {
        const known = TARGET_LABELS.includes(label) || exposed.get(metric)?.labels.has(label) === true;
        if (!known) problems.push(`${metric} has no label ${label}`);
      }
    }
  };
  for (const metric of metricsOf(root)) if (!exposed.has(metric)) problems.push(`there is no metric ${metric}`);
  for (const modifier of below(root, "GroupingLabels")) {
    // Of an aggregation, or of the two sides that are matched.
    requireLabels(modifier.parent!.parent!, below(modifier, "LabelName").map(textOf));
  }
  for (const selector of below(root, "VectorSelector")) {
    const metric = textOf(selector.getChild("Identifier")!);
    for (const matcher of below(selector, "UnquotedLabelMatcher")) {
      const label = textOf(matcher.getChild("LabelName")!);
      requireLabels(selector, [label]);
      const wanted = textOf(matcher.getChild("StringLiteral")!).slice(1, -1);
      if (wanted.includes("$") || wanted.includes("%q")) continue;
      for (const value of wanted.split("|")) {
        if (!exposed.get(metric)?.labels.get(label)?.has(value)) problems.push(`${metric} has no ${label} "${value}"`);
        if (label === "le" && /^\d+$/.test(value)) problems.push(`le="${value}" is le="${value}.0" in Prometheus 3`);
      }
    }
  }
  for (const call of below(root, "FunctionCall")) {
    if (!["rate", "increase"].includes(textOf(call.getChild("FunctionIdentifier")!))) continue;
    for (const metric of metricsOf(call)) {
      if (exposed.get(metric)?.isCounter === false) problems.push(`${metric} is no counter`);
    }
  }
  return problems;
}

const exposed = await exposition();

test("what is wrong with an expression is found", () => {
  const problems = (expr: string): readonly string[] => problemsOf(expr, exposed);
  assert.deepEqual(problems("sum by (model, job) (rate(slackline_answers_total[5m]))"), []);
  assert.deepEqual(problems("rate(slackline_answer_total[5m])"), ["there is no metric slackline_answer_total"]);
  assert.deepEqual(problems("sum by (lane) (rate(slackline_answers_total[5m]))"), [
    "slackline_answers_total has no label lane",
  ]);
  assert.deepEqual(problems('slackline_answers_total{kind="late"}'), [
    "slackline_answers_total has no label kind",
    'slackline_answers_total has no kind "late"',
  ]);
  assert.deepEqual(problems('slackline_answers_total{outcome=~"late|ontime"}'), [
    'slackline_answers_total has no outcome "ontime"',
  ]);
  assert.deepEqual(problems('slackline_execution_ratio_bucket{le="2"}'), ['le="2" is le="2.0" in Prometheus 3']);
  assert.deepEqual(problems("up / on (lane) slackline_lane_up"), ["up has no label lane"]);
  assert.deepEqual(problems("rate(slackline_queued_items[5m])"), ["slackline_queued_items is no counter"]);
  assert.deepEqual(problems("sum(slackline_queued_items"), ["no PromQL at character 26"]);
});

test("alerts ask for metrics and labels that there are, in their texts too", () => {
  for (const { alert, expr, annotations } of RULES) {
    assert.deepEqual(problemsOf(expr, exposed), [], alert);
    const metrics = [...exposed.keys()].filter((name) => new RegExp(`\\b${name}\\b`).test(expr));
    for (const text of Object.values(annotations)) {
      for (const [, query] of text.matchAll(/printf "([^"]*%q[^"]*)"/g)) {
        assert.deepEqual(problemsOf(query!.replaceAll("%q", '"%q"'), exposed), [], alert);
      }
      for (const [, label] of text.matchAll(/\$labels\.(\w+)/g)) {
        const known = TARGET_LABELS.includes(label!) || metrics.some((name) => exposed.get(name)!.labels.has(label!));
        assert.ok(known, `${alert}: none of ${metrics} has a label ${label}`);
      }
      for (const [name] of text.matchAll(/\b(?:slackline|nv|process|nodejs)_\w+/g)) {
        const known = exposed.has(name) || exposed.has(`${name}_bucket`) || name === "slackline_retry_after_ms";
        assert.ok(known, `${alert}: there is no metric ${name}`);
      }
    }
  }
});

test("each alert says what is wrong, what it means and which section of the README helps", () => {
  const headings = fileText("README.md")
    .split("\n")
    .filter((line) => line.startsWith("#"))
    .map((line) => line.replace(/^#+ /, "").replaceAll("`", ""));
  assert.equal(new Set(RULES.map(({ alert }) => alert)).size, RULES.length);
  for (const { alert, labels, annotations } of RULES) {
    assert.match(labels.severity ?? "", /^(critical|warning)$/, alert);
    assert.ok(annotations.summary, `${alert} has no summary`);
    const section = /\(README, ([^)]+)\)/.exec(annotations.description ?? "")?.[1];
    assert.ok(section !== undefined && headings.includes(section), `${alert}: README.md has no section ${section}`);
  }
});

test("panels ask for metrics and labels that there are", () => {
  for (const { title, targets } of DASHBOARD.panels) {
    for (const { expr, legendFormat } of targets ?? []) {
      assert.deepEqual(problemsOf(expr, exposed), [], title);
      const labels = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!);
      if (labels.length > 0) assert.deepEqual(problemsOf(`sum by (${labels}) (${expr})`, exposed), [], title);
    }
  }
  for (const { query } of DASHBOARD.templating.list) {
    if (typeof query === "string") continue;
    const [, of, label] = /^label_values\((.+), (\w+)\)$/.exec(query.query)!;
    assert.deepEqual(problemsOf(`sum by (${label}) (${of})`, exposed), []);
  }
});

test("panels have a title, a description, a unit, the chosen data source and a place of their own", () => {
  const panels = DASHBOARD.panels.filter(({ type }) => type !== "row");
  for (const { title, description, datasource, fieldConfig, targets } of panels) {
    assert.ok(title && description && fieldConfig?.defaults.unit, title);
    assert.equal(datasource?.uid, "$datasource");
    assert.equal(new Set(targets?.map(({ refId }) => refId)).size, targets?.length);
  }
  assert.equal(new Set(DASHBOARD.panels.map(({ id }) => id)).size, DASHBOARD.panels.length);
  const taken = new Set<string>();
  for (const { title, gridPos } of DASHBOARD.panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(x < 24 && !taken.has(`${x} ${y}`), `${title} lies over another panel`);
        taken.add(`${x} ${y}`);
      }
    }
  }
});
