/** `slackline check`: loads a repository as `slackline serve` does, says which models can be served and which can't, and ends. */
import { EXIT_FAILED, readSettings } from "./command.ts";
import { checkHelp } from "./config/command-line.ts";
import type { DaemonSettings } from "./config/daemon-settings.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import { growFreely } from "./heap.ts";
import { createLogger } from "./logger.ts";
import { NOT_LOADED } from "./repository/model-repository.ts";
import type { ModelStatus } from "./status.ts";

/** Beside a daemon that serves, out of reach for callers, and with all models under explicit control too. */
function forCheck(settings: DaemonSettings): DaemonSettings {
  const { modelControl, loadModels } = settings;
  return {
    ...settings,
    host: "127.0.0.1",
    grpcPort: 0,
    httpPort: 0,
    decisionLogFile: null,
    modelControl: modelControl === "poll" ? "none" : modelControl,
    loadModels: modelControl === "explicit" && loadModels.length === 0 ? ["*"] : loadModels,
  };
}

async function main(): Promise<void> {
  const settings = readSettings(checkHelp);
  if (settings === null) return;
  // Whoever read the list may have seen enough; the exit code still says how it went.
  process.stdout.on("error", () => {});
  let daemon: Daemon | null = null;
  try {
    daemon = await startDaemon(forCheck(settings), createLogger(settings.logLevel, settings.logFormat));
    // Where it fails since none can be served, the list says why.
    await daemon.ready.catch(() => undefined);
    const models = daemon.status().models.filter(({ reason }) => reason !== NOT_LOADED);
    // A daemon under explicit control waits for models that are not there yet; who asks for a check means one that is.
    const unknown = settings.loadModels.filter((asked) => asked !== "*" && !models.some(({ name }) => name === asked));
    const lines = [...models.map(modelLine), ...unknown.map((name) => `${name}: can't be served: no such model`)];
    process.stdout.write(lines.map((line) => `${line}\n`).join(""));
    if (lines.length === 0) {
      await daemon.ready;
      throw new Error(`nothing was checked: there is no model to load in ${settings.modelsDir}`);
    }
    if (unknown.length > 0 || models.some(({ state }) => state !== "READY")) process.exitCode = EXIT_FAILED;
  } catch (error) {
    process.stderr.write(`slackline: ${(error as Error).message}\n`);
    process.exitCode = EXIT_FAILED;
  }
  await daemon?.stop();
  process.exit();
}

function modelLine({ name, version, state, reason, ...model }: ModelStatus): string {
  const key = version === null ? name : `${name}/${version}`;
  if (state !== "READY") return `${key}: can't be served: ${reason}`;
  const points = model.profile_ms ?? model.replica_profile_ms ?? [];
  const ends = points.length > 1 ? [points[0]!, points.at(-1)!] : points;
  const times = ends.map(([items, ms]) => `${items} in ${ms} ms`).join(", ");
  const batches =
    model.unbatched_reason === null
      ? `batches of ${model.max_batch} at most`
      : `requests run one by one: ${model.unbatched_reason}`;
  return `${key}: ready on ${model.lanes.join(", ")}: ${times}; SLO ${model.slo_ms} ms; ${batches}`;
}

growFreely();
await main();
