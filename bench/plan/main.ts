/** The planner's command line. */
import { checkWritable, writeJson } from "../../tools/command-line/output-file.ts";
import { type NumberKind, numberOf, runTool, SEED, ToolError, UsageError } from "../../tools/command-line/run-tool.ts";
import { fetchStatus, findStatusAddress } from "../load/daemon-status.ts";
import { progressOn } from "../report/progress.ts";
import { readScenario } from "../scenario/read.ts";
import { type Scenario, ScenarioError } from "../scenario/schema.ts";
import { withModel } from "./added-model.ts";
import { liveScenario } from "./live-scenario.ts";
import { type Plan, planFor } from "./plan.ts";
import { changeText, planText } from "./report.ts";

const USAGE = `usage: slackline plan SCENARIO [options]
       slackline plan --target HOST:PORT [options]

Says whether models fit on their devices at their rates and SLOs, how much their rates may grow, which model is late first
and what stands before it, and what adding a model would change: by simulation with the daemon's own scheduler.

  --target HOST:PORT   a running daemon's gRPC port: its models, profiles and SLOs, at the rates it sees now
  --http HOST:PORT     the daemon's HTTP port (default: port 8002 of the target's host)
  --window S           seconds over which the daemon's rates are observed (default 10)
  --add MODEL          as well with this model; may be given several times. MODEL is a JSON file with a model as scenarios
                       have it, or NAME:rate_per_s=R,slo_ms=S,like=OTHER, or NAME:rate_per_s=R,slo_ms=S,alpha_ms=A,beta_ms=B,max_batch=N
  --seed N             in place of the scenario's seed
  --json FILE          writes the answers as JSON

Exit code: 0 where everything fits (with what is added), 3 where it does not, 1 where it can't be told, 2 for a wrong command line.
`;

const EXIT_TOO_MUCH = 3;
const WINDOW_S = 10;

const WINDOW: NumberKind = { ok: (value) => value > 0 && value < 86_400, expected: "a number of seconds above 0" };

interface Values {
  readonly target?: string;
  readonly http?: string;
  readonly window?: string;
  readonly add: readonly string[];
  readonly seed?: string;
  readonly json?: string;
}

async function main(values: Values, positionals: readonly string[]): Promise<number> {
  const [file, ...more] = positionals;
  if (more.length > 0) throw new UsageError(`one scenario at a time; there is also '${more.join("', '")}'`);
  if ((file === undefined) === (values.target === undefined && values.http === undefined)) {
    throw new UsageError("what is to be planned? Give either the path of a scenario file, or --target HOST:PORT");
  }
  const seed = numberOf("--seed", values.seed, SEED);
  const windowS = numberOf("--window", values.window, WINDOW) ?? WINDOW_S;
  if (values.json !== undefined) checkWritable(values.json);
  const { scenario: found, notes } =
    file === undefined
      ? await observed(values.target, values.http, windowS)
      : { scenario: readScenario(file), notes: [] };
  const scenario = seed === undefined ? found : { ...found, seed };
  if (
    scenario.models.every(({ arrivals }) => arrivals === undefined) &&
    scenario.trace === undefined &&
    values.add.length === 0
  ) {
    throw new ToolError(
      `${scenario.name} has no requests to plan for; add some with --add, or observe it for longer with --window`,
    );
  }
  const grown = values.add.reduce(withModel, scenario);

  const before = planned(scenario);
  process.stdout.write(`${planText(before, notes)}\n`);
  const after = values.add.length === 0 ? null : planned({ ...grown, name: `${scenario.name} with what is added` });
  if (after !== null) process.stdout.write(`\n${planText(after)}\n${changeText(before, after)}\n`);
  if (values.json !== undefined) {
    writeJson(values.json, { plan: before, notes, added: values.add, plan_with_added: after });
  }
  return (after ?? before).fits ? 0 : EXIT_TOO_MUCH;
}

function planned(scenario: Scenario): Plan {
  const progress = progressOn(process.stderr, "simulating", "runs");
  let runs = 0;
  const plan = planFor(scenario, (scale) =>
    progress.update(++runs, Math.max(EXPECTED_RUNS, runs), `rates × ${scale.toFixed(2)}`),
  );
  progress.stop();
  return plan;
}

/** What a search usually takes. */
const EXPECTED_RUNS = 25;

async function observed(
  target: string | undefined,
  http: string | undefined,
  windowS: number,
): Promise<{ scenario: Scenario; notes: readonly string[] }> {
  const address = target === undefined ? http! : await findStatusAddress(target, http);
  if (address === null) {
    throw new ToolError(`no slackline daemon's HTTP port was found for ${target}; name it with --http HOST:PORT`);
  }
  const snapshot = async () => {
    const status = await fetchStatus(address);
    if (status === null) throw new ToolError(`no slackline daemon answers at http://${address}/status`);
    return status;
  };
  const before = await snapshot();
  process.stderr.write(`observing ${address} for ${windowS} s\n`);
  await new Promise((resolve) => setTimeout(resolve, windowS * 1000));
  try {
    return liveScenario(before, await snapshot(), target ?? address);
  } catch (error) {
    if (error instanceof ScenarioError || error instanceof ToolError) throw error;
    throw new ToolError((error as Error).message);
  }
}

await runTool(
  {
    name: "slackline plan",
    usage: USAGE,
    allowPositionals: true,
    options: {
      target: { type: "string" },
      http: { type: "string" },
      window: { type: "string" },
      add: { type: "string", multiple: true, default: [] },
      seed: { type: "string" },
      json: { type: "string" },
    },
    expected: [ScenarioError],
  },
  ({ values, positionals }) => main(values, positionals),
);
