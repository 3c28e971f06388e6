/** `slackline serve`. */

import { EXIT_FAILED, readSettings } from "./command.ts";
import { serveHelp } from "./config/command-line.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import { growFreely } from "./heap.ts";
import { createLogger } from "./logger.ts";

async function main(): Promise<void> {
  const loaded = readSettings(serveHelp);
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

growFreely();
await main();
