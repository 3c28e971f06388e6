/** Line charts as SVG. */
import { figure, percent } from "./format.ts";
import { escapeHtml, seriesColor } from "./html.ts";

/** Pixels; `right` leaves room for the names of the lines. */
export const CHART = { width: 900, left: 60, right: 120, height: 260 } as const;
const TEXT_HEIGHT = 15;
const { width: WIDTH, left: LEFT, right: RIGHT, height: HEIGHT } = CHART;

/** Share on time by requests offered a second: `[offered, share]` of each series. */
export function attainmentChart(
  series: readonly (readonly [string, readonly (readonly [number, number])[]])[],
): string {
  const most = Math.max(0, ...series.flatMap(([, points]) => points.map(([offered]) => offered)));
  if (most === 0) return "";
  const x = (perS: number): number => Math.round(LEFT + (perS / most) * (WIDTH - LEFT - RIGHT));
  const y = (share: number): number => Math.round(8 + (1 - share) * (HEIGHT - 8));
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => rule(y(share), percent(share)));
  const target = `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(0.99)}" y2="${y(0.99)}" stroke="#d92d20"><title>99 %</title></line>`;
  const labels = ticks(most).map((perS) => below(x(perS), figure(perS)));
  const drawn = series
    .filter(([, points]) => points.length > 0)
    .map(([name, points]) => ({ name, points: [...points].sort((a, b) => a[0] - b[0]) }));
  const nameYs = apart(drawn.map(({ points }) => y(points.at(-1)![1])));
  const lines = drawn.map(({ name, points }, i) => {
    const at = points.map(([offered, share]) => `${x(offered)},${y(share)}`);
    const dots = points.map(([offered, share]) => dot(x(offered), y(share), i, `${name}: ${percent(share)} on time`));
    const end = `<text x="${x(points.at(-1)![0]) + 10}" y="${nameYs[i]! + 4}">${escapeHtml(name)}</text>`;
    return `${line(at, i)}${dots.join("")}${end}`;
  });
  return chart("On time by offered load", [...grid, target, ...labels, ...lines], "requests/s offered");
}

/** Round numbers from 0 up to `most`, four to eight of them. */
function ticks(most: number): number[] {
  const magnitude = 10 ** Math.floor(Math.log10(most / 4));
  const step = magnitude * [5, 2, 1].find((times) => times * magnitude <= most / 4)!;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => index * step);
}

/** Heights of texts moved down where they would cover each other. */
export function apart(heights: readonly number[]): number[] {
  const moved = [...heights];
  let free = Number.NEGATIVE_INFINITY;
  for (const index of [...heights.keys()].sort((a, b) => heights[a]! - heights[b]!)) {
    moved[index] = Math.max(heights[index]!, free);
    free = moved[index]! + TEXT_HEIGHT;
  }
  return moved;
}

export function chart(label: string, parts: readonly string[], axis: string): string {
  const title = `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT + 40}" text-anchor="middle" class="faint">${axis}</text>`;
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT + 44}" role="img" aria-label="${label}">${parts.join("")}${title}</svg>`;
}

export function rule(y: number, label: string): string {
  return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}" class="rule"/><text x="${LEFT - 8}" y="${y + 4}" text-anchor="end" class="faint">${label}</text>`;
}

export function below(x: number, label: string): string {
  return `<text x="${x}" y="${HEIGHT + 20}" text-anchor="middle" class="faint">${label}</text>`;
}

export function line(points: readonly string[], series: number): string {
  return `<polyline points="${points.join(" ")}" fill="none" stroke="${seriesColor(series)}" stroke-width="2"/>`;
}

export function dot(x: number, y: number, series: number, title: string): string {
  return `<circle cx="${x}" cy="${y}" r="4" fill="${seriesColor(series)}"><title>${escapeHtml(title)}</title></circle>`;
}
