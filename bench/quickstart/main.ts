/** The quickstart: sample models, a daemon, a mixed load, a report. */
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { writeText } from "../../tools/command-line/output-file.ts";
import { EXIT_INTERRUPTED, runTool } from "../../tools/command-line/run-tool.ts";
import { DaemonError, DaemonProcess } from "../live/daemon-process.ts";
import { makeSampleModels, SAMPLE_REPOSITORY } from "../live/sample-models.ts";
import type { LoadProgress } from "../load/load-run.ts";
import { type LoadTest, loadTest } from "../load/load-test.ts";
import { count } from "../report/format.ts";
import { progressOn } from "../report/progress.ts";
import type { Scenario } from "../scenario/schema.ts";
import { gatherFacts, verdict } from "./facts.ts";
import { quickstartHtml } from "./html-report.ts";
import { mixedLoad } from "./mix.ts";
import { quickstartText } from "./report.ts";

const WARMUP_S = 2;
const MEASURE_S = 18;
const SEED = 1;
/** The load generator shares the machine with the daemon: its lag makes the figures doubtful above this part of the shortest SLO. */
const LAG_SHARE_MAX = 0.25;
/** Time for loading and profiling all sample models on a slow machine. */
const READY_MS = 150_000;
const FOLDER: string = path.join(PACKAGE_ROOT, ".cache", "quickstart");

const USAGE = `usage: npm run quickstart

Makes the sample models, starts a daemon on them, sends it a mixed load for ${WARMUP_S + MEASURE_S} s and reports what became of the requests.
`;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function progressNote({ phase, total, outstanding }: LoadProgress): string {
  const { on_time, late, shed, best_effort } = total.figures(1);
  if (phase !== "measuring") return phase;
  return `${count(on_time)} on time, ${count(late)} late, ${count(shed)} shed, ${count(outstanding)} waiting, ${count(best_effort.answered)} best effort`;
}

/** What the daemon does, without the buckets and shapes of each model ("profiling ranker/1: bucket 8"). */
function modelByModel(tell: (activity: string) => void): (activity: string) => void {
  let last = "";
  return (activity) => {
    const [step] = activity.split(":", 1);
    if (step !== last) tell(step!);
    last = step!;
  };
}

async function drive(daemon: DaemonProcess, scenario: Scenario, signal: AbortSignal): Promise<LoadTest> {
  const progress = progressOn(process.stdout, "  load");
  return loadTest({
    scenario,
    plan: {},
    address: daemon.grpcAddress,
    statusAddress: daemon.httpAddress,
    transport: "stream",
    lagMsMax: LAG_SHARE_MAX * Math.min(...scenario.models.map((model) => model.slo_ms)),
    signal,
    onProgress: (state) => progress.update(state.elapsedUs / 1e6, state.durationUs / 1e6, progressNote(state)),
  }).finally(() => progress.stop());
}

function describe({ models, best_effort }: Scenario): string {
  const rates = models.map((model) => `${model.name} ${model.arrivals?.rate_per_s ?? 0}/s`);
  return `${rates.join(", ")}; best effort: as much ${best_effort.map(({ model }) => model).join(", ")} as fits`;
}

async function main(signal: AbortSignal): Promise<number> {
  say("Sample models");
  await makeSampleModels((line) => say(`  ${line}`));
  say("Daemon");
  const daemon = await DaemonProcess.start({
    models: SAMPLE_REPOSITORY,
    // The load is made from the profiles: what a busier or another machine left in the cache would mislead it.
    flags: ["--reprofile"],
    logFile: path.join(FOLDER, "daemon.log"),
    readyMs: READY_MS,
    onActivity: modelByModel((activity) => say(`  ${activity}`)),
  });
  try {
    const status = await daemon.status();
    const scenario = mixedLoad(status, { warmupS: WARMUP_S, measureS: MEASURE_S, seed: SEED });
    if (scenario === null) {
      for (const model of status.models) say(`  ${model.name}: ${model.state} ${model.reason}`);
      throw new DaemonError("none of the sample models could be loaded");
    }
    say(`  ready: gRPC on ${daemon.grpcAddress}, status and metrics on http://${daemon.httpAddress}`);
    say(`Load for ${WARMUP_S + MEASURE_S} s\n  ${describe(scenario)}`);
    const test = await drive(daemon, scenario, signal);
    const facts = gatherFacts(test, test.status?.after ?? (await daemon.status()));
    say(`\n${quickstartText(facts)}`);
    const file = path.join(FOLDER, "report.html");
    writeText(file, quickstartHtml(facts));
    say(`\nThe same with charts: ${path.relative(process.cwd(), file)}`);
    if (signal.aborted) return EXIT_INTERRUPTED;
    return verdict(facts) === "failed" ? 1 : 0;
  } finally {
    const how = await daemon.stop();
    if (how !== "exit code 0") say(`The daemon did not end as it should: ${how}.`);
  }
}

await runTool({ name: "quickstart", usage: USAGE, options: {} }, async () => {
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => interruption.abort());
  return await main(interruption.signal).catch((error: unknown) => {
    if (interruption.signal.aborted) return EXIT_INTERRUPTED;
    throw error;
  });
});
