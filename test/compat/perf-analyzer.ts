/** perf_analyzer in each of its modes, to completion, and what its table says. */

import { lastLines } from "../../tools/python/run-command.ts";
import { PERF_ANALYZER_VERSION, type PerfAnalyzer } from "./perf-analyzer-install.ts";
import type { CheckResult } from "./results.ts";

/** Windows of 1 s, of which any three that differ less than tenfold are stable: how fast it is does not matter here. */
const WINDOWS = ["-p", "1000", "-s", "900", "-r", "6"];
const RUN_MS_MAX = 60_000;

const MODES: readonly { readonly what: string; readonly args: readonly string[] }[] = [
  { what: "concurrency", args: ["--concurrency-range", "4"] },
  { what: "concurrency, async, batches of 8", args: ["--concurrency-range", "4", "--async", "-b", "8"] },
  { what: "concurrency, streaming", args: ["--concurrency-range", "4", "--async", "--streaming"] },
  {
    what: "request rate, Poisson arrivals",
    args: ["--request-rate-range", "50", "--request-distribution", "poisson"],
  },
  { what: "system shared memory", args: ["--concurrency-range", "2", "--shared-memory", "system"] },
  {
    what: "system shared memory, streaming",
    args: ["--concurrency-range", "2", "--async", "--streaming", "--shared-memory", "system"],
  },
  {
    what: "a deadline as request parameter",
    args: ["--concurrency-range", "2", "--request-parameter", "deadline_ms:1000:int"],
  },
  { what: "gzip", args: ["--concurrency-range", "2", "--grpc-compression-algorithm", "gzip"] },
];

/** Figures of the table, requests a second and microseconds. */
export interface PerfAnalyzerTable {
  readonly clientRequests: number;
  readonly perSecond: number;
  readonly serverRequests: number;
  readonly queueUs: number;
  readonly computeInputUs: number;
  readonly computeInferUs: number;
  readonly computeOutputUs: number;
}

/** null where the output has no complete table. */
export function readTable(output: string): PerfAnalyzerTable | null {
  const [client, server] = output.split(/^ {2}Server: *$/m);
  if (client === undefined || server === undefined) return null;
  const figure = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? Number.NaN);
  const table: PerfAnalyzerTable = {
    clientRequests: figure(client, /Request count: (\d+)/),
    perSecond: figure(client, /Throughput: ([\d.]+) infer\/sec/),
    serverRequests: figure(server, /Successful request count: (\d+)/),
    queueUs: figure(server, /queue (\d+) usec/),
    computeInputUs: figure(server, /compute input (\d+) usec/),
    computeInferUs: figure(server, /compute infer (\d+) usec/),
    computeOutputUs: figure(server, /compute output (\d+) usec/),
  };
  return Object.values(table).some(Number.isNaN) ? null : table;
}

/** What is wrong with a run; null where nothing is. */
function problemOf(table: PerfAnalyzerTable): string | null {
  const none = (["clientRequests", "perSecond", "serverRequests", "queueUs", "computeInferUs"] as const).filter(
    (name) => !(table[name] > 0),
  );
  return none.length === 0 ? null : `zero in the table: ${none.join(", ")}`;
}

/** Runs every mode against the model `digits` of a daemon. */
export async function runPerfAnalyzer(
  perfAnalyzer: PerfAnalyzer,
  target: string,
  tell: (result: CheckResult) => void,
): Promise<void> {
  const same = { client: "perf_analyzer", version: PERF_ANALYZER_VERSION };
  for (const { what, args } of MODES) {
    const run = await perfAnalyzer.run(["-m", "digits", "-u", target, "-i", "grpc", ...WINDOWS, ...args], RUN_MS_MAX);
    const table = readTable(run.stdout);
    const problem = table === null ? "no table with server-side figures" : problemOf(table);
    const ok = run.code === 0 && problem === null;
    if (ok) {
      const { perSecond, queueUs, computeInferUs } = table!;
      const figures = `${Math.round(perSecond)}/s, queue ${queueUs} µs, compute ${computeInferUs} µs`;
      tell({ ...same, what: `${what} (${figures})`, ok, detail: null });
    } else {
      const exit = run.code === 0 ? "" : `exit code ${run.code}; `;
      tell({ ...same, what, ok, detail: `${exit}${problem ?? ""}\n${lastLines(run, 12)}` });
    }
  }
}
