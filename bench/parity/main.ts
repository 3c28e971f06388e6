/**
 * Parity of simulator and daemon: starts a daemon on the sample models, loads it, and simulates the very same arrivals
 * with the profiles that the run showed. The simulator is right where it foretells the share on time and the latencies.
 */
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { exitOnSignals, temporaryFolder } from "../../tools/command-line/clean-up.ts";
import { checkWritable, writeJson, writeText } from "../../tools/command-line/output-file.ts";
import { numberOf, numbersOf, runTool, ToolError } from "../../tools/command-line/run-tool.ts";
import { DaemonProcess } from "../live/daemon-process.ts";
import { makeSampleModels, SAMPLE_REPOSITORY } from "../live/sample-models.ts";
import { loadTest } from "../load/load-test.ts";
import { liveScenario } from "../plan/live-scenario.ts";
import { mixedLoad } from "../quickstart/mix.ts";
import { figure, percent } from "../report/format.ts";
import type { Scenario } from "../scenario/types.ts";
import { searchCapacity } from "../sim/capacity.ts";
import { OWN_POLICY } from "../sim/policies.ts";
import { simulate } from "../sim/simulation.ts";
import { readLiveLog } from "./live-log.ts";
import { ATTAINMENT_TOLERANCE, P99_TOLERANCE, type Parity, parityOf, type Served } from "./parity.ts";

const READY_MS = 180_000;
const WARMUP_S = 3;
const COMMAND = "node dist/bench/parity/main.js";
const USAGE = `usage: npm run bench:parity -- [options]

Compares what a daemon makes of a load with what the simulator says of the same arrivals.

  --loads A,B      shares of what the simulator says the models can carry (default 0.5,0.9)
  --measure-s S    seconds measured of each load (default 20)
  --json FILE      writes the result as JSON
  --markdown FILE  writes it as Markdown

Exit code 0 where it could be measured, whether within the tolerances or not: on a shared machine it may not be.
`;

