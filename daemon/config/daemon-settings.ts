import { accessSync, constants, existsSync, statSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { memoryBytesMax } from "../resources.ts";
import { parseCommandLine } from "./command-line.ts";
import { type DeviceSelection, parseDevices } from "./devices.ts";
import { readEnvironment } from "./environment.ts";
import { ConfigError, type ConfigProblem } from "./problems.ts";
import {
  type ERROR_STYLES,
  environmentName,
  flagName,
  type LOG_FORMATS,
  type LOG_LEVELS,
  type MODEL_CONTROLS,
  SETTING_NAMES,
  SETTINGS,
  SETTINGS_SCHEMA,
  type SHARED_MEMORY_PEERS,
  splitDevices,
  type WrittenSettings,
} from "./settings-table.ts";
import { fileErrorText, readYaml } from "./yaml-file.ts";

export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = (typeof LOG_FORMATS)[number];
export type ModelControl = (typeof MODEL_CONTROLS)[number];
export type ErrorStyle = (typeof ERROR_STYLES)[number];
export type SharedMemoryPeers = (typeof SHARED_MEMORY_PEERS)[number];

/** Settings used when `--config` names no file and one of this name stands in the working folder. */
const CONFIG_FILE_DEFAULT = "slackline.yaml";

const MIB = 1024 * 1024;

export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
  /** Given: clients must show a certificate of one of these authorities. */
  readonly clientCaFile: string | null;
}

export interface TenantSettings {
  readonly weight: number;
  readonly bestEffortDefault: boolean;
}

/** The daemon's settings with every default filled in; paths are absolute. */
export interface DaemonSettings {
  /** File the settings came from; null where none was read. */
  readonly configFile: string | null;
  readonly modelsDir: string;
  readonly host: string;
  /** 0 picks a free port. */
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly tls: TlsFiles | null;
  readonly devices: DeviceSelection;
  readonly allowSoftwareGpu: boolean;
  /** Threads of the CPU standing in as device; null: what event loop and pool leave. */
  readonly laneThreads: number | null;
  /** Cores for CPU replicas; null: decided by what is placed there. */
  readonly poolCores: number | null;
  readonly modelControl: ModelControl;
  /** Under explicit control, what is loaded at start; `*` for all. */
  readonly loadModels: readonly string[];
  readonly repositoryPollMs: number;
  /** For models that state none; null: max(100 ms, 4 · l(1)). */
  readonly sloMsDefault: number | null;
  readonly maxBatchSizeDefault: number;
  /** Limits of one model's queue, unless its own configuration says otherwise. */
  readonly queueItemsMax: number;
  readonly queueBytesMax: number;
  readonly messageBytesMax: number;
  readonly inflightBytesMax: number;
  /** Of cached answers; 0: none are cached. */
  readonly cacheBytesMax: number;
  readonly fairness: boolean;
  /** 0..1. */
  readonly bestEffortShareMin: number;
  readonly tenants: Readonly<Record<string, TenantSettings>>;
  readonly replyMarginMs: number;
  /** null: unlimited. */
  readonly connectionAgeMaxS: number | null;
  readonly errorStyle: ErrorStyle;
  readonly sharedMemoryPeers: SharedMemoryPeers;
  readonly profileCacheDir: string;
  readonly reprofile: boolean;
  readonly decisionLogFile: string | null;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly drainTimeoutMs: number;
  readonly gpuMetricsIntervalMs: number;
  readonly executionTimeoutMs: number;
  readonly loadTimeoutMs: number;
  /** Sentences to log once logging is up. */
  readonly warnings: readonly string[];
}

export interface SettingsSources {
  /** Flags after `slackline serve`. */
  readonly argv?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Working folder against which relative paths are taken; the process's by default. */
  readonly cwd?: string;
}

export type Loaded =
  | { readonly type: "help" }
  | { readonly type: "version" }
  | { readonly type: "serve"; readonly settings: DaemonSettings };

