/** `slackline serve`. */

import { serveHelp } from "./config/command-line.ts";
import { type DaemonSettings, loadSettings } from "./config/daemon-settings.ts";
import { ConfigError } from "./config/problems.ts";
import { type Daemon, startDaemon, VERSION } from "./daemon.ts";
import { growFreely } from "./heap.ts";
import { createLogger } from "./logger.ts";

const EXIT_FAILED = 1;
const EXIT_BAD_SETTINGS = 2;

async function main(): Promise<void> {
  const loaded = readSettings();
  if (loaded === null) return;
  const logger = createLogger(loaded.logLevel, loaded.logFormat);
  // A signal during the start ends the process as soon as there is something to end.
  let signalled = false;
  let daemon: Daemon | null = null;
  const stop = async (signal: string): Promise<void> => {
    if (signalled) return;
    signalled = true;
    logger.info(`${signal}: answering what was accepted, then ending`);
    if (daemon === null) process.exit(0);
    process.exitCode = (await daemon.stop()) ? 0 : EXIT_FAILED;
    process.exit();
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stop(signal));
  try {
    daemon = await startDaemon(loaded, logger);
    await daemon.ready;
    if (!signalled) {
      process.stdout.write(`ready grpc=${loaded.host}:${daemon.grpcPort} http=${loaded.host}:${daemon.httpPort}\n`);
    }
  } catch (error) {
    if (signalled) return;
    process.stderr.write(`slackline: ${(error as Error).message}\n`);
    await daemon?.stop();
    process.exit(EXIT_FAILED);
  }
}

function readSettings(): DaemonSettings | null {
  try {
    const loaded = loadSettings({ argv: process.argv.slice(2) });
    if (loaded.type === "serve") return loaded.settings;
    process.stdout.write(loaded.type === "help" ? serveHelp() : `slackline ${VERSION}\n`);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`slackline: ${error.message}\n`);
    process.exitCode = EXIT_BAD_SETTINGS;
  }
  return null;
}

growFreely();
await main();
