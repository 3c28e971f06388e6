/**
 * Measures slackline on a GPU, in one run: profiles, capacity of three and six models, best-effort fill, idle gaps,
 * predictions, added latency, sharing against one model at a time and against round-robin batching.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { DeviceUnavailable } from "../../daemon/device/choose-device.ts";
import { commandName, PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { DaemonError } from "../live/daemon-process.ts";
import { TargetError } from "../load/connect.ts";
import { gpuHtml } from "./html.ts";
import type { GpuBenchResult } from "./result.ts";
import { type Found, runGpuBench, SECTIONS, type Section } from "./sections.ts";
import { gpuText } from "./text.ts";

const COMMAND: string = commandName("bench-gpu", "bench:gpu");

const USAGE = `usage: ${COMMAND} [options]

  --device D        cuda (default auto), cuda:N, webgpu or cpu
  --allow-software-gpu
  --quick           short loads and coarse searches: shows that it works, its figures say little
  --only A,B        some of ${SECTIONS.join(", ")} (default: all)
  --measure S       seconds measured of each load (default 5, quick 1.5)
  --steps N         loads of each capacity search (default 6, quick 3)
  --out DIR         default bench/results
  --name NAME       of the files: DATE-gpu-NAME.json, .html, .scenario.json (default: the device's provider)
`;

class UsageError extends Error {}

function options(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        device: { type: "string", default: "auto" },
        "allow-software-gpu": { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        only: { type: "string" },
        measure: { type: "string" },
        steps: { type: "string" },
        out: { type: "string", default: path.join(PACKAGE_ROOT, "bench", "results") },
        name: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    const number = (text: string | undefined, otherwise: number): number => {
      const value = text === undefined ? otherwise : Number(text);
      if (!(value > 0)) throw new UsageError(`'${text}' is not a number above 0`);
      return value;
    };
    const asked = values.only?.split(",") ?? [...SECTIONS];
    const unknown = asked.filter((name) => !SECTIONS.includes(name as Section));
    if (unknown.length > 0)
      throw new UsageError(`--only takes some of ${SECTIONS.join(", ")}; not ${unknown.join(", ")}`);
    return {
      ...values,
      sections: new Set(asked as Section[]),
      measureS: number(values.measure, values.quick ? 1.5 : 5),
      steps: Math.round(number(values.steps, values.quick ? 3 : 6)),
    };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function commit(): string {
  if (!existsSync(path.join(PACKAGE_ROOT, ".git"))) {
    return JSON.parse(readFileSync(path.join(PACKAGE_ROOT, "package.json"), "utf8")).version;
  }
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: PACKAGE_ROOT, encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}

function write(result: GpuBenchResult, scenarios: ReadonlyMap<string, unknown>, folder: string, name: string): string {
  mkdirSync(folder, { recursive: true });
  const base = path.join(folder, `${result.date}-gpu-${name.replaceAll(/[^\w.-]/g, "_")}`);
  writeFileSync(`${base}.json`, `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(`${base}.html`, gpuHtml(result));
  for (const [set, scenario] of scenarios) {
    writeFileSync(`${base}-${set}.scenario.json`, `${JSON.stringify(scenario, null, 2)}\n`);
  }
  return base;
}

async function main(args: readonly string[]): Promise<void> {
  const values = options(args);
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const finish = ({ measured, scenarios }: Found): void => {
    const result: GpuBenchResult = {
      date: new Date().toISOString().slice(0, 10),
      command: `${COMMAND}${args.map((arg) => ` ${arg}`).join("")}`,
      commit: commit(),
      cpu: cpus()[0]?.model.trim() ?? "unknown",
      cores: availableParallelism(),
      node: process.version,
      ...measured,
    };
    const base = write(result, scenarios, path.resolve(values.out), values.name ?? result.device.provider);
    process.stdout.write(
      `${gpuText(result)}\nwritten: ${path.relative(process.cwd(), base)}.json, .html, -SET.scenario.json\n`,
    );
  };
  let found: Found | null = null;
  const finishWhatIsFound = (): void => {
    if (found !== null) finish(found);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      finishWhatIsFound();
      // Leaving by `exit` takes the daemons along.
      process.exit(130);
    });
  }
  try {
    await runGpuBench({
      device: values.device,
      allowSoftwareGpu: values["allow-software-gpu"],
      sections: values.sections,
      warmupS: values.quick ? 0.5 : 1.5,
      measureS: values.measureS,
      steps: values.steps,
      say: (line) => void process.stderr.write(`${line}\n`),
      found: (soFar) => {
        found = soFar;
      },
    });
  } finally {
    finishWhatIsFound();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`bench:gpu: ${error.message}\n\n${USAGE}`);
    process.exitCode = 2;
  } else if ([DaemonError, DeviceUnavailable, TargetError].some((known) => error instanceof known)) {
    process.stderr.write(`bench:gpu: ${(error as Error).message}\n`);
    process.exitCode = 1;
  } else throw error;
}