/**
 * Reads flags, environment and settings file (in this order of precedence) and fills in the defaults.
 * Throws one `ConfigError` that lists everything that is wrong in any of the three.
 */
export function loadSettings(sources: SettingsSources = {}): Loaded {
  const cwd = sources.cwd ?? process.cwd();
  const env = sources.env ?? process.env;
  const flags = parseCommandLine(sources.argv ?? []);
  if (flags.type !== "serve") return flags;
  const variables = readEnvironment(env);

  const named = flags.configFile ?? variables.configFile;
  const configFile = named ?? (existsSync(path.resolve(cwd, CONFIG_FILE_DEFAULT)) ? CONFIG_FILE_DEFAULT : null);
  const file = configFile === null ? null : readYaml(path.resolve(cwd, configFile), configFile, SETTINGS_SCHEMA);

  const fileDir = configFile === null ? cwd : path.dirname(path.resolve(cwd, configFile));
  const written: WrittenSettings = {
    ...withPathsFrom(fileDir, file?.value ?? {}),
    ...withPathsFrom(cwd, variables.written),
    ...withPathsFrom(cwd, flags.written),
  };
  const where = (name: keyof WrittenSettings, message: string): ConfigProblem => {
    const bare = { line: null, column: null, message };
    if (flags.written[name] !== undefined) return { ...bare, source: "command line", path: `--${flagName(name)}` };
    if (variables.written[name] !== undefined) return { ...bare, source: "environment", path: environmentName(name) };
    return file?.problemAt([name], message) ?? { ...bare, source: "command line", path: `--${flagName(name)}` };
  };
  const problems = [
    ...(file?.problems ?? []),
    ...variables.problems,
    ...flags.problems,
    ...inconsistencies(written, where),
  ];
  if (problems.length > 0) throw new ConfigError(problems);
  const absolute = configFile === null ? null : path.resolve(cwd, configFile);
  return { type: "serve", settings: fillIn(written, absolute, cwd, env, variables.warnings) };
}

function withPathsFrom(dir: string, written: WrittenSettings): WrittenSettings {
  const resolved: Partial<Record<keyof WrittenSettings, unknown>> = { ...written };
  for (const name of SETTING_NAMES) {
    const value = resolved[name];
    if (SETTINGS[name].isPath && typeof value === "string") resolved[name] = path.resolve(dir, value);
  }
  return resolved as WrittenSettings;
}

/** What only shows when settings are seen together, or on the disk. */
function inconsistencies(
  written: WrittenSettings,
  where: (name: keyof WrittenSettings, message: string) => ConfigProblem,
): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const { tls_cert, tls_key, tls_client_ca } = written;
  if (tls_cert !== undefined && tls_key === undefined) problems.push(where("tls_cert", "needs tls_key too"));
  if (tls_key !== undefined && tls_cert === undefined) problems.push(where("tls_key", "needs tls_cert too"));
  if (tls_client_ca !== undefined && tls_cert === undefined && tls_key === undefined) {
    problems.push(where("tls_client_ca", "needs tls_cert and tls_key too"));
  }
  for (const name of ["tls_cert", "tls_key", "tls_client_ca"] as const) {
    const file = written[name];
    if (file === undefined) continue;
    try {
      accessSync(file, constants.R_OK);
      if (!statSync(file).isFile()) problems.push(where(name, `${file} is not a file`));
    } catch (error) {
      problems.push(where(name, `${file} can't be read: ${fileErrorText(error)}`));
    }
  }
  const { grpc_port, http_port } = written;
  if (grpc_port !== undefined && grpc_port !== 0 && grpc_port === (http_port ?? 8002)) {
    problems.push(where("grpc_port", `is ${grpc_port}, which is the http_port; they must differ`));
  } else if (http_port !== undefined && http_port !== 0 && http_port === (grpc_port ?? 8001)) {
    problems.push(where("http_port", `is ${http_port}, which is the grpc_port; they must differ`));
  }
  if ((written.load_models?.length ?? 0) > 0 && written.model_control !== "explicit") {
    problems.push(where("load_models", "only has a meaning with model_control: explicit"));
  }
  return problems;
}

