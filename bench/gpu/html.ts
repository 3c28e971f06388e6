/** The result as a page. */

import { figure, milliseconds, percent } from "../report/format.ts";
import { escapeHtml, htmlPage, htmlTable, LogAxis, seriesColor } from "../report/html.ts";
import type { CapacityFigures, GpuBenchResult } from "./result.ts";
import { aloneLines, LOAD_TITLES, setLines, setRows } from "./text.ts";

const WIDTH = 900;
const LEFT = 60;
const RIGHT = 120;
const HEIGHT = 260;

export function gpuHtml(result: GpuBenchResult): string {
  const { device } = result;
  const gpu = Object.values(result.sets).find(({ loaded }) => loaded.gpu !== null)?.loaded.gpu ?? null;
  const body = [
    "<h1>slackline on a device</h1>",
    `<p class="lead">${escapeHtml(device.name)} through ${device.provider}</p>`,
    `<p class="faint">${result.date}, ${escapeHtml(result.command)}, commit ${escapeHtml(result.commit)}; ${escapeHtml(result.cpu)}, ${result.cores} cores, Node ${result.node}. ${gpu === null ? "No nvidia-smi." : `nvidia-smi: ${escapeHtml(gpu.name)}.`} Ready after ${figure(result.ready_s)} s.</p>`,
    "<h2>Profiles</h2>",
    '<p class="faint">What a batch takes, by its size.</p>',
    profileChart(result),
    profileTable(result),
  ];
  const rows = Object.entries(result.sets).flatMap(([name, set]) => setRows(name, set));
  if (rows.length > 0) {
    body.push("<h2>Loads</h2>");
    body.push(
      `<p class="faint">At ${percent(result.loaded_share)} of the capacity found; latencies from the scheduled time of sending; predictions against actual execution times.</p>`,
    );
    body.push(
      htmlTable(
        LOAD_TITLES,
        rows.map((cells) => cells.map(escapeHtml)),
      ),
    );
  }
  for (const [name, set] of Object.entries(result.sets)) {
    body.push(`<h2>${escapeHtml(name)} models</h2>`);
    body.push(...setLines(set).map((line) => `<p>${escapeHtml(line)}</p>`));
    const searches: [string, CapacityFigures][] = [["slackline", set.capacity]];
    if (set.round_robin !== null) searches.push(["round robin", set.round_robin.capacity]);
    body.push(attainmentChart(searches));
  }
  const alone = aloneLines(result);
  if (alone.length > 0) body.push("<h2>One model at a time</h2>", ...alone.map((line) => `<p>${escapeHtml(line)}</p>`));
  if (result.added_latency.length > 0) {
    body.push("<h2>Added latency</h2>");
    const cells = result.added_latency.map(({ what, budget, measured, unit, held, note }) =>
      [what, budget, `${figure(measured)} ${unit}`, held ? "yes" : "no", note].map(escapeHtml),
    );
    body.push(htmlTable(["what", "budget", "measured", "held", "note"], cells));
  }
  if (result.left_out.length > 0) body.push(`<p class="faint">Left out: ${escapeHtml(result.left_out.join("; "))}</p>`);
  return htmlPage(`slackline on ${device.name}`, body.join("\n"));
}

function profileTable({ profiles_ms }: GpuBenchResult): string {
  const buckets = [...new Set(Object.values(profiles_ms).flatMap((points) => points.map(([bucket]) => bucket)))];
  buckets.sort((a, b) => a - b);
  const rows = Object.entries(profiles_ms).map(([model, points]) => {
    const byBucket = new Map(points);
    return [escapeHtml(model), ...buckets.map((bucket) => (byBucket.has(bucket) ? figure(byBucket.get(bucket)!) : ""))];
  });
  return htmlTable(["ms by batch of", ...buckets.map(String)], rows);
}

