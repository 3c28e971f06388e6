/**
 * Tries the daemon with clients that nobody here wrote: tritonclient, perf_analyzer, and gRPC's own packages for health
 * checking and reflection, from the Python registry. What can't be had on a machine is skipped, with a sentence.
 *
 *     node dist/test/compat/run.js [--strict] [--kserve] [--no-perf-analyzer]
 *
 * With `--strict`, what is skipped counts as failed. With `--kserve`, KServe's client is installed and tried too.
 */
import path from "node:path";
import { parseArgs } from "node:util";
import { pythonEnvironment } from "../../tools/python/environment.ts";
import { lastLines, runCommand } from "../../tools/python/run-command.ts";
import { Skipped } from "../../tools/python/skipped.ts";
import { temporaryFolder } from "../support/live-daemon.ts";
import { COMPAT_DIR } from "./compat-dir.ts";
import { type DaemonProcess, startDaemonProcess } from "./daemon-process.ts";
import { runPerfAnalyzer } from "./perf-analyzer.ts";
import { installPerfAnalyzer } from "./perf-analyzer-install.ts";
import { writeClientRepository, writeExplicitRepository, writeTritonRepository } from "./repositories.ts";
import { type CheckResult, resultTable } from "./results.ts";

const { values: flags } = parseArgs({
  options: {
    strict: { type: "boolean", default: false },
    kserve: { type: "boolean", default: false },
    "no-perf-analyzer": { type: "boolean", default: false },
  },
});

const SCRIPT_MS_MAX = 180_000;
const results: CheckResult[] = [];
const skipped: string[] = [];

function tell(result: CheckResult): void {
  results.push(result);
  process.stdout.write(`${result.ok ? "ok" : "NOT OK"}  ${result.client}: ${result.what}\n`);
}

/** Runs a part of the tests; what can't be had skips it, anything else is a failure. */
async function part(what: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Skipped) {
      skipped.push(`${what} skipped: ${error.message}`);
      process.stdout.write(`${skipped.at(-1)}\n`);
    } else {
      tell({ client: what, version: "-", what: "runs", ok: false, detail: (error as Error).message });
    }
  }
}

async function runScript(python: string, script: string, target: string): Promise<void> {
  const run = await runCommand(python, [path.join(COMPAT_DIR, script), target], { timeoutMs: SCRIPT_MS_MAX });
  for (const line of run.stdout.split("\n")) if (line.startsWith("{")) tell(JSON.parse(line) as CheckResult);
  if (run.code === 0) return;
  const detail = `exit code ${run.code}\n${lastLines({ ...run, stdout: "" }, 12)}`;
  tell({ client: script, version: "-", what: "runs to its end", ok: false, detail });
}

interface Rig {
  readonly repository: string;
  readonly profiles: string;
  readonly flags?: readonly string[];
}

/** Runs something against a daemon, and checks that the daemon outlives it and ends in order. */
async function withDaemon(rig: Rig, run: (daemon: DaemonProcess) => Promise<void>): Promise<void> {
  const daemon = await startDaemonProcess(rig.repository, rig.profiles, rig.flags);
  try {
    await run(daemon);
  } finally {
    const code = await daemon.stop();
    const detail = code === 0 ? null : `exit code ${code}\n${daemon.warnings().slice(-8).join("\n")}`;
    tell({
      client: "slackline",
      version: "-",
      what: "the daemon answered all and ended in order",
      ok: code === 0,
      detail,
    });
  }
}

function checkWarnings({ warnings }: DaemonProcess): void {
  const wanted = ["max_queue_delay_microseconds", "optimization"];
  const missing = wanted.filter((name) => !warnings().some((message) => message.includes(name)));
  const what = "what has no meaning in config.pbtxt is named in a warning";
  const detail = missing.length === 0 ? null : `no warning names ${missing.join(", ")}:\n${warnings().join("\n")}`;
  tell({ client: "slackline", version: "-", what, ok: missing.length === 0, detail });
}

async function main(): Promise<void> {
  const folder = temporaryFolder();
  const rig = (name: string, ...flags: string[]): Rig => ({
    repository: path.join(folder.dir, name),
    profiles: path.join(folder.dir, "profiles"),
    flags,
  });
  try {
    await part("Client tests", async () => {
      const python = await pythonEnvironment("compat-venv", path.join(COMPAT_DIR, "requirements.txt"));
      const clients = rig("clients");
      await writeClientRepository(clients.repository);
      await withDaemon(clients, async ({ target }) => {
        await runScript(python, "triton_control.py", target);
        await runScript(python, "triton_inference.py", target);
        await runScript(python, "standard_services.py", target);
        if (flags.kserve) {
          await part("KServe's client", async () => {
            const ownPython = await pythonEnvironment(
              "compat-kserve-venv",
              path.join(COMPAT_DIR, "requirements-kserve.txt"),
            );
            await runScript(ownPython, "kserve_client.py", target);
          });
        }
        if (flags["no-perf-analyzer"]) return;
        await part("perf_analyzer", async () => {
          await runPerfAnalyzer(await installPerfAnalyzer(python), target, tell);
        });
      });
      const explicit = rig("explicit", "--model-control", "explicit", "--errors", "triton");
      writeExplicitRepository(explicit.repository);
      await withDaemon(explicit, ({ target }) => runScript(python, "triton_explicit.py", target));
      const triton = rig("triton");
      writeTritonRepository(triton.repository);
      await withDaemon(triton, async (daemon) => {
        await runScript(python, "triton_repository.py", daemon.target);
        checkWarnings(daemon);
      });
    });
  } finally {
    folder.remove();
  }
  const failures = results.filter(({ ok }) => !ok).length;
  if (results.length > 0) {
    const sum = `${results.length - failures} of ${results.length} ok`;
    process.stdout.write(`\n${[resultTable(results), ...skipped, sum].join("\n\n")}\n`);
  }
  process.exitCode = failures > 0 || (flags.strict && skipped.length > 0) ? 1 : 0;
}

await main();
