/** The quickstart's report as one HTML file: where the device's time went, latencies against SLOs, profiles. */
import { count, figure, milliseconds, percent } from "../report/format.ts";
import { escapeHtml, htmlPage, htmlTable, LogAxis, seriesColor } from "../report/html.ts";
import { type Facts, inWords, type ModelFacts } from "./facts.ts";

const WIDTH = 900;
const LABEL = 110;

export function quickstartHtml(facts: Facts): string {
  const { status, result } = facts;
  const passed = status.device.passed_over.map(({ provider, reason }) => `<br>Not ${provider}: ${escapeHtml(reason)}`);
  const body = [
    "<h1>slackline quickstart</h1>",
    `<p class="faint">${escapeHtml(result.started_at.slice(0, 16).replace("T", " "))} UTC, ${figure(result.measured_s)} s measured, seed ${result.seed}</p>`,
    `<p class="lead">${escapeHtml(inWords(facts))}</p>`,
    `<p>Device: <b>${escapeHtml(status.device.provider)}</b> (${escapeHtml(status.device.name)}). ${escapeHtml(status.device.reason)}<span class="faint">${passed.join("")}</span></p>`,
    Object.keys(result.devices).length === 0 ? "" : deviceTime(facts),
    "<h2>Requests</h2>",
    requestTable(facts),
    "<h2>Latency against the deadline</h2>",
    '<p class="faint">From the scheduled time of sending to the answer: median, 90, 99 and 99.9 in 100, slowest. The bar marks the SLO.</p>',
    latencyChart(facts.models),
    "<h2>Measured profiles</h2>",
    '<p class="faint">What a batch takes on this machine, by its size. The flatter, the more batching pays.</p>',
    profileChart(facts.models),
  ];
  return htmlPage("slackline quickstart", body.join("\n"));
}

function chip(index: number): string {
  return `<span class="chip" style="background:${seriesColor(index)}"></span>`;
}

function deviceTime(facts: Facts): string {
  const parts = facts.models.flatMap((model, index) => [
    { model, index, share: model.deadlineShare, fill: false },
    { model, index, share: model.bestEffortShare, fill: true },
  ]);
  let x = 0;
  const bars = parts
    .filter(({ model, share }) => share > 0 && model.status.placement !== "replica")
    .map(({ model, index, share, fill }) => {
      const width = Math.min(share, 1 - x / WIDTH) * WIDTH;
      const label = `${model.name}${fill ? ", best effort" : ""}: ${percent(share)}`;
      const text =
        width > 46
          ? `<text x="${r(x + width / 2)}" y="25" text-anchor="middle" style="fill:#fff">${percent(share)}</text>`
          : "";
      const hatch = fill ? `<rect x="${r(x)}" y="0" width="${r(width)}" height="40" fill="url(#hatch)"/>` : "";
      const bar = `<g><title>${escapeHtml(label)}</title><rect x="${r(x)}" y="0" width="${r(width)}" height="40" fill="${seriesColor(index)}"/>${hatch}${text}</g>`;
      x += width;
      return bar;
    });
  const legend = facts.models.map((model, index) => `${chip(index)}${escapeHtml(model.name)}`).join(" &nbsp; ");
  return `<h2>Where the device's time went</h2>
<p class="faint">${legend} &nbsp; hatched: best-effort work in the slack; outlined: idle</p>
<svg viewBox="-1 -1 ${WIDTH + 2} 42" role="img" aria-label="Device time by model"><defs><pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="3" height="8" fill="#ffffff" fill-opacity="0.3"/></pattern></defs>
<rect x="0" y="0" width="${WIDTH}" height="40" fill="none" class="rule"/>${bars.join("")}</svg>`;
}

function requestTable({ models, result }: Facts): string {
  const titles = [
    "model",
    "offered",
    "on time",
    "late",
    "shed",
    "errors",
    "attained",
    "p50 ms",
    "p99 ms",
    "mean batch",
  ];
  const named = [
    ...models.map((m, index) => [`${chip(index)}${escapeHtml(m.name)}`, m.result] as const),
    ["total", result.total] as const,
  ];
  const rows = named.map(([name, f]) => [
    name,
    ...[f.offered, f.on_time, f.late, f.shed, f.errors].map(count),
    f.offered > 0 ? percent(f.attainment) : "–",
    ...[f.latency_ms.p50, f.latency_ms.p99].map((ms) => (f.on_time + f.late > 0 ? figure(ms) : "–")),
    f.batch_size_mean === null ? "–" : figure(f.batch_size_mean),
  ]);
  return htmlTable(titles, rows, rows.length - 1);
}