function profileChart({ profiles_ms }: GpuBenchResult): string {
  const shown = Object.entries(profiles_ms).filter(([, points]) => points.length > 0);
  const all = shown.flatMap(([, points]) => points);
  if (all.length === 0) return '<p class="faint">No profile was measured.</p>';
  const x = new LogAxis(1, Math.max(2, ...all.map(([bucket]) => bucket)), LEFT, WIDTH - RIGHT);
  const times = all.map(([, ms]) => ms);
  const y = new LogAxis(Math.min(...times) / 1.3, Math.max(...times) * 1.3, HEIGHT, 8);
  const grid = y.ticks().map((tick) => rule(y.at(tick), `${tick} ms`));
  const buckets = [...new Set(all.map(([bucket]) => bucket))];
  const labels = buckets.map((bucket) => below(x.at(bucket), String(bucket)));
  const lines = shown.map(([model, points], i) => {
    const at = points.map(([bucket, ms]) => `${x.at(bucket)},${y.at(ms)}`);
    const dots = points.map(([bucket, ms]) =>
      dot(x.at(bucket), y.at(ms), i, `${model}, batch of ${bucket}: ${milliseconds(ms)}`),
    );
    const end = points.at(-1)!;
    return `${line(at, i)}${dots.join("")}<text x="${x.at(end[0]) + 10}" y="${y.at(end[1]) + 4}">${escapeHtml(model)}</text>`;
  });
  return chart("Execution time by batch size", [...grid, ...labels, ...lines], "items in a batch");
}

/** Share on time of every load of the searches, by the rate that was offered. */
function attainmentChart(searches: readonly (readonly [string, CapacityFigures])[]): string {
  const all = searches.flatMap(([, { probes }]) => probes);
  const most = Math.max(0, ...all.map(({ offered_per_s }) => offered_per_s));
  if (most === 0) return "";
  const x = (perS: number): number => Math.round(LEFT + (perS / most) * (WIDTH - LEFT - RIGHT));
  const y = (share: number): number => Math.round(8 + (1 - share) * (HEIGHT - 8));
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => rule(y(share), percent(share)));
  const target = `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(0.99)}" y2="${y(0.99)}" stroke="#d92d20"><title>99 %</title></line>`;
  const labels = [0, 0.25, 0.5, 0.75, 1].map((part) => below(x(part * most), figure(part * most)));
  const lines = searches.map(([name, { probes }], i) => {
    const sorted = [...probes].sort((a, b) => a.offered_per_s - b.offered_per_s);
    const at = sorted.map((probe) => `${x(probe.offered_per_s)},${y(probe.attainment)}`);
    const dots = sorted.map((probe) =>
      dot(x(probe.offered_per_s), y(probe.attainment), i, `${name}: ${percent(probe.attainment)} on time`),
    );
    const last = sorted.at(-1)!;
    return `${line(at, i)}${dots.join("")}<text x="${x(last.offered_per_s) + 10}" y="${y(last.attainment) + 4}">${escapeHtml(name)}</text>`;
  });
  return chart("On time by offered load", [...grid, target, ...labels, ...lines], "requests/s offered");
}

function chart(label: string, parts: readonly string[], axis: string): string {
  const title = `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT + 40}" text-anchor="middle" class="faint">${axis}</text>`;
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT + 44}" role="img" aria-label="${label}">${parts.join("")}${title}</svg>`;
}

function rule(y: number, label: string): string {
  return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}" class="rule"/><text x="${LEFT - 8}" y="${y + 4}" text-anchor="end" class="faint">${label}</text>`;
}

function below(x: number, label: string): string {
  return `<text x="${x}" y="${HEIGHT + 20}" text-anchor="middle" class="faint">${label}</text>`;
}

function line(points: readonly string[], series: number): string {
  return `<polyline points="${points.join(" ")}" fill="none" stroke="${seriesColor(series)}" stroke-width="2"/>`;
}

function dot(x: number, y: number, series: number, title: string): string {
  return `<circle cx="${x}" cy="${y}" r="4" fill="${seriesColor(series)}"><title>${escapeHtml(title)}</title></circle>`;
}
