/** Plain-text tables for terminals and logs. */

export interface Column {
  readonly title: string;
  /** Numbers align right, names left. */
  readonly align: "left" | "right";
}

/** Lines of a table, columns two spaces apart, a rule below the titles and above the rows after `totalFrom`. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], totalFrom?: number): string[] {
  const widths = columns.map(({ title }, c) => Math.max(title.length, ...rows.map((row) => row[c]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align }, c) => {
        const cell = cells[c] ?? "";
        return align === "left" ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!);
      })
      .join("  ")
      .trimEnd();
  const rule = "─".repeat(widths.reduce((sum, width) => sum + width, 2 * (columns.length - 1)));
  const lines = [line(columns.map(({ title }) => title)), rule];
  rows.forEach((row, r) => {
    if (r === totalFrom && r > 0) lines.push(rule);
    lines.push(line(row));
  });
  return lines;
}
