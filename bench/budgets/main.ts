/** Measures a live daemon against the project's budgets. */
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { exitOnSignals, temporaryFolder } from "../../tools/command-line/clean-up.ts";
import { checkWritable, writeJson, writeText } from "../../tools/command-line/output-file.ts";
import { runTool, someOf } from "../../tools/command-line/run-tool.ts";
import { DaemonProcess } from "../live/daemon-process.ts";
import { makeSampleModels, SAMPLE_REPOSITORY } from "../live/sample-models.ts";
import { measuredCommit } from "../report/commit.ts";
import { addedLatency } from "./added-latency.ts";
import { type BudgetLine, budgetMarkdown, budgetText } from "./budget.ts";
import { idleGaps, underFullLoad } from "./full-load.ts";
import { idleMemory } from "./memory.ts";
import { wireBudgets } from "./wire.ts";

const SECTIONS = ["latency", "load", "gaps", "memory", "wire"] as const;
type Section = (typeof SECTIONS)[number];

const USAGE = `usage: npm run bench:budgets -- [options]

Measures a live daemon on the sample models against the project's budgets.

  --only A,B   some of ${SECTIONS.join(", ")} (default: all)
  --save       writes bench/results/DATE-budgets.json and .md; with --only their names tell of what (DATE-budgets-memory.json)

Exit code 0 where everything could be measured, whether the budgets hold or not: on a shared machine they may not.
`;

const READY_MS = 180_000;
const RESULTS: string = path.join(PACKAGE_ROOT, "bench", "results");

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

interface Measured {
  readonly lines: readonly BudgetLine[];
  readonly status: DaemonStatus | null;
}

async function measure(wanted: ReadonlySet<Section>): Promise<Measured> {
  const folder = temporaryFolder("budgets");
  await makeSampleModels(say);
  const lines: BudgetLine[] = [];
  let status: DaemonStatus | null = null;
  if (wanted.has("memory")) {
    say("memory of an idle daemon");
    lines.push(...(await idleMemory(SAMPLE_REPOSITORY, folder)));
  }
  if (["latency", "load", "gaps"].some((section) => wanted.has(section as Section))) {
    const daemon = await DaemonProcess.start({
      models: SAMPLE_REPOSITORY,
      logFile: path.join(folder, "daemon.log"),
      readyMs: READY_MS,
      onActivity: say,
    });
    try {
      status = await daemon.status();
      if (wanted.has("latency")) {
        say("added latency, model by model");
        lines.push(...(await addedLatency(daemon.grpcAddress, status, onDevice(status))));
      }
      if (wanted.has("gaps")) {
        say("device idle gaps under a backlog");
        lines.push(...(await idleGaps(daemon)));
      }
      if (wanted.has("load")) {
        say("full load");
        lines.push(...(await underFullLoad(daemon)));
      }
    } finally {
      await daemon.stop();
    }
  }
  if (wanted.has("wire")) {
    say("wire: against a bare echo server");
    lines.push(...(await wireBudgets(folder)));
  }
  return { lines, status };
}

function onDevice({ models }: DaemonStatus): { name: string; file: string }[] {
  return models
    .filter(({ state, placement }) => state === "READY" && placement !== "replica")
    .map(({ name, version }) => ({ name, file: path.join(SAMPLE_REPOSITORY, name, String(version), "model.onnx") }));
}

interface Saved {
  readonly date: string;
  /** Path of the files, without extensions. */
  readonly base: string;
  readonly command: string;
}

function save({ lines, status }: Measured, { date, base, command }: Saved): void {
  const machine = {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    node: process.version,
    device: status?.device ?? null,
    commit: measuredCommit(),
  };
  writeJson(`${base}.json`, { date, command, machine, lines });
  const about = `Measured on ${date} by \`${command}\` at ${machine.commit}: ${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, device ${status?.device.provider ?? "none"}.`;
  writeText(`${base}.md`, `# Budgets, live\n\n${about}\n\n${budgetMarkdown(lines)}\n`);
}

await runTool(
  {
    name: "bench:budgets",
    usage: USAGE,
    options: { save: { type: "boolean", default: false }, only: { type: "string" } },
  },
  async ({ values, args }) => {
    const wanted = someOf("--only", values.only, SECTIONS);
    const part = wanted.length === SECTIONS.length ? [] : wanted;
    const date = new Date().toISOString().slice(0, 10);
    const base = path.join(RESULTS, [date, "budgets", ...part].join("-"));
    if (values.save) for (const extension of ["json", "md"]) checkWritable(`${base}.${extension}`);
    exitOnSignals();
    const measured = await measure(new Set(wanted));
    process.stdout.write(`${budgetText(measured.lines)}\n`);
    if (values.save) {
      save(measured, { date, base, command: ["npm run bench:budgets --", ...args].join(" ") });
      process.stdout.write(`written: ${path.relative(process.cwd(), base)}.json, .md\n`);
    }
    return 0;
  },
);
