/**
 * Every setting of the daemon, once: its name in `slackline.yaml`, what is allowed, and what it does. The environment
 * variable (`SLACKLINE_` and the name in capitals), the flag (`--` and the name with dashes) and the help text follow.
 */
import { z } from "zod";
import { boolean, integer, number, oneOf, positive, text } from "./allowed.ts";
import { DEVICES_ALLOWED, parseDevices } from "./devices.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export const LOG_FORMATS = ["auto", "json", "pretty"] as const;
export const MODEL_CONTROLS = ["none", "poll", "explicit"] as const;
export const ERROR_STYLES = ["native", "triton"] as const;
export const SHARED_MEMORY_PEERS = ["loopback", "any", "none"] as const;

/** A cache that is smaller has room for next to no answer. */
const CACHE_BYTES_MIN = 1024 * 1024;

/** Settings as written, before defaults. */
export interface WrittenSettings {
  readonly models?: string;
  readonly host?: string;
  readonly grpc_port?: number;
  readonly http_port?: number;
  readonly tls_cert?: string;
  readonly tls_key?: string;
  readonly tls_client_ca?: string;
  readonly device?: string | readonly string[];
  readonly allow_software_gpu?: boolean;
  readonly lane_threads?: number;
  readonly pool_cores?: number;
  readonly model_control?: (typeof MODEL_CONTROLS)[number];
  readonly load_models?: readonly string[];
  readonly repository_poll_ms?: number;
  readonly slo_ms_default?: number;
  readonly max_batch_size_default?: number;
  readonly queue_items_max?: number;
  readonly queue_bytes_max?: number;
  readonly message_bytes_max?: number;
  readonly inflight_bytes_max?: number;
  readonly cache_bytes_max?: number;
  readonly fairness?: boolean;
  readonly best_effort_share_min?: number;
  readonly tenants?: Readonly<Record<string, WrittenTenant>>;
  readonly reply_margin_ms?: number;
  readonly connection_age_max_s?: number;
  readonly errors?: (typeof ERROR_STYLES)[number];
  readonly shared_memory_peers?: (typeof SHARED_MEMORY_PEERS)[number];
  readonly profile_cache?: string;
  readonly reprofile?: boolean;
  readonly decision_log?: string;
  readonly log_level?: (typeof LOG_LEVELS)[number];
  readonly log_format?: (typeof LOG_FORMATS)[number];
  readonly drain_timeout_ms?: number;
  readonly gpu_metrics_interval_ms?: number;
  readonly execution_timeout_ms?: number;
  readonly load_timeout_ms?: number;
}

export interface WrittenTenant {
  readonly weight?: number;
  readonly best_effort?: boolean;
}

export type SettingName = keyof WrittenSettings;

export interface Setting<T> {
  readonly schema: z.ZodType<T>;
  /** How text from the environment or a flag is read before the schema sees it. */
  readonly reads: "text" | "number" | "boolean" | "list" | "mapping";
  /** Placeholder in the help text. */
  readonly value: string;
  /** The default, in words. */
  readonly byDefault: string;
  readonly what: string;
  /** Files and folders: relative to the file they are written in, or to the working folder. */
  readonly isPath?: true;
}

type SettingsTable = { readonly [K in SettingName]-?: Setting<NonNullable<WrittenSettings[K]>> };

const names = z.array(text("a model's name"), { error: "a list of models' names" });

/** Checked here so that a bad list is one problem with its sentence. */
const deviceList: z.ZodType<string | readonly string[]> = z
  .union([z.string(), z.array(z.string())], { error: DEVICES_ALLOWED })
  .superRefine((written, context) => {
    const parsed = parseDevices(splitDevices(written));
    if (parsed !== "auto" && "problem" in parsed) context.addIssue({ code: "custom", message: parsed.problem });
  });

/** A list written as one text (`cuda:0,cuda:1`) or as a list. */
export function splitDevices(written: string | readonly string[]): string[] {
  const parts = typeof written === "string" ? written.split(",") : written;
  return parts.map((part) => part.trim().toLowerCase());
}

