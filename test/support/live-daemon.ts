import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { credentials } from "@grpc/grpc-js";
import { pino } from "pino";
import { SlacklineClient } from "slackline-client";
import { type DaemonSettings, loadSettings } from "../../daemon/config/daemon-settings.ts";
import { type Daemon, type DaemonHooks, startDaemon } from "../../daemon/daemon.ts";
import type { DaemonStatus, ModelStatus } from "../../daemon/status.ts";
import type { GRPCInferenceServiceClient } from "../../proto/generated/inference/GRPCInferenceService.ts";
import { loadProtocol } from "../../proto/load.ts";

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
  /** A bare gRPC client of the service. */
  readonly raw: GRPCInferenceServiceClient;
  readonly settings: DaemonSettings;
  /** Lines of the daemon's log, parsed. */
  readonly log: readonly LogLine[];
  page(path: string): Promise<Response>;
  status(): Promise<DaemonStatus>;
  /** The newest version of a model on the status page. */
  modelStatus(name: string): Promise<ModelStatus>;
  /** Ends the daemon; whether it could answer all that it had accepted. Once ended it stays so. */
  stop(): Promise<boolean>;
}

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [detail: string]: unknown;
}

export const LEVEL: { readonly info: 30; readonly warn: 40; readonly error: 50 } = { info: 30, warn: 40, error: 50 };

const POLL_MS = 5;
const PATIENCE_MS = 60_000;

/** Waits until something has come about; gives up after a minute, saying what. */
export async function until<T>(what: string, look: () => Promise<T | null> | T | null): Promise<NonNullable<T>> {
  const endMs = performance.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined && found !== false) return found as NonNullable<T>;
    if (performance.now() > endMs) throw new Error(`waited a minute in vain until ${what}`);
    await delay(POLL_MS);
  }
}

/** Starts a daemon in this process on free ports and waits until it is ready. Profiles are measured briefly and not kept. */
export async function startLiveDaemon(
  repository: string,
  flags: readonly string[] = [],
  hooks: DaemonHooks = {},
): Promise<LiveDaemon> {
  const log: LogLine[] = [];
  const logger = pino({ level: "debug" }, { write: (line: string) => log.push(JSON.parse(line)) });
  const cache = temporaryFolder();
  const argv = ["--models", repository, "--grpc-port", "0", "--http-port", "0", "--device", "cpu"];
  const loaded = loadSettings({ argv: [...argv, "--profile-cache", cache.dir, ...flags], env: {} });
  if (loaded.type !== "serve") throw new Error("not a serve command");
  const { settings } = loaded;
  const daemon = await startDaemon(settings, logger, hooks);
  try {
    await daemon.ready;
  } catch (error) {
    await daemon.stop();
    throw error;
  }
  const target = `127.0.0.1:${daemon.grpcPort}`;
  const client = new SlacklineClient({ target });
  const raw = new (loadProtocol().inference.GRPCInferenceService)(target, credentials.createInsecure());
  const page = (path: string) => fetch(`http://127.0.0.1:${daemon.httpPort}${path}`);
  const status = async () => (await (await page("/status")).json()) as DaemonStatus;
  let stopped: Promise<boolean> | null = null;
  return {
    daemon,
    target,
    client,
    raw,
    settings,
    log,
    page,
    status,
    async modelStatus(name) {
      const found = (await status()).models.findLast((model) => model.name === name);
      if (found === undefined) throw new Error(`there is no model '${name}'`);
      return found;
    },
    stop() {
      stopped ??= (async () => {
        const drained = await daemon.stop();
        client.close();
        raw.close();
        cache.remove();
        return drained;
      })();
      return stopped;
    },
  };
}
