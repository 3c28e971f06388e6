/** What was tried, and how it went. */
export interface CheckResult {
  readonly client: string;
  readonly version: string;
  readonly what: string;
  readonly ok: boolean;
  /** Why it failed. */
  readonly detail: string | null;
}

/** The table of all results, one line each, and the reasons of failures below it. */
export function resultTable(results: readonly CheckResult[]): string {
  const header = ["client", "version", "what", "ok"];
  const rows = results.map(({ client, version, what, ok }) => [client, version, what, ok ? "yes" : "NO"]);
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd();
  const failures = results
    .filter(({ ok }) => !ok)
    .map(({ client, what, detail }) => `\n${client}: ${what}\n  ${(detail ?? "").replaceAll("\n", "\n  ")}`);
  return [line(header), line(widths.map((width) => "-".repeat(width))), ...rows.map(line), ...failures].join("\n");
}
