/** One thing that is wrong with a setting, wherever the setting came from. */
export interface ConfigProblem {
  /** File as it was named to us, `environment` or `command line`. */
  readonly source: string;
  /** 1-based position in the file; null where there is none to point at. */
  readonly line: number | null;
  readonly column: number | null;
  /** The setting: a dotted path in a file, the variable's name, the flag. Empty when the whole source is meant. */
  readonly path: string;
  /** What was found, and what is allowed. */
  readonly message: string;
}

/** `slackline.yaml:3:12: tenants.a.weight: got -1; expected a number above 0`. */
export function formatProblem(problem: ConfigProblem): string {
  const inFile = problem.source !== "environment" && problem.source !== "command line";
  const position = problem.line === null ? "" : `:${problem.line}:${problem.column ?? 1}`;
  const parts = [inFile ? `${problem.source}${position}` : "", problem.path, problem.message];
  return parts.filter((part) => part !== "").join(": ");
}

/** Settings that can't be used, with everything that is wrong with them and not only the first thing. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
    super(`the configuration has ${count}:\n${problems.map((problem) => `  ${formatProblem(problem)}`).join("\n")}`);
    this.name = "ConfigError";
    this.problems = problems;
  }
}
