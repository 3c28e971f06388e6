/** A load test's result as text. */
import { count, figure, percent } from "../report/format.ts";
import { type Column, table } from "../report/table.ts";
import type { Figures } from "./recorder.ts";
import type { LoadResult } from "./result.ts";

const COLUMNS: readonly Column[] = [
  { title: "model", align: "left" },
  ...["offered", "on time", "late", "shed", "errors", "attained", "goodput/s", "p50 ms", "p90 ms", "p99 ms"].map(right),
  ...["p99.9 ms", "max ms", "batch"].map(right),
];

function right(title: string): Column {
  return { title, align: "right" };
}

/** The whole report, without a final newline. */
export function reportText(result: LoadResult): string {
  const { scenario, target, transport, seed, scale, measured_s, warmup_s } = result;
  const scaled = scale === 1 ? "" : `, rates × ${scale}`;
  const lines = [
    `${scenario} against ${target} (${transport}), seed ${seed}${scaled}: ${figure(measured_s)} s measured after ${figure(warmup_s)} s of warm-up`,
    "",
    ...figuresTable(result),
  ];
  const notes = [
    ...bestEffortLines(result),
    ...otherwiseLines(result),
    ...deviceLines(result),
    ...lossLines(result),
    lagLine(result),
  ];
  lines.push("", ...notes);
  if (result.interrupted)
    lines.push("", "Stopped before its end: requests that were still unanswered are not counted.");
  for (const problem of result.problems) lines.push("", `INVALID: ${problem}`);
  return lines.join("\n");
}

function figuresTable({ models, total }: LoadResult): string[] {
  const named = Object.entries(models);
  const rows = named.map(([name, figures]) => row(name, figures));
  if (named.length > 1) rows.push(row("total", total));
  return table(COLUMNS, rows, named.length > 1 ? named.length : undefined);
}

function row(name: string, figures: Figures): string[] {
  const { offered, on_time, late, shed, errors, attainment, goodput_per_s, latency_ms: ms } = figures;
  const answered = on_time + late > 0;
  const latency = [ms.p50, ms.p90, ms.p99, ms.p999, ms.max].map((value) => (answered ? figure(value) : "–"));
  const counts = [offered, on_time, late, shed, errors].map(count);
  const batch = figures.batch_size_mean === null ? "–" : figure(figures.batch_size_mean);
  return [name, ...counts, offered > 0 ? percent(attainment) : "–", figure(goodput_per_s), ...latency, batch];
}

function bestEffortLines({ models }: LoadResult): string[] {
  return Object.entries(models)
    .filter(([, { best_effort: b }]) => b.answered + b.shed + b.errors > 0)
    .map(([name, { best_effort: b }]) => {
      const lost = b.shed + b.errors > 0 ? ` (${count(b.shed)} shed, ${count(b.errors)} errors)` : "";
      return `best effort: ${name} ${count(b.answered)} requests answered, ${figure(b.items_per_s)} items/s${lost}`;
    });
}

/** Answers that say nothing of how fast the model itself is. */
function otherwiseLines({ models }: LoadResult): string[] {
  return Object.entries(models).flatMap(([name, { fallback, cached }]) => [
    ...(fallback > 0 ? [`fallback: ${name} ${count(fallback)} requests answered by another model`] : []),
    ...(cached > 0 ? [`cache: ${name} ${count(cached)} requests answered from memory`] : []),
  ]);
}

function deviceLines({ devices }: LoadResult): string[] {
  return Object.entries(devices).map(
    ([device, { provider, busy_share, best_effort_share, executions, batch_size_mean, padding_share }]) =>
      `device ${device} (${provider}): busy ${percent(busy_share)} of the time, ${percent(best_effort_share)} with best-effort work; ` +
      `${count(executions)} executions of ${figure(batch_size_mean)} items on average, ${percent(padding_share)} padding`,
  );
}

function lossLines({ total, models, error_examples }: LoadResult): string[] {
  const lines: string[] = [];
  const causes = Object.entries(total.shed_causes);
  if (causes.length > 0) lines.push(`shed because: ${causes.map(([cause, n]) => `${cause} ${count(n)}`).join(", ")}`);
  const served = Object.values(models).flatMap((model) => (model.served === undefined ? [] : [model.served]));
  if (total.late > 0 && served.length > 0) {
    const late = served.reduce((sum, model) => sum + model.late, 0);
    lines.push(
      `late: ${count(total.late)} here, ${count(late)} by the daemon's own clock; the rest is the wire and this process`,
    );
  }
  for (const [code, n] of Object.entries(total.error_codes)) {
    const example = error_examples[code];
    lines.push(`errors: ${code} ${count(n)}${example === undefined ? "" : `, for example: ${example}`}`);
  }
  return lines;
}

function lagLine({ generator_lag_ms: ms }: LoadResult): string {
  return `generator lag: p50 ${figure(ms.p50)} ms, p99 ${figure(ms.p99)} ms, max ${figure(ms.max)} ms`;
}
