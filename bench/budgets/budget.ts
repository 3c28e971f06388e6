/** One line of the budget report: what was promised, what was measured. */
import { figure } from "../report/format.ts";
import { type Column, table } from "../report/table.ts";

export interface BudgetLine {
  readonly what: string;
  /** The promise in words ("≤ 1 ms median"). */
  readonly budget: string;
  readonly measured: number;
  readonly unit: string;
  readonly held: boolean;
  /** How it came about, or what else is worth knowing; empty where there is nothing. */
  readonly note: string;
}

/** A line that holds where the measured value is at most the limit. */
export function atMost(
  what: string,
  limit: number,
  unit: string,
  measured: number,
  note = "",
  statistic = "",
): BudgetLine {
  const budget = `≤ ${limit} ${unit}${statistic === "" ? "" : ` ${statistic}`}`;
  return { what, budget, measured, unit, held: measured <= limit, note };
}

/** A line that holds where the measured value is at least the limit. */
export function atLeast(what: string, limit: number, unit: string, measured: number, note = ""): BudgetLine {
  return { what, budget: `≥ ${limit} ${unit}`, measured, unit, held: measured >= limit, note };
}

const COLUMNS: readonly Column[] = [
  { title: "what", align: "left" },
  { title: "budget", align: "left" },
  { title: "measured", align: "right" },
  { title: "held", align: "left" },
  { title: "note", align: "left" },
];

function cells({ what, budget, measured, unit, held, note }: BudgetLine): string[] {
  return [what, budget, `${figure(measured)} ${unit}`, held ? "yes" : "NO", note];
}

export function budgetText(lines: readonly BudgetLine[]): string {
  return table(COLUMNS, lines.map(cells)).join("\n");
}

export function budgetMarkdown(lines: readonly BudgetLine[]): string {
  const row = (texts: readonly string[]): string => `| ${texts.join(" | ")} |`;
  const titles = COLUMNS.map(({ title }) => title);
  const rules = COLUMNS.map(({ align }) => (align === "right" ? "---:" : "---"));
  return [row(titles), row(rules), ...lines.map((line) => row(cells(line)))].join("\n");
}
