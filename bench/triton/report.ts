/** The comparison as Markdown and as a page. */
import { attainmentChart } from "../report/chart.ts";
import { figure, percent } from "../report/format.ts";
import { escapeHtml, htmlPage, htmlTable } from "../report/html.ts";
import { bestTrial, type Contestant, meanAttainment, type Summary, summaries, type TritonResult } from "./result.ts";
import { described } from "./settings.ts";

const TITLE = "slackline beside Triton";
const LAG = "sent late by, ms";

interface Table {
  readonly titles: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export function tritonMarkdown(result: TritonResult): string {
  return `${[
    `# ${TITLE}`,
    ...conditions(result),
    "## Deadlines alone",
    markdownTable(loadTable(result)),
    "## With a best-effort backlog beside them",
    markdownTable(fillTable(result)),
    "## What was tried in Triton",
    markdownTable(trialTable(result)),
  ].join("\n\n")}\n`;
}

export function tritonHtml(result: TritonResult): string {
  const page = ({ titles, rows }: Table): string =>
    htmlTable(
      titles,
      rows.map((row) => row.map(escapeHtml)),
    );
  const body = [
    `<h1>${TITLE}</h1>`,
    ...conditions(result).map((text) => `<p class="faint">${escapeHtml(text)}</p>`),
    "<h2>Deadlines alone</h2>",
    '<p class="faint">Of the model that fares worst:</p>',
    attainmentChart(
      result.contestants.map(({ name, loads }) => [
        name,
        summaries(loads).map((summary) => [summary.offered_per_s, summary.attainment_worst_model] as const),
      ]),
    ),
    page(loadTable(result)),
    "<h2>With a best-effort backlog beside them</h2>",
    page(fillTable(result)),
    "<h2>What was tried in Triton</h2>",
    page(trialTable(result)),
  ];
  return htmlPage(TITLE, body.join("\n"));
}

function conditions(result: TritonResult): string[] {
  const settings = result.contestants.flatMap((contestant) =>
    contestant.settings === null ? [] : [`${contestant.name}: ${described(contestant.settings)}`],
  );
  const models = result.models.map(
    ({ name, slo_ms, rate_per_s_at_load_1 }) => `${name} ${figure(rate_per_s_at_load_1)}/s by ${slo_ms} ms`,
  );
  return [
    `${result.date}, \`${result.command}\`, commit ${result.commit}; ${result.cpu}, ${result.cores} cores, Node ${result.node}.`,
    `Load is the share of the device that the requests would take in small batches; at load 1: ${models.join(", ")}; no model has more, since servers and generator share few cores and not the cost of a call is what is compared. One core stands for the device: all that executes is on it, the servers' own work and the load generator on the others. All are called alike: unary calls with gRPC deadlines, without the SDK. ${settings.join("; ")}. Each load is measured for ${result.measure_s} s; medians over rounds in turn, each with other arrivals, and in brackets the least and the most. A request's time runs from when it should have been sent; by how much the generator, which shares the cores with the server's own work, sent late is told as the 99th percentile.`,
  ];
}

function loadTable({ contestants }: TritonResult): Table {
  return byLoad(
    contestants,
    ({ loads }) => summaries(loads),
    ["on time", "worst model", LAG],
    (summary) => [range(summary), percent(summary.attainment_worst_model), figure(summary.generator_lag_p99_ms)],
  );
}

function fillTable({ contestants }: TritonResult): Table {
  return byLoad(
    contestants,
    ({ filled }) => summaries(filled),
    ["on time", "best-effort items/s", LAG],
    (summary) => [range(summary), figure(summary.best_effort_items_per_s), figure(summary.generator_lag_p99_ms)],
  );
}

function byLoad(
  contestants: readonly Contestant[],
  of: (contestant: Contestant) => readonly Summary[],
  titles: readonly string[],
  cells: (summary: Summary) => readonly string[],
): Table {
  const loads = of(contestants[0]!);
  return {
    titles: ["load", "requests/s", "server", ...titles],
    rows: loads.flatMap(({ load, offered_per_s }) =>
      contestants.map((contestant, i) => [
        ...(i === 0 ? [figure(load), figure(offered_per_s)] : ["", ""]),
        contestant.name,
        ...cells(of(contestant).find((summary) => summary.load === load)!),
      ]),
    ),
  };
}

function range({ attainment, attainment_least, attainment_most }: Summary): string {
  return `${percent(attainment)} (${percent(attainment_least)}–${percent(attainment_most)})`;
}

function trialTable({ trials }: TritonResult): Table {
  const best = bestTrial(trials);
  const loads = trials[0]!.loads;
  return {
    titles: ["settings", ...loads.map(({ load }) => `on time at load ${figure(load)}`), "mean"],
    rows: trials.map((trial) => [
      `${described(trial.settings)}${trial === best ? " (taken)" : ""}`,
      ...trial.loads.map(({ attainment }) => percent(attainment)),
      percent(meanAttainment(trial)),
    ]),
  };
}

function markdownTable({ titles, rows }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = titles.map((_, i) => (i === 0 ? "---" : "---:"));
  return [line(titles), line(rule), ...rows.map(line)].join("\n");
}
