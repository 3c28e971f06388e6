/**
 * Measures a live daemon against the project's budgets.
 *
 *     node dist/bench/budgets/main.js [--save] [--only latency,load,gaps,memory,wire]
 *
 * Exit code 0 where everything could be measured, whether the budgets hold or not: on a shared machine they may not.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { DaemonProcess } from "../live/daemon-process.ts";
import { makeSampleModels, SAMPLE_REPOSITORY } from "../live/sample-models.ts";
import { addedLatency } from "./added-latency.ts";
import { type BudgetLine, budgetMarkdown, budgetText } from "./budget.ts";
import { idleGaps, underFullLoad } from "./full-load.ts";
import { idleMemory } from "./memory.ts";
import { wireBudgets } from "./wire.ts";

const SECTIONS = ["latency", "load", "gaps", "memory", "wire"] as const;
type Section = (typeof SECTIONS)[number];

const READY_MS = 180_000;
const RESULTS: string = path.join(PACKAGE_ROOT, "bench", "results");

function sections(only: string | undefined): ReadonlySet<Section> {
  if (only === undefined) return new Set(SECTIONS);
  const asked = only.split(",");
  const unknown = asked.filter((name) => !SECTIONS.some((section) => section === name));
  if (unknown.length > 0) throw new Error(`--only takes some of ${SECTIONS.join(", ")}; not '${unknown.join("', '")}'`);
  return new Set(asked as Section[]);
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

interface Measured {
  readonly lines: readonly BudgetLine[];
  readonly status: DaemonStatus | null;
}

async function measure(wanted: ReadonlySet<Section>): Promise<Measured> {
  const folder = mkdtempSync(path.join(tmpdir(), "slackline-budgets-"));
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

function save({ lines, status }: Measured): string {
  const date = new Date().toISOString().slice(0, 10);
  const machine = {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    node: process.version,
    device: status?.device ?? null,
    commit: commit(),
  };
  mkdirSync(RESULTS, { recursive: true });
  const base = path.join(RESULTS, `${date}-budgets`);
  writeFileSync(
    `${base}.json`,
    `${JSON.stringify({ date, command: "npm run bench:budgets -- --save", machine, lines }, null, 2)}\n`,
  );
  const about = `Measured on ${date} by \`npm run bench:budgets -- --save\` at ${machine.commit}: ${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, device ${status?.device.provider ?? "none"}.`;
  writeFileSync(`${base}.md`, `# Budgets, live\n\n${about}\n\n${budgetMarkdown(lines)}\n`);
  return `${base}.md`;
}

function commit(): string {
  if (!existsSync(path.join(PACKAGE_ROOT, ".git")))
    return JSON.parse(readFileSync(path.join(PACKAGE_ROOT, "package.json"), "utf8")).version;
  return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: PACKAGE_ROOT, encoding: "utf8" }).trim();
}

// Leaving by `exit` takes the daemon along.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));

const { values } = parseArgs({ options: { save: { type: "boolean", default: false }, only: { type: "string" } } });
const measured = await measure(sections(values.only));
process.stdout.write(`${budgetText(measured.lines)}\n`);
if (values.save) process.stdout.write(`written: ${path.relative(process.cwd(), save(measured))}\n`);
