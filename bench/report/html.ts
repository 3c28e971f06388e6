/** Building blocks of the reports that a browser shows: one file each, nothing loaded from anywhere. */

export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** Colours that stay apart on light and dark ground and for the usual kinds of colour blindness (after Okabe and Ito). */
const SERIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7bd1", "#7f7f7f"] as const;

export function seriesColor(index: number): string {
  return SERIES[index % SERIES.length]!;
}

const STYLE = `
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1c2430; --faint: #667085; --line: #d8dde6; --card: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181f; --ink: #e6e9ef; --faint: #98a2b3; --line: #323a46; --card: #1c222b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 960px; padding: 32px 24px 64px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 36px 0 4px; }
p { margin: 4px 0 12px; } .faint { color: var(--faint); } .lead { font-size: 17px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--faint); font-weight: 500; font-size: 13px; }
tr.total td { font-weight: 600; } .scroll { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
svg text.faint { fill: var(--faint); } svg .rule { stroke: var(--line); }
.chip { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
`;

export function htmlPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
${body}
</body>
</html>
`;
}

export function htmlTable(titles: readonly string[], rows: readonly (readonly string[])[], totalFrom?: number): string {
  const cells = (tag: string, texts: readonly string[]): string =>
    texts.map((text) => `<${tag}>${text}</${tag}>`).join("");
  const body = rows.map((row, r) => {
    const total = totalFrom !== undefined && r >= totalFrom ? ' class="total"' : "";
    return `<tr${total}>${cells("td", row)}</tr>`;
  });
  return `<div class="scroll"><table><thead><tr>${cells("th", titles.map(escapeHtml))}</tr></thead><tbody>${body.join("\n")}</tbody></table></div>`;
}

/** Positions on a logarithmic axis between two values, in pixels, and its ticks: 1, 2 and 5 of each decade, or only 1 where there are many. */
export class LogAxis {
  readonly #from: number;
  readonly #to: number;
  readonly #startPx: number;
  readonly #lengthPx: number;

  constructor(from: number, to: number, startPx: number, endPx: number) {
    this.#from = Math.log10(from);
    this.#to = Math.log10(Math.max(to, from * 1.01));
    this.#startPx = startPx;
    this.#lengthPx = endPx - startPx;
  }

  at(value: number): number {
    const share = (Math.log10(Math.max(value, 10 ** this.#from)) - this.#from) / (this.#to - this.#from);
    return Math.round((this.#startPx + Math.min(1, share) * this.#lengthPx) * 10) / 10;
  }

  ticks(): number[] {
    const all: number[] = [];
    const digits = this.#to - this.#from > 3 ? [1] : [1, 2, 5];
    for (let decade = Math.floor(this.#from); decade <= this.#to; decade++) {
      for (const digit of digits) {
        const log = Math.log10(digit) + decade;
        if (log >= this.#from - 1e-9 && log <= this.#to + 1e-9) all.push(digit * 10 ** decade);
      }
    }
    return all;
  }
}
