/** Line charts as SVG. */
import { figure, percent } from "./format.ts";
import { escapeHtml, seriesColor } from "./html.ts";

/** Pixels; `right` leaves room for the names of the lines. */
export const CHART = { width: 900, left: 60, right: 120, height: 260 } as const;
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
  const labels = [0, 0.25, 0.5, 0.75, 1].map((part) => below(x(part * most), figure(part * most)));
  const lines = series
    .filter(([, points]) => points.length > 0)
    .map(([name, points], i) => {
      const sorted = [...points].sort((a, b) => a[0] - b[0]);
      const at = sorted.map(([offered, share]) => `${x(offered)},${y(share)}`);
      const dots = sorted.map(([offered, share]) => dot(x(offered), y(share), i, `${name}: ${percent(share)} on time`));
      const [offered, share] = sorted.at(-1)!;
      return `${line(at, i)}${dots.join("")}<text x="${x(offered) + 10}" y="${y(share) + 4}">${escapeHtml(name)}</text>`;
    });
  return chart("On time by offered load", [...grid, target, ...labels, ...lines], "requests/s offered");
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