interface ParityRun {
  readonly load: number;
  readonly requests_per_s: number;
  readonly generator_lag_p99_ms: number;
  readonly parity: Parity;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** The scale at which the simulator would have 99 % on time, with the profiles that the daemon measured at its start. */
function carriedScale(scenario: Scenario): number {
  const { capacity_scale } = searchCapacity((scale) =>
    simulate(scenario, { policy: OWN_POLICY, scale, scheduler: (options) => createScheduler(options) }),
  );
  if (capacity_scale === 0) throw new ToolError("the sample models can't be served on time here at any rate");
  return capacity_scale;
}

async function runAt(load: number, measureS: number, folder: string): Promise<ParityRun> {
  const logFile = path.join(folder, `decisions-${load}.jsonl`);
  const daemon = await DaemonProcess.start({
    models: SAMPLE_REPOSITORY,
    flags: ["--decision-log", logFile],
    logFile: path.join(folder, "daemon.log"),
    readyMs: READY_MS,
    onActivity: say,
  });
  let before: DaemonStatus;
  let after: DaemonStatus;
  let perS: number;
  let lagMs: number;
  try {
    before = await daemon.status();
    const mixed = mixedLoad(before, { warmupS: WARMUP_S, measureS, seed: 1 });
    if (mixed === null) throw new ToolError("no model is ready");
    const scenario = { ...mixed, best_effort: [] };
    const scale = load * carriedScale(scenario);
    say(`load ${percent(load)}: rates × ${scale.toFixed(2)} for ${WARMUP_S + measureS} s`);
    const { result } = await loadTest({
      scenario,
      plan: { scale },
      address: daemon.grpcAddress,
      statusAddress: daemon.httpAddress,
      transport: "stream",
      lagMsMax: Number.POSITIVE_INFINITY,
    });
    perS = result.total.offered / result.measured_s;
    lagMs = result.generator_lag_ms.p99;
    after = await daemon.status();
  } finally {
    await daemon.stop();
  }
  const { scenario } = liveScenario(before, after, `${percent(load)} load`);
  const parity = parityOf(scenario, readLiveLog(logFile), WARMUP_S, path.join(folder, `trace-${load}.csv`));
  return { load, requests_per_s: perS, generator_lag_p99_ms: lagMs, parity };
}

function markdown(runs: readonly ParityRun[], args: readonly string[]): string {
  const machine = `${cpus()[0]?.model ?? "unknown processor"}, ${availableParallelism()} cores, Node ${process.versions.node}`;
  const lines = [
    "# The simulator against the daemon",
    "",
    `The same arrivals live and simulated, with the profiles that the run showed; latency from arrival at the scheduler to the end of the batch. Load is a share of what the simulator says the models can carry with 99 % on time. Made by \`${[COMMAND, ...args].join(" ")}\` on ${machine}, generator and daemon on the same cores.`,
    "",
    "| load | model | requests | on time live | simulated | p50 live, ms | simulated | p99 live, ms | simulated |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
  ];
  const row = (load: string, name: string, live: Served, simulated: Served): string =>
    `| ${load} | ${name} | ${live.offered} | ${percent(live.attainment)} | ${percent(simulated.attainment)} | ${figure(live.p50_ms)} | ${figure(simulated.p50_ms)} | ${figure(live.p99_ms)} | ${figure(simulated.p99_ms)} |`;
  for (const { load, parity } of runs) {
    lines.push(row(percent(load), "**all**", parity.live, parity.simulated));
    for (const [name, { live, simulated }] of Object.entries(parity.models)) lines.push(row("", name, live, simulated));
  }
  lines.push("");
  for (const { load, parity, generator_lag_p99_ms } of runs)
    lines.push(`- ${verdict(load, parity, generator_lag_p99_ms)}`);
  return `${lines.join("\n")}\n`;
}

function verdict(load: number, parity: Parity, lagMs: number): string {
  const { attainment_difference, p99_difference, noise, turnaround_ms } = parity;
  const share = `on-time share ${signed(100 * attainment_difference)} points (tolerance ${100 * ATTAINMENT_TOLERANCE}, ${Math.abs(attainment_difference) <= ATTAINMENT_TOLERANCE ? "held" : "missed"})`;
  const p99 = `p99 ${signed(100 * p99_difference)} % (tolerance ${100 * P99_TOLERANCE}, ${Math.abs(p99_difference) <= P99_TOLERANCE ? "held" : "missed"})`;
  const found = `execution times strayed by ${percent(noise)}, ${figure(turnaround_ms)} ms between batches, generator's lag ${figure(lagMs)} ms at the 99th percentile`;
  return `${percent(load)} load: ${share}; ${p99}; ${found}`;
}

function signed(value: number): string {
  return `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(1)}`;
}

await runTool(
  {
    name: "bench:parity",
    usage: USAGE,
    options: {
      loads: { type: "string", default: "0.5,0.9" },
      "measure-s": { type: "string", default: "20" },
      json: { type: "string" },
      markdown: { type: "string" },
    },
  },
  async ({ values, args }) => {
    const { json, markdown: page } = values;
    const share = { ok: (load: number) => load > 0 && load <= 2, expected: "shares above 0 and up to 2" };
    const loads = numbersOf("--loads", values.loads, share);
    const second = { ok: (s: number) => s >= 1, expected: "at least 1 second" };
    const measureS = numberOf("--measure-s", values["measure-s"], second);
    for (const output of [json, page]) if (output !== undefined) checkWritable(output);
    exitOnSignals();
    const folder = temporaryFolder("parity");
    await makeSampleModels(say);
    const runs: ParityRun[] = [];
    for (const load of loads) runs.push(await runAt(load, measureS, folder));
    const text = markdown(runs, args);
    process.stdout.write(text);
    if (json !== undefined) writeJson(json, { command: [COMMAND, ...args].join(" "), runs });
    if (page !== undefined) writeText(page, text);
    return 0;
  },
);
