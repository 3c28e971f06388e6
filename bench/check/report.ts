import { count, figure, percent } from "../report/format.ts";
import type { LogCheck, Tally } from "./check-log.ts";

/** Problems shown in full; the rest is counted. */
const SHOWN_MAX = 20;

/** The check's outcome as text, without a final newline. */
export function checkText({ problems, total, window, executions, best_effort_answered }: LogCheck): string {
  const lines = [
    `${count(total.offered)} requests with deadlines in ${count(executions)} executions: ${tallyText(total)}`,
  ];
  if (best_effort_answered > 0) lines.push(`${count(best_effort_answered)} best-effort requests answered`);
  if (window !== null) {
    lines.push(
      `measured window: ${tallyText(window)} of ${count(window.offered)}, goodput ${figure(window.goodput_per_s)} requests/s`,
    );
  }
  if (problems.length === 0) return [...lines, "no problem found"].join("\n");
  lines.push(`${count(problems.length)} ${problems.length === 1 ? "problem" : "problems"}:`);
  for (const { line, kind, message } of problems.slice(0, SHOWN_MAX)) {
    lines.push(`  ${line > 0 ? `line ${line}, ` : ""}${kind}: ${message}`);
  }
  if (problems.length > SHOWN_MAX) lines.push(`  and ${count(problems.length - SHOWN_MAX)} more`);
  return lines.join("\n");
}

function tallyText({ offered, on_time, late, dropped, attainment }: Tally): string {
  return `${count(on_time)} on time (${offered > 0 ? percent(attainment) : "–"}), ${count(late)} late, ${count(dropped)} dropped`;
}
