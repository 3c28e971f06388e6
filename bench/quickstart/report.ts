/** The quickstart's report as text. */
import { count, figure, milliseconds, percent } from "../report/format.ts";
import { type Column, table } from "../report/table.ts";
import { type Facts, inWords, type ModelFacts } from "./facts.ts";

const left = (title: string): Column => ({ title, align: "left" });
const right = (title: string): Column => ({ title, align: "right" });

export function quickstartText(facts: Facts): string {
  return [
    ...deviceLines(facts),
    "",
    "Models, and what a batch of each takes as measured on this machine",
    ...indented(modelTable(facts.models)),
    "",
    `Requests, ${figure(facts.result.measured_s)} s (latency from the scheduled time of sending to the answer)`,
    ...indented(requestTable(facts)),
    "",
    ...deviceTime(facts),
    "",
    ...wrapped(inWords(facts), 100),
  ].join("\n");
}

function deviceLines({ status: { device } }: Facts): string[] {
  const lines = [`Device: ${device.provider} (${device.name}). ${sentence(device.reason)}`];
  for (const { provider, reason } of device.passed_over) lines.push(`  not ${provider}: ${sentence(reason)}`);
  return lines;
}

function modelTable(models: readonly ModelFacts[]): string[] {
  const rows = models.map(({ name, status, profileMs }) => [
    name,
    status.placement === "replica" ? "CPU replicas" : status.placement === "both" ? "device + CPU" : "device",
    milliseconds(status.slo_ms),
    profileMs.map(([bucket, ms]) => `${bucket}: ${figure(ms)}`).join("  "),
  ]);
  return table([left("model"), left("runs on"), right("SLO"), left("batch size: ms")], rows);
}

function requestTable({ models, result }: Facts): string[] {
  const columns = ["offered", "on time", "late", "shed", "errors", "attained", "p50 ms", "p99 ms", "mean batch"];
  const named = [...models.map((m) => [m.name, m.result] as const), ["total", result.total] as const];
  const rows = named.map(([name, f]) => [
    name,
    ...[f.offered, f.on_time, f.late, f.shed, f.errors].map(count),
    f.offered > 0 ? percent(f.attainment) : "–",
    ...[f.latency_ms.p50, f.latency_ms.p99].map((ms) => (f.on_time + f.late > 0 ? figure(ms) : "–")),
    f.batch_size_mean === null ? "–" : figure(f.batch_size_mean),
  ]);
  return table([left("model"), ...columns.map(right)], rows, rows.length - 1);
}

function deviceTime({ busyShare, bestEffortShare, models, result }: Facts): string[] {
  const lag = `Load generator: sent ${figure(result.generator_lag_ms.p99)} ms after the scheduled time at the 99th percentile.`;
  if (Object.keys(result.devices).length === 0) return [lag];
  const best = models
    .filter((m) => m.result.best_effort.answered > 0)
    .map((m) => `${m.name}, ${figure(m.result.best_effort.items_per_s)} items/s`);
  const filled = best.length === 0 ? "" : ` (${best.join("; ")})`;
  return [
    `Device time: busy ${percent(busyShare)}: deadlines ${percent(busyShare - bestEffortShare)}, best effort ${percent(bestEffortShare)}${filled}; idle ${percent(Math.max(0, 1 - busyShare))}.`,
    lag,
  ];
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return /[.!?]$/.test(trimmed) || trimmed === "" ? trimmed : `${trimmed}.`;
}

function indented(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}
