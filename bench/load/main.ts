/** The load test's command line. */
import path from "node:path";
import type { Histogram } from "hdr-histogram-js";
import { checkWritable, writeJson, writeText } from "../../tools/command-line/output-file.ts";
import {
  EXIT_INTERRUPTED,
  hostPort,
  numberOf,
  POSITIVE,
  runTool,
  SECONDS,
  SEED,
  UsageError,
} from "../../tools/command-line/run-tool.ts";
import { count } from "../report/format.ts";
import { progressOn } from "../report/progress.ts";
import { readScenario } from "../scenario/read.ts";
import { ScenarioError } from "../scenario/schema.ts";
import type { LoadTransport } from "./connect.ts";
import { findStatusAddress } from "./daemon-status.ts";
import type { LoadProgress } from "./load-run.ts";
import { type LoadTest, loadTest } from "./load-test.ts";
import type { PlanOptions } from "./plan.ts";
import { reportText } from "./report.ts";

const USAGE = `usage: slackline bench SCENARIO --target HOST:PORT [options]

Sends a scenario's requests to a running daemon at their scheduled times and reports what became of them.

  --target HOST:PORT        the daemon's gRPC port
  --seed N                  in place of the scenario's seed
  --scale X                 multiplies all rates
  --duration S, --warmup S  in place of the scenario's measure_s and warmup_s
  --transport stream|unary|plain
                            how requests are sent: by the SDK on streams (default) or in unary calls, or in unary
                            calls without the SDK, to any server of the Open Inference Protocol
  --json FILE               writes the result as JSON
  --hdr FILE                writes latency percentiles (HdrHistogram's format): FILE for all requests, and one file a model
  --http HOST:PORT          the daemon's HTTP port, for its own counters (default: port 8002 of the target's host)
  --lag-max MS              the run is invalid where the generator's lag exceeds this at the 99th percentile (default 5)

Exit code: 0, 1 where the run could not be made, 2 for a wrong command line, 3 where the run is invalid, 130 after Ctrl-C.
`;

const EXIT_INVALID = 3;

function progressNote({ phase, sent, outstanding, total }: LoadProgress): string {
  const { offered, on_time, late, shed, errors } = total.figures(1);
  if (phase !== "measuring") return `${phase}: ${count(sent)} sent, ${count(outstanding)} outstanding`;
  return `${count(offered)} answered: ${count(on_time)} on time, ${count(late)} late, ${count(shed)} shed, ${count(errors)} errors`;
}

function writeFiles({ result, latencies }: LoadTest, json: string | undefined, hdr: string | undefined): void {
  if (json !== undefined) writeJson(json, result);
  if (hdr === undefined) return;
  writeText(hdr, percentileFile(latencies.total));
  const { dir, name, ext } = path.parse(hdr);
  for (const [model, histogram] of latencies.models) {
    writeText(path.join(dir, `${name}.${model.replaceAll(/[^\w.-]/g, "_")}${ext}`), percentileFile(histogram));
  }
}

/** Values in milliseconds. */
function percentileFile(histogram: Histogram): string {
  return histogram.outputPercentileDistribution(5, 1000);
}

function transportOf(text: string): LoadTransport {
  if (text === "stream" || text === "unary" || text === "plain") return text;
  throw new UsageError(`--transport is 'stream', 'unary' or 'plain', not '${text}'`);
}

await runTool(
  {
    name: "slackline bench",
    usage: USAGE,
    allowPositionals: true,
    options: {
      target: { type: "string" },
      seed: { type: "string" },
      scale: { type: "string" },
      duration: { type: "string" },
      warmup: { type: "string" },
      transport: { type: "string", default: "stream" },
      json: { type: "string" },
      hdr: { type: "string" },
      http: { type: "string" },
      "lag-max": { type: "string", default: "5" },
    },
    expected: [ScenarioError],
  },
  async ({ values, positionals }) => {
    const [file, ...more] = positionals;
    if (file === undefined) throw new UsageError("which scenario? Give the path of a scenario file");
    if (more.length > 0) throw new UsageError(`one scenario at a time; there is also '${more.join("', '")}'`);
    if (values.target === undefined) throw new UsageError("where is the daemon? Give --target HOST:PORT");
    const address = hostPort("--target", values.target);
    const http = values.http === undefined ? undefined : hostPort("--http", values.http);
    const transport = transportOf(values.transport);
    const plan: PlanOptions = {
      seed: numberOf("--seed", values.seed, SEED),
      scale: numberOf("--scale", values.scale, POSITIVE),
      measureS: numberOf("--duration", values.duration, SECONDS),
      warmupS: numberOf("--warmup", values.warmup, { ok: (s) => s >= 0, expected: "a number of seconds" }),
    };
    const lagMsMax = numberOf("--lag-max", values["lag-max"], {
      ok: (ms) => ms > 0,
      expected: "a number of milliseconds above 0",
    });
    const scenario = readScenario(file);
    for (const output of [values.json, values.hdr]) if (output !== undefined) checkWritable(output);
    const interruption = new AbortController();
    const progress = progressOn(process.stderr, scenario.name);
    const test = await loadTest({
      scenario,
      plan,
      address,
      statusAddress: await findStatusAddress(address, http),
      transport,
      lagMsMax,
      signal: interruption.signal,
      // Before there is anything to report, and from the second time on, Ctrl-C ends the process as it does without a handler.
      onReady: () => process.once("SIGINT", () => interruption.abort()),
      onProgress: (state) => progress.update(state.elapsedUs / 1e6, state.durationUs / 1e6, progressNote(state)),
    }).finally(() => progress.stop());
    process.stdout.write(`${reportText(test.result)}\n`);
    if (http !== undefined && test.status === null) {
      process.stderr.write(`no status was to be had at http://${http}/status: the device's figures are left out\n`);
    }
    writeFiles(test, values.json, values.hdr);
    if (test.result.interrupted) return EXIT_INTERRUPTED;
    return test.result.valid ? 0 : EXIT_INVALID;
  },
);