function fillIn(
  written: WrittenSettings,
  configFile: string | null,
  cwd: string,
  env: Readonly<Record<string, string | undefined>>,
  warnings: readonly string[],
): DaemonSettings {
  const devices = parseDevices(splitDevices(written.device ?? "auto"));
  if (devices !== "auto" && "problem" in devices) throw new Error(`unreachable: ${devices.problem}`);
  const tls =
    written.tls_cert !== undefined && written.tls_key !== undefined
      ? { certFile: written.tls_cert, keyFile: written.tls_key, clientCaFile: written.tls_client_ca ?? null }
      : null;
  const inflightBytesMax = written.inflight_bytes_max ?? Math.max(256 * MIB, Math.floor(memoryBytesMax() / 4));
  const cacheHome = env.XDG_CACHE_HOME || path.join(env.HOME || os.homedir(), ".cache");
  return {
    configFile,
    modelsDir: written.models ?? defaultModelsDir(cwd),
    host: written.host ?? (tls === null ? "127.0.0.1" : "0.0.0.0"),
    grpcPort: written.grpc_port ?? 8001,
    httpPort: written.http_port ?? 8002,
    tls,
    devices,
    allowSoftwareGpu: written.allow_software_gpu ?? false,
    laneThreads: written.lane_threads ?? null,
    poolCores: written.pool_cores ?? null,
    modelControl: written.model_control ?? "none",
    loadModels: written.load_models ?? [],
    repositoryPollMs: written.repository_poll_ms ?? 5000,
    sloMsDefault: written.slo_ms_default ?? null,
    maxBatchSizeDefault: written.max_batch_size_default ?? 32,
    queueItemsMax: written.queue_items_max ?? 16_384,
    queueBytesMax: written.queue_bytes_max ?? inflightBytesMax,
    messageBytesMax: written.message_bytes_max ?? 2_147_483_647,
    inflightBytesMax,
    cacheBytesMax: written.cache_bytes_max ?? 64 * MIB,
    // Without it an overloaded device sheds whichever model is costliest, almost entirely; operators expect all to degrade.
    fairness: written.fairness ?? true,
    bestEffortShareMin: written.best_effort_share_min ?? 0.01,
    tenants: Object.fromEntries(
      Object.entries(written.tenants ?? {}).map(([name, tenant]) => [
        name,
        { weight: tenant.weight ?? 1, bestEffortDefault: tenant.best_effort ?? false },
      ]),
    ),
    replyMarginMs: written.reply_margin_ms ?? 5,
    connectionAgeMaxS: written.connection_age_max_s ?? null,
    errorStyle: written.errors ?? "native",
    sharedMemoryPeers: written.shared_memory_peers ?? "loopback",
    profileCacheDir: written.profile_cache ?? path.resolve(cwd, cacheHome, "slackline", "profiles"),
    reprofile: written.reprofile ?? false,
    decisionLogFile: written.decision_log ?? null,
    logLevel: written.log_level ?? "info",
    logFormat: written.log_format ?? "auto",
    drainTimeoutMs: written.drain_timeout_ms ?? 30_000,
    gpuMetricsIntervalMs: written.gpu_metrics_interval_ms ?? 2000,
    executionTimeoutMs: written.execution_timeout_ms ?? 10_000,
    loadTimeoutMs: written.load_timeout_ms ?? 600_000,
    warnings,
  };
}

/** The checkout's sample repository lies in `models/repository`, beside its generator; elsewhere `models` is the repository. */
function defaultModelsDir(cwd: string): string {
  const samples = path.resolve(cwd, "models", "repository");
  return statSync(samples, { throwIfNoEntry: false })?.isDirectory() ? samples : path.resolve(cwd, "models");
}
