/**
 * Measures slackline on a GPU, in one run: profiles, capacity of three and six models, best-effort fill, idle gaps,
 * predictions, added latency, sharing against one model at a time and against round-robin batching.
 */
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import { DeviceUnavailable } from "../../daemon/device/choose-device.ts";
import { commandName, PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { exitOnSignals } from "../../tools/command-line/clean-up.ts";
import { checkWritable, writeJson, writeText } from "../../tools/command-line/output-file.ts";
import { COUNT, numberOf, runTool, SECONDS, someOf } from "../../tools/command-line/run-tool.ts";
import { measuredCommit } from "../report/commit.ts";
import { gpuHtml } from "./html.ts";
import type { GpuBenchResult } from "./result.ts";
import { type Found, runGpuBench, SECTIONS } from "./sections.ts";
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
  --name NAME       of the files: DATE-gpu-NAME.json, .html, .scenario.json (default: the device's provider, followed
                    by -quick, or by -partial where sections are left out)
`;

function write(result: GpuBenchResult, scenarios: ReadonlyMap<string, unknown>, folder: string, name: string): string {
  const base = path.join(folder, `${result.date}-gpu-${name.replaceAll(/[^\w.-]/g, "_")}`);
  writeJson(`${base}.json`, result);
  writeText(`${base}.html`, gpuHtml(result));
  for (const [set, scenario] of scenarios) writeJson(`${base}-${set}.scenario.json`, scenario);
  return base;
}

await runTool(
  {
    name: "bench:gpu",
    usage: USAGE,
    options: {
      device: { type: "string", default: "auto" },
      "allow-software-gpu": { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      only: { type: "string" },
      measure: { type: "string" },
      steps: { type: "string" },
      out: { type: "string", default: path.join(PACKAGE_ROOT, "bench", "results") },
      name: { type: "string" },
    },
    expected: [DeviceUnavailable],
  },
  async ({ values, args }) => {
    const { quick, device } = values;
    const folder = path.resolve(values.out);
    const sections = new Set(someOf("--only", values.only, SECTIONS));
    const measureS = numberOf("--measure", values.measure, SECONDS) ?? (quick ? 1.5 : 5);
    const steps = numberOf("--steps", values.steps, COUNT) ?? (quick ? 3 : 6);
    checkWritable(path.join(folder, "gpu.json"));
    let found: Found | null = null;
    const finish = (): void => {
      if (found === null) return;
      const { measured, scenarios } = found;
      const result: GpuBenchResult = {
        date: new Date().toISOString().slice(0, 10),
        command: `${COMMAND}${args.map((arg) => ` ${arg}`).join("")}`,
        commit: measuredCommit(),
        cpu: cpus()[0]?.model.trim() ?? "unknown",
        cores: availableParallelism(),
        node: process.version,
        ...measured,
      };
      process.stdout.write(`${gpuText(result)}\n`);
      const suffix = quick ? "-quick" : measured.left_out.length > 0 ? "-partial" : "";
      const base = write(result, scenarios, folder, values.name ?? `${result.device.provider}${suffix}`);
      process.stdout.write(`written: ${path.relative(process.cwd(), base)}.json, .html, -SET.scenario.json\n`);
    };
    exitOnSignals(finish);
    try {
      await runGpuBench({
        device,
        allowSoftwareGpu: values["allow-software-gpu"],
        sections,
        warmupS: quick ? 0.5 : 1.5,
        measureS,
        steps,
        say: (line) => void process.stderr.write(`${line}\n`),
        found: (soFar) => {
          found = soFar;
        },
      });
    } finally {
      finish();
    }
    return 0;
  },
);
