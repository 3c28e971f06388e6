/** The load test's command line. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import type { Histogram } from "hdr-histogram-js";
import { count } from "../report/format.ts";
import { progressOn } from "../report/progress.ts";
import { readScenario } from "../scenario/read.ts";
import { ScenarioError } from "../scenario/schema.ts";
import { type LoadTransport, TargetError } from "./connect.ts";
import { findStatusAddress } from "./daemon-status.ts";
import type { LoadProgress } from "./load-run.ts";
import { type LoadTest, loadTest } from "./load-test.ts";
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

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_INVALID = 3;
const EXIT_INTERRUPTED = 130;

interface Arguments {
  readonly scenario: string;
  readonly target: string;
  readonly seed?: number;
  readonly scale?: number;
  readonly measureS?: number;
  readonly warmupS?: number;
  readonly transport: LoadTransport;
  readonly json?: string;
  readonly hdr?: string;
  readonly http?: string;
  readonly lagMsMax: number;
}

class UsageError extends Error {}

function parseArguments(args: readonly string[]): Arguments | "help" {
  const { values, positionals } = parse(args);
  if (values.help) return "help";
  const [scenario, ...more] = positionals;
  if (scenario === undefined) throw new UsageError("which scenario? Give the path of a scenario file");
  if (more.length > 0) throw new UsageError(`one scenario at a time; there is also '${more.join("', '")}'`);
  if (values.target === undefined) throw new UsageError("where is the daemon? Give --target HOST:PORT");
  const transport = values.transport;
  if (transport !== "stream" && transport !== "unary" && transport !== "plain") {
    throw new UsageError(`--transport is 'stream', 'unary' or 'plain', not '${transport}'`);
  }
  const seed = number("--seed", values.seed, (n) => Number.isSafeInteger(n) && n >= 0, "a whole number of at least 0");
  const scale = number("--scale", values.scale, (n) => n > 0, "a number above 0");
  const measureS = number("--duration", values.duration, (n) => n > 0, "a number of seconds above 0");
  const warmupS = number("--warmup", values.warmup, (n) => n >= 0, "a number of seconds");
  const lagMsMax = number("--lag-max", values["lag-max"], (n) => n > 0, "a number of milliseconds above 0");
  return {
    scenario,
    target: hostPort("--target", values.target),
    transport,
    lagMsMax: lagMsMax ?? 5,
    ...(seed === undefined ? {} : { seed }),
    ...(scale === undefined ? {} : { scale }),
    ...(measureS === undefined ? {} : { measureS }),
    ...(warmupS === undefined ? {} : { warmupS }),
    ...(values.json === undefined ? {} : { json: values.json }),
    ...(values.hdr === undefined ? {} : { hdr: values.hdr }),
    ...(values.http === undefined ? {} : { http: hostPort("--http", values.http) }),
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
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
        "lag-max": { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function number(name: string, text: string | undefined, ok: (n: number) => boolean, expected: string) {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || !ok(value)) {
    throw new UsageError(`${name} takes ${expected}, not '${text}'`);
  }
  return value;
}

function hostPort(name: string, text: string): string {
  if (!/^(\[[^\]]+\]|[^\s:]+):\d{1,5}$/.test(text)) throw new UsageError(`${name} takes HOST:PORT, not '${text}'`);
  return text;
}

function progressNote({ phase, sent, outstanding, total }: LoadProgress): string {
  const { offered, on_time, late, shed, errors } = total.figures(1);
  if (phase !== "measuring") return `${phase}: ${count(sent)} sent, ${count(outstanding)} outstanding`;
  return `${count(offered)} answered: ${count(on_time)} on time, ${count(late)} late, ${count(shed)} shed, ${count(errors)} errors`;
}

function writeFiles({ result, latencies }: LoadTest, { json, hdr }: Arguments): void {
  if (json !== undefined) write(json, `${JSON.stringify(result, null, 2)}\n`);
  if (hdr === undefined) return;
  write(hdr, percentileFile(latencies.total));
  const { dir, name, ext } = path.parse(hdr);
  for (const [model, histogram] of latencies.models) {
    write(path.join(dir, `${name}.${model.replaceAll(/[^\w.-]/g, "_")}${ext}`), percentileFile(histogram));
  }
}

/** Values in milliseconds. */
function percentileFile(histogram: Histogram): string {
  return histogram.outputPercentileDistribution(5, 1000);
}

function write(file: string, text: string): void {
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
  writeFileSync(file, text);
}

async function main(args: readonly string[]): Promise<number> {
  const parsed = parseArguments(args);
  if (parsed === "help") {
    process.stdout.write(USAGE);
    return 0;
  }
  const scenario = readScenario(parsed.scenario);
  const { seed, scale, measureS, warmupS } = parsed;
  const interruption = new AbortController();
  // The second Ctrl-C ends the process as it would have without a handler.
  process.once("SIGINT", () => interruption.abort());
  const progress = progressOn(process.stderr, scenario.name);
  const test = await loadTest({
    scenario,
    plan: {
      ...(seed === undefined ? {} : { seed }),
      ...(scale === undefined ? {} : { scale }),
      ...(measureS === undefined ? {} : { measureS }),
      ...(warmupS === undefined ? {} : { warmupS }),
    },
    address: parsed.target,
    statusAddress: await findStatusAddress(parsed.target, parsed.http),
    transport: parsed.transport,
    lagMsMax: parsed.lagMsMax,
    signal: interruption.signal,
    onProgress: (state) => progress.update(state.elapsedUs / 1e6, state.durationUs / 1e6, progressNote(state)),
  }).finally(() => progress.stop());
  process.stdout.write(`${reportText(test.result)}\n`);
  if (parsed.http !== undefined && test.status === null) {
    process.stderr.write(
      `no status was to be had at http://${parsed.http}/status: the device's figures are left out\n`,
    );
  }
  writeFiles(test, parsed);
  if (test.result.interrupted) return EXIT_INTERRUPTED;
  return test.result.valid ? 0 : EXIT_INVALID;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`slackline bench: ${error.message}\n\n${USAGE}`);
    process.exitCode = EXIT_USAGE;
  } else if (error instanceof ScenarioError || error instanceof TargetError) {
    process.stderr.write(`slackline bench: ${error.message}\n`);
    process.exitCode = EXIT_FAILED;
  } else throw error;
}
