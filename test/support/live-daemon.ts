import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pino } from "pino";
import { SlacklineClient } from "slackline-client";
import { loadSettings } from "../../daemon/config/daemon-settings.ts";
import { type Daemon, startDaemon } from "../../daemon/daemon.ts";

/** A model folder to write: file name (`1/model.onnx`, `config.yaml`) to contents. */
export type ModelFiles = Readonly<Record<string, string | Uint8Array>>;

/** A temporary folder that is removed by whoever asked for it. */
export function temporaryFolder(): { readonly dir: string; remove(): void } {
  const dir = mkdtempSync(path.join(os.tmpdir(), "slackline-test-"));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

export function writeModelFiles(repository: string, name: string, files: ModelFiles): void {
  for (const [file, contents] of Object.entries(files)) {
    const full = path.join(repository, name, file);
    mkdirSync(path.dirname(full), { recursive: true });
    writeFileSync(full, contents);
  }
}

export interface LiveDaemon {
  readonly daemon: Daemon;
  readonly target: string;
  readonly client: SlacklineClient;
  /** Lines of the daemon's log, parsed. */
  readonly log: readonly { readonly level: number; readonly msg: string }[];
  stop(): Promise<boolean>;
}

/** Starts a daemon in this process on free ports and waits until it is ready. Profiles are measured briefly and not kept. */
export async function startLiveDaemon(repository: string, flags: readonly string[] = []): Promise<LiveDaemon> {
  const log: { level: number; msg: string }[] = [];
  const logger = pino({ level: "debug" }, { write: (line: string) => log.push(JSON.parse(line)) });
  const cache = temporaryFolder();
  const loaded = loadSettings({
    argv: [
      "--models",
      repository,
      "--grpc-port",
      "0",
      "--http-port",
      "0",
      "--device",
      "cpu",
      "--profile-cache",
      cache.dir,
      ...flags,
    ],
    env: {},
  });
  if (loaded.type !== "serve") throw new Error("not a serve command");
  const daemon = await startDaemon(loaded.settings, logger);
  try {
    await daemon.ready;
  } catch (error) {
    await daemon.stop();
    throw error;
  }
  const target = `127.0.0.1:${daemon.grpcPort}`;
  const client = new SlacklineClient({ target });
  return {
    daemon,
    target,
    client,
    log,
    async stop() {
      client.close();
      const drained = await daemon.stop();
      cache.remove();
      return drained;
    },
  };
}
