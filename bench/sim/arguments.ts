import { numberOf, POSITIVE, SEED, type ToolArguments, UsageError } from "../../tools/command-line/run-tool.ts";
import { findPolicy, type NamedPolicy, OWN_POLICY, policyNames } from "./policies.ts";

export const USAGE: string = `usage: slackline sim SCENARIO [options]
       slackline sim check LOG SCENARIO [--live]

Runs a scenario in virtual time, with the daemon's own engine and scheduler, and reports what became of its requests.
check reads a decision log, verifies that what it says is possible, and recomputes the goodput.

  --policy NAME    scheduler to run: ${OWN_POLICY} (the daemon's own, default), or a comparison policy; list shows all
  --seed N         in place of the scenario's seed
  --scale X        multiplies all rates
  --capacity       searches the largest scale at which 99 % of requests are on time
  --json FILE      writes the result as JSON
  --log FILE       writes the decision log
  --timeline FILE  writes a page that draws the devices' time by model (HTML, nothing else needed)
  --live           with check: the log is a daemon's, whose lanes and execution times are its own

Exit code: 0, 1 where the run or the check failed, 2 for a wrong command line.
`;

export const OPTIONS = {
  policy: { type: "string" },
  seed: { type: "string" },
  scale: { type: "string" },
  capacity: { type: "boolean", default: false },
  json: { type: "string" },
  log: { type: "string" },
  timeline: { type: "string" },
  live: { type: "boolean", default: false },
} as const;

/** What the command line asks for. */
export type Command =
  | { readonly type: "list" }
  | { readonly type: "check"; readonly log: string; readonly scenario: string; readonly live: boolean }
  | RunCommand;

export interface RunCommand {
  readonly type: "run";
  readonly scenario: string;
  readonly policy: NamedPolicy;
  readonly seed: number | undefined;
  readonly scale: number;
  readonly capacity: boolean;
  readonly json: string | undefined;
  readonly log: string | undefined;
  readonly timeline: string | undefined;
}

/** @throws {UsageError} saying what was wrong and what was expected */
export function parseCommand({ values, positionals }: ToolArguments<typeof OPTIONS>): Command {
  const { policy: asked = OWN_POLICY } = values;
  if (asked === "list") return { type: "list" };
  if (positionals[0] === "check") {
    const [, log, scenario, ...more] = positionals;
    if (log === undefined || scenario === undefined || more.length > 0) {
      throw new UsageError("check takes two paths: check LOG SCENARIO");
    }
    return { type: "check", log, scenario, live: values.live };
  }
  const [scenario, ...more] = positionals;
  if (scenario === undefined) throw new UsageError("which scenario? Give the path of a scenario file");
  if (more.length > 0) throw new UsageError(`one scenario at a time; there is also '${more.join("', '")}'`);
  const policy = findPolicy(asked);
  if (policy === undefined) {
    throw new UsageError(`there is no policy '${asked}'; --policy list shows those there are`);
  }
  if (values.capacity && (values.log !== undefined || values.timeline !== undefined)) {
    throw new UsageError("--capacity makes many runs: --log and --timeline go with a single one, at a --scale");
  }
  return {
    type: "run",
    scenario,
    policy,
    seed: numberOf("--seed", values.seed, SEED),
    scale: numberOf("--scale", values.scale, POSITIVE) ?? 1,
    capacity: values.capacity,
    json: values.json,
    log: values.log,
    timeline: values.timeline,
  };
}

/** The lines of `--policy list`. */
export function policyList(): string {
  return `${policyNames().join("\n")}\n`;
}