export const SETTINGS: SettingsTable = {
  models: {
    schema: text("a folder"),
    reads: "text",
    value: "DIR",
    byDefault: "models/repository if there is one, else models",
    what: "model repository: MODEL/VERSION/model.onnx",
    isPath: true,
  },
  host: {
    schema: text("an address or host name"),
    reads: "text",
    value: "HOST",
    byDefault: "127.0.0.1; 0.0.0.0 with TLS",
    what: "address to listen on",
  },
  grpc_port: {
    schema: integer(0, 65535),
    reads: "number",
    value: "PORT",
    byDefault: "8001",
    what: "gRPC port; 0 picks a free one",
  },
  http_port: {
    schema: integer(0, 65535),
    reads: "number",
    value: "PORT",
    byDefault: "8002",
    what: "HTTP port (health, metrics, status); 0 picks a free one",
  },
  tls_cert: {
    schema: text("a PEM file"),
    reads: "text",
    value: "FILE",
    byDefault: "no TLS",
    what: "certificate chain (PEM)",
    isPath: true,
  },
  tls_key: {
    schema: text("a PEM file"),
    reads: "text",
    value: "FILE",
    byDefault: "no TLS",
    what: "private key (PEM)",
    isPath: true,
  },
  tls_client_ca: {
    schema: text("a PEM file"),
    reads: "text",
    value: "FILE",
    byDefault: "clients need no certificate",
    what: "authorities whose client certificates are accepted, and then required",
    isPath: true,
  },
  device: {
    schema: deviceList,
    reads: "text",
    value: "NAMES",
    byDefault: "auto",
    what: "auto, cpu, webgpu, cuda, or a list such as cuda:0,cuda:1",
  },
  allow_software_gpu: {
    schema: boolean(),
    reads: "boolean",
    value: "",
    byDefault: "false",
    what: "let webgpu use an adapter that is emulated in software (for tests)",
  },
  lane_threads: {
    schema: integer(1, 1024),
    reads: "number",
    value: "N",
    byDefault: "the cores left by event loop and pool",
    what: "threads of the CPU standing in as device",
  },
  pool_cores: {
    schema: integer(0, 1024),
    reads: "number",
    value: "N",
    byDefault: "decided by what is placed on CPU",
    what: "cores for CPU replicas; 0 for none: models with device: cpu can't be served then",
  },
  model_control: {
    schema: oneOf(MODEL_CONTROLS),
    reads: "text",
    value: "MODE",
    byDefault: "none",
    what: "none: load all once; poll: follow the folder; explicit: load and unload by request",
  },
  load_models: {
    schema: names,
    reads: "list",
    value: "A,B",
    byDefault: "none",
    what: "models to load at start under explicit control; * for all",
  },
  repository_poll_ms: {
    schema: integer(100, 86_400_000),
    reads: "number",
    value: "MS",
    byDefault: "5000",
    what: "time between looks at the repository under poll control",
  },
  slo_ms_default: {
    schema: positive(86_400_000),
    reads: "number",
    value: "MS",
    byDefault: "max(100, 4 times the execution time of one item)",
    what: "SLO of models whose config.yaml states none",
  },
  max_batch_size_default: {
    schema: integer(1, 65_536),
    reads: "number",
    value: "N",
    byDefault: "32",
    what: "largest batch of batched models whose config.yaml states none",
  },
  queue_items_max: {
    schema: integer(1),
    reads: "number",
    value: "N",
    byDefault: "16384",
    what: "items that may wait per model, where its config.yaml says nothing else",
  },
  queue_bytes_max: {
    schema: integer(1),
    reads: "number",
    value: "N",
    byDefault: "inflight_bytes_max",
    what: "bytes that may wait per model, where its config.yaml says nothing else",
  },
  message_bytes_max: {
    schema: integer(1024, 2_147_483_647),
    reads: "number",
    value: "N",
    byDefault: "2147483647",
    what: "largest gRPC message that is received, decompressed; at most inflight_bytes_max",
  },
  inflight_bytes_max: {
    schema: integer(1024 * 1024),
    reads: "number",
    value: "N",
    byDefault: "a quarter of the memory",
    what: "bytes of all requests that are in the daemon at a time, and again of all answers that callers have not read",
  },
  cache_bytes_max: {
    schema: z.union([z.literal(0), integer(CACHE_BYTES_MIN)], {
      error: `0, or an integer, at least ${CACHE_BYTES_MIN}`,
    }),
    reads: "number",
    value: "N",
    byDefault: "67108864",
    what: "memory for the cached answers of all models with cache: true together; 0: none are cached",
  },
  fairness: {
    schema: boolean(),
    reads: "boolean",
    value: "",
    byDefault: "true",
    what: "under overload, raise the weight of models that miss more than others",
  },
  best_effort_share_min: {
    schema: number(0, 1),
    reads: "number",
    value: "SHARE",
    byDefault: "0.01",
    what: "share of device time that queued best-effort work gets at least",
  },
  tenants: {
    schema: z.record(
      z.string().regex(/^[\x21-\x7e]{1,128}$/, { error: "a tenant's name is 1 to 128 visible ASCII characters" }),
      z.strictObject(
        { weight: positive(1_000_000).optional(), best_effort: boolean().optional() },
        { error: "weight and best_effort" },
      ),
      { error: "tenants by name" },
    ) as z.ZodType<Readonly<Record<string, WrittenTenant>>>,
    reads: "mapping",
    value: "YAML",
    byDefault: "weight 1 for all",
    what: "by tenant: weight, and whether its requests are best-effort by default",
  },
  reply_margin_ms: {
    schema: number(0, 60_000),
    reads: "number",
    value: "MS",
    byDefault: "5",
    what: "how long before a caller's gRPC deadline the answer must be ready",
  },
  connection_age_max_s: {
    schema: integer(1, 86_400),
    reads: "number",
    value: "S",
    byDefault: "unlimited",
    what: "age at which a connection takes no more calls, so that callers look their target up again; calls on it are answered, streams last as long as their callers keep them",
  },
  errors: {
    schema: oneOf(ERROR_STYLES),
    reads: "text",
    value: "STYLE",
    byDefault: "native",
    what: "gRPC status codes: native, or as Triton maps them",
  },
  shared_memory_peers: {
    schema: oneOf(SHARED_MEMORY_PEERS),
    reads: "text",
    value: "PEERS",
    byDefault: "loopback",
    what: "who may use system shared memory: callers over the loopback, any (containers that share it), or none (behind a proxy on this host, whose callers all come over the loopback)",
  },
  profile_cache: {
    schema: text("a folder"),
    reads: "text",
    value: "DIR",
    byDefault: "slackline/profiles in the user's cache folder",
    what: "where measured profiles are kept",
    isPath: true,
  },
  reprofile: {
    schema: boolean(),
    reads: "boolean",
    value: "",
    byDefault: "false",
    what: "measure all profiles anew",
  },
  decision_log: {
    schema: text("a file"),
    reads: "text",
    value: "FILE",
    byDefault: "none",
    what: "write every scheduling decision to this file as JSON lines",
    isPath: true,
  },
  log_level: {
    schema: oneOf(LOG_LEVELS),
    reads: "text",
    value: "LEVEL",
    byDefault: "info",
    what: LOG_LEVELS.join(", "),
  },
  log_format: {
    schema: oneOf(LOG_FORMATS),
    reads: "text",
    value: "FORMAT",
    byDefault: "auto: pretty on a terminal, else json",
    what: LOG_FORMATS.join(", "),
  },
  drain_timeout_ms: {
    schema: integer(0, 86_400_000),
    reads: "number",
    value: "MS",
    byDefault: "30000",
    what: "how long a stopping daemon waits for accepted requests and for their answers to be read, and a version that is unloaded for its queue",
  },
  gpu_metrics_interval_ms: {
    schema: integer(100, 3_600_000),
    reads: "number",
    value: "MS",
    byDefault: "2000",
    what: "time between looks at nvidia-smi, where there is one",
  },
  execution_timeout_ms: {
    schema: integer(1, 86_400_000),
    reads: "number",
    value: "MS",
    byDefault: "10000",
    what: "a lane whose batch takes longer than this and 20 times its prediction is hung: it is started again",
  },
  load_timeout_ms: {
    schema: integer(1, 86_400_000),
    reads: "number",
    value: "MS",
    byDefault: "600000",
    what: "a lane that is silent for so long while it loads a model is hung; each trial run is a sign of life",
  },
};

export const SETTING_NAMES: readonly SettingName[] = Object.keys(SETTINGS) as SettingName[];

export const SETTINGS_SCHEMA: z.ZodType<WrittenSettings> = z.strictObject(
  Object.fromEntries(SETTING_NAMES.map((name) => [name, SETTINGS[name].schema.optional()])),
) as z.ZodType<WrittenSettings>;

export function environmentName(name: SettingName): string {
  return `SLACKLINE_${name.toUpperCase()}`;
}

export function flagName(name: SettingName): string {
  return name.replaceAll("_", "-");
}