function latencyChart(models: readonly ModelFacts[]): string {
  const shown = models.filter(({ result }) => result.on_time + result.late > 0);
  if (shown.length === 0) return '<p class="faint">No request was answered.</p>';
  const ms = shown.flatMap(({ result, status }) => [result.latency_ms.p50, result.latency_ms.max, status.slo_ms]);
  const axis = new LogAxis(Math.max(0.01, Math.min(...ms) / 1.3), Math.max(...ms) * 1.3, LABEL, WIDTH - 20);
  const rowHeight = 46;
  const height = shown.length * rowHeight;
  const rows = shown.map(({ name, result: { latency_ms: l }, status }, row) => {
    const y = row * rowHeight + rowHeight / 2;
    const color = seriesColor(models.findIndex((model) => model.name === name));
    const points = [l.p50, l.p90, l.p99, l.p999, l.max];
    const names = ["p50", "p90", "p99", "p99.9", "max"];
    const dots = points.map((value, i) => {
      const title = `<title>${escapeHtml(name)} ${names[i]}: ${milliseconds(value)}</title>`;
      const look = i === 4 ? `fill="none" stroke="${color}" stroke-width="2"` : `fill="${color}"`;
      return `<circle cx="${axis.at(value)}" cy="${y}" r="${[7, 5.5, 5, 4, 4][i]}" ${look}>${title}</circle>`;
    });
    const slo = axis.at(status.slo_ms);
    // Away from the bar, which is often near.
    const anchor = l.p99 <= status.slo_ms ? "end" : "start";
    return `<text x="0" y="${y + 4}">${escapeHtml(name)}</text>
<line x1="${axis.at(l.p50)}" x2="${axis.at(l.max)}" y1="${y}" y2="${y}" stroke="${color}" stroke-width="2"/>${dots.join("")}
<line x1="${slo}" x2="${slo}" y1="${y - 15}" y2="${y + 15}" stroke="#d92d20" stroke-width="3"><title>SLO ${milliseconds(status.slo_ms)}</title></line>
<text x="${axis.at(l.p50)}" y="${y - 11}" text-anchor="middle" class="faint">${figure(l.p50)}</text>
${axis.at(l.p99) - axis.at(l.p50) > 60 ? `<text x="${axis.at(l.p99)}" y="${y - 11}" text-anchor="${anchor}" class="faint">${figure(l.p99)}</text>` : ""}`;
  });
  return `<svg viewBox="0 -4 ${WIDTH} ${height + 30}" role="img" aria-label="Latency percentiles by model">${xAxis(axis, height, "ms")}${rows.join("\n")}</svg>`;
}

function profileChart(models: readonly ModelFacts[]): string {
  const shown = models.filter(({ profileMs }) => profileMs.length > 0);
  if (shown.length === 0) return '<p class="faint">No profile was reported.</p>';
  const all = shown.flatMap(({ profileMs }) => profileMs);
  const height = 260;
  const x = new LogAxis(1, Math.max(2, ...all.map(([bucket]) => bucket)), 60, WIDTH - LABEL);
  const times = all.map(([, ms]) => ms);
  const y = new LogAxis(Math.min(...times) / 1.3, Math.max(...times) * 1.3, height, 8);
  const grid = y.ticks().map((tick) => {
    const at = y.at(tick);
    return `<line x1="60" x2="${WIDTH - LABEL}" y1="${at}" y2="${at}" class="rule"/><text x="52" y="${at + 4}" text-anchor="end" class="faint">${tick} ms</text>`;
  });
  const buckets = [...new Set(all.map(([bucket]) => bucket))].sort((a, b) => a - b);
  const labels = buckets.map(
    (bucket) => `<text x="${x.at(bucket)}" y="${height + 20}" text-anchor="middle" class="faint">${bucket}</text>`,
  );
  const ends = spread(
    shown.map(({ profileMs }) => ({ x: x.at(profileMs.at(-1)![0]), y: y.at(profileMs.at(-1)![1]) })),
    15,
  );
  const lines = shown.map(({ name, profileMs }, i) => {
    const color = seriesColor(models.findIndex((model) => model.name === name));
    const points = profileMs.map(([bucket, ms]) => `${x.at(bucket)},${y.at(ms)}`);
    const dots = profileMs.map(
      ([bucket, ms]) =>
        `<circle cx="${x.at(bucket)}" cy="${y.at(ms)}" r="4" fill="${color}"><title>${escapeHtml(name)}, batch of ${bucket}: ${milliseconds(ms)}</title></circle>`,
    );
    const end = x.at(profileMs.at(-1)![0]) + 12;
    return `<polyline points="${points.join(" ")}" fill="none" stroke="${color}" stroke-width="2"/>${dots.join("")}<text x="${end}" y="${ends[i]! + 4}">${escapeHtml(name)}</text>`;
  });
  return `<svg viewBox="0 0 ${WIDTH} ${height + 44}" role="img" aria-label="Execution time by batch size">${grid.join("")}${labels.join("")}<text x="${(60 + WIDTH - LABEL) / 2}" y="${height + 40}" text-anchor="middle" class="faint">items in a batch</text>${lines.join("")}</svg>`;
}

function xAxis(axis: LogAxis, height: number, unit: string): string {
  return axis
    .ticks()
    .map((tick) => {
      const at = axis.at(tick);
      return `<line x1="${at}" x2="${at}" y1="0" y2="${height}" class="rule"/><text x="${at}" y="${height + 18}" text-anchor="middle" class="faint">${tick} ${unit}</text>`;
    })
    .join("");
}

/** The heights of labels, moved apart where they stand above each other. */
function spread(labels: readonly { readonly x: number; readonly y: number }[], gap: number): number[] {
  const heights = labels.map(({ y }) => y);
  const fromTop = labels.map((_, i) => i).sort((a, b) => heights[a]! - heights[b]!);
  fromTop.forEach((label, rank) => {
    for (const above of fromTop.slice(0, rank)) {
      if (labels[above]!.x === labels[label]!.x) heights[label] = Math.max(heights[label]!, heights[above]! + gap);
    }
  });
  return heights;
}

function r(value: number): number {
  return Math.round(value * 10) / 10;
}
