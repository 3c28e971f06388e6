/** The result as a page. */

import { apart, attainmentChart, below, CHART, chart, dot, line, rule } from "../report/chart.ts";
import { figure, milliseconds, percent } from "../report/format.ts";
import { escapeHtml, htmlPage, htmlTable, LogAxis } from "../report/html.ts";
import type { CapacityFigures, GpuBenchResult } from "./result.ts";
import { aloneLines, LOAD_TITLES, MODEL_TITLES, modelRows, setLines, setRows } from "./text.ts";

const { width: WIDTH, left: LEFT, right: RIGHT, height: HEIGHT } = CHART;

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
      `<p class="faint">At ${percent(result.loaded_share)} of the capacity found; latencies from the scheduled time of sending; the device's time by the daemon's account and by nvidia-smi; best-effort items a second; executions within 10 and 25 % of their prediction.</p>`,
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
    body.push(
      htmlTable(
        MODEL_TITLES,
        modelRows(set).map((cells) => cells.map(escapeHtml)),
      ),
    );
    const searches: [string, CapacityFigures][] = [["slackline", set.capacity]];
    if (set.round_robin !== null) searches.push(["round robin", set.round_robin.capacity]);
    body.push(
      attainmentChart(
        searches.map(([name, { probes }]) => [
          name,
          probes.map(({ offered_per_s, attainment }) => [offered_per_s, attainment] as const),
        ]),
      ),
    );
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
  const ends = shown.map(([, points]) => points.at(-1)!);
  // Lines that end at the same size would have their names on top of each other.
  const nameYs = ends.map(([bucket], i) => {
    const beside = ends.flatMap(([other], j) => (other === bucket ? [j] : []));
    return apart(beside.map((j) => y.at(ends[j]![1])))[beside.indexOf(i)]!;
  });
  const lines = shown.map(([model, points], i) => {
    const at = points.map(([bucket, ms]) => `${x.at(bucket)},${y.at(ms)}`);
    const dots = points.map(([bucket, ms]) =>
      dot(x.at(bucket), y.at(ms), i, `${model}, batch of ${bucket}: ${milliseconds(ms)}`),
    );
    return `${line(at, i)}${dots.join("")}<text x="${x.at(ends[i]![0]) + 10}" y="${nameYs[i]! + 4}">${escapeHtml(model)}</text>`;
  });
  return chart("Execution time by batch size", [...grid, ...labels, ...lines], "items in a batch");
}
