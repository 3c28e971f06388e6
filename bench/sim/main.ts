/** The simulator's command line. */
import { closeSync, openSync, writeSync } from "node:fs";
import { DecisionLog } from "../../daemon/engine/decision-log.ts";
import { makeFolderOf, writeJson, writeText } from "../../tools/command-line/output-file.ts";
import { runTool } from "../../tools/command-line/run-tool.ts";
import { checkLog } from "../check/check-log.ts";
import { checkText } from "../check/report.ts";
import { percent } from "../report/format.ts";
import { traceScaleMax } from "../scenario/arrivals.ts";
import { readScenario } from "../scenario/read.ts";
import { type Scenario, ScenarioError } from "../scenario/schema.ts";
import { OPTIONS, parseCommand, policyList, type RunCommand, USAGE } from "./arguments.ts";
import { searchCapacity } from "./capacity.ts";
import { reportText } from "./report.ts";
import { type SimulationOptions, simulate } from "./simulation.ts";
import { Timeline } from "./timeline.ts";

const EXIT_FAILED = 1;

function run(scenario: Scenario, command: RunCommand): void {
  const { policy, seed, scale } = command;
  const options: SimulationOptions = {
    scheduler: policy.create,
    policy: policy.name,
    scale,
    ...(seed === undefined ? {} : { seed }),
  };
  if (command.capacity) {
    const { result, ...capacity } = searchCapacity(
      (factor) => simulate(scenario, { ...options, scale: factor }),
      (factor, { total, attainment_worst_model }) => {
        const worst = percent(attainment_worst_model);
        process.stderr.write(
          `rates × ${factor.toFixed(4)}: ${percent(total.attainment)} on time, worst model ${worst}\n`,
        );
      },
      traceScaleMax(scenario),
    );
    if (command.json !== undefined) writeJson(command.json, { ...result, ...capacity });
    process.stdout.write(`${reportText(result, capacity)}\n`);
    return;
  }
  const log = command.log === undefined ? null : new LogFile(command.log);
  const timeline = command.timeline === undefined ? null : new Timeline(scenario);
  const observers = [log?.log, timeline].filter((observer) => observer !== undefined && observer !== null);
  const result = simulate(scenario, { ...options, observers });
  log?.close();
  if (timeline !== null) writeText(command.timeline!, timeline.html(result));
  if (command.json !== undefined) writeJson(command.json, result);
  process.stdout.write(`${reportText(result, null)}\n`);
}

/** A decision log written as the run goes on: virtual time leaves no moment for a stream to drain. */
class LogFile {
  readonly log: DecisionLog;
  readonly #descriptor: number;

  constructor(file: string) {
    makeFolderOf(file);
    this.#descriptor = openSync(file, "w");
    this.log = new DecisionLog((chunk) => writeSync(this.#descriptor, chunk));
  }

  close(): void {
    this.log.flush();
    closeSync(this.#descriptor);
  }
}

function check(log: string, scenario: string, live: boolean): number {
  // Read for its errors alone: the check itself takes what it needs from the file.
  readScenario(scenario);
  const outcome = checkLog(log, scenario, { live });
  process.stdout.write(`${checkText(outcome)}\n`);
  return outcome.problems.length === 0 ? 0 : EXIT_FAILED;
}

await runTool(
  { name: "slackline sim", usage: USAGE, options: OPTIONS, allowPositionals: true, expected: [ScenarioError] },
  (given) => {
    const command = parseCommand(given);
    switch (command.type) {
      case "list":
        process.stdout.write(policyList());
        return 0;
      case "check":
        return check(command.log, command.scenario, command.live);
      case "run":
        run(readScenario(command.scenario), command);
        return 0;
    }
  },
);
