/** The wire's budgets: the wire benchmark against a daemon that serves models which do nothing. */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { noop } from "../../models/onnx/tiny.ts";
import { killOnExit } from "../../tools/command-line/clean-up.ts";
import { ToolError } from "../../tools/command-line/run-tool.ts";
import { DaemonProcess } from "../live/daemon-process.ts";
import { figure } from "../report/format.ts";
import { atLeast, type BudgetLine } from "./budget.ts";

const BENCH = fileURLToPath(new URL("../wire-bench.js", import.meta.url));
const READY_MS = 60_000;
/** Bytes of a request's tensor, a model for each: profiles and warm-up want shapes that are fixed. */
const SIZES = [64, 12_288, 602_112] as const;
/** Up to this size streams have a budget; what larger ones cost is HTTP/2's framing on either path. */
const STREAM_BUDGET_BYTES_MAX = 12_288;
const FP32_BYTES = 4;

/** The part of the wire benchmark's result that the budgets are about. */
interface WireResult {
  readonly sizes: readonly {
    readonly requests_per_s: Readonly<Record<string, { readonly median: number }>>;
    readonly client_cpu_us: Readonly<Record<string, number>>;
    readonly server_cpu_us: Readonly<Record<string, number | null>>;
    readonly ratios: { readonly unary_to_bare_echo: number; readonly sdk_stream_to_sdk_unary: number };
  }[];
}

/** @param folder takes the models, the daemon's log and the benchmark's result */
export async function wireBudgets(folder: string): Promise<BudgetLine[]> {
  const models = path.join(folder, "noop-models");
  for (const bytes of SIZES) {
    const version = path.join(models, modelOf(bytes), "1");
    mkdirSync(version, { recursive: true });
    writeFileSync(path.join(version, "model.onnx"), noop(bytes / FP32_BYTES));
  }
  const daemon = await DaemonProcess.start({ models, logFile: path.join(folder, "wire.log"), readyMs: READY_MS });
  try {
    const lines: BudgetLine[] = [];
    for (const bytes of SIZES) lines.push(...(await measure(daemon, bytes, folder)));
    return lines;
  } finally {
    await daemon.stop();
  }
}

async function measure({ grpcAddress, pid }: DaemonProcess, bytes: number, folder: string): Promise<BudgetLine[]> {
  const json = path.join(folder, `wire-${bytes}.json`);
  const target = ["--target", grpcAddress, "--pid", String(pid), "--model", modelOf(bytes)];
  const args = [...target, "--sizes", String(bytes), "--json", json];
  const child = spawn(process.execPath, [BENCH, ...args], { stdio: ["ignore", "ignore", "inherit"] });
  killOnExit(child);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new ToolError(`the wire benchmark ended with ${code}`);
  const [size] = (JSON.parse(readFileSync(json, "utf8")) as WireResult).sizes;
  if (size === undefined) throw new ToolError(`the wire benchmark measured nothing at ${bytes} B`);
  const { ratios, requests_per_s, client_cpu_us, server_cpu_us } = size;
  const rates = Object.entries(requests_per_s).map(([name, { median }]) => `${name} ${figure(median)}/s`);
  const cpu = (name: string): string =>
    `${name} ${figure(client_cpu_us[name] ?? Number.NaN)} + ${figure(server_cpu_us[name] ?? Number.NaN)} µs`;
  const lines = [
    atLeast(
      `unary throughput, no-op model, ${bytes} B`,
      75,
      "% of a bare echo",
      100 * ratios.unary_to_bare_echo,
      rates.join(", "),
    ),
  ];
  if (bytes <= STREAM_BUDGET_BYTES_MAX) {
    const ways = `CPU of client and daemon: ${cpu("sdk_unary")}, ${cpu("sdk_stream")}`;
    lines.push(atLeast(`SDK over streams, ${bytes} B`, 4, "× unary", ratios.sdk_stream_to_sdk_unary, ways));
  }
  return lines;
}

function modelOf(bytes: number): string {
  return `noop${bytes}`;
}
