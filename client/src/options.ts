/** Options of the client, and the same with every default filled in. */
import { type ChannelCredentials, type ChannelOptions, credentials, Metadata } from "@grpc/grpc-js";
import { invalidArgument } from "./errors.ts";
import { TENANT_METADATA } from "./generated/parameters.ts";

/** How requests travel: over a few long-lived streams, or as a call of their own each. */
export type Transport = "stream" | "unary";

export interface SlacklineClientOptions {
  /** `host:port`, or a gRPC name such as `dns:///daemons.internal:8001`, whose addresses then share the requests. */
  readonly target?: string;
  /** Several daemons that serve the same models; requests go to the one with the fewest outstanding. */
  readonly targets?: readonly string[];
  /** Default: no TLS. `credentials.createSsl(…)` of @grpc/grpc-js otherwise. */
  readonly credentials?: ChannelCredentials;
  /** Default `stream`, which costs a fraction of the CPU per request; servers without ModelStreamInfer get unary calls. */
  readonly transport?: Transport;
  /** Streams per target; default 2, and 4 where a target may resolve to several addresses. */
  readonly streams?: number;
  /** Whether a request is tried again, while its deadline leaves time, on another daemon when shed, and once when its lane was lost; default true. */
  readonly retry?: boolean;
  /** Deadline of requests that state none, in milliseconds from the call; default none (the daemon then applies the model's SLO). */
  readonly deadlineMs?: number;
  /** How long before its deadline an answer should be ready at the daemon, for its way back, in milliseconds; default 2. */
  readonly replyMarginMs?: number;
  /** How long after its deadline an answer that is on its way is still taken, in milliseconds; default 50. */
  readonly graceMs?: number;
  /** How long a request without a deadline waits for a connection, or for a daemon that is starting, in milliseconds; default 10,000. */
  readonly connectTimeoutMs?: number;
  /**
   * Requests that may wait in this process for a connection or for room on a stream, where 1,024 to 3,072 may be outstanding; default 10,000
   * of each kind: with a deadline, without one, best effort.
   */
  readonly queueMax?: number;
  /** On whose behalf, where the daemon shares capacity among tenants. */
  readonly tenant?: string;
  /** Sent with every call and stream. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Compresses requests; worth it only on slow networks. Default none. */
  readonly compression?: "none" | "gzip" | "deflate";
  /**
   * `auto` (the default): large numeric tensors pass through system shared memory where a target is on this host's loopback interface and
   * its daemon sees the same `/dev/shm`; nothing else changes. `off`: everything travels in messages.
   */
  readonly sharedMemory?: "auto" | "off";
  /** Largest amount of shared memory to use for each target, in bytes; default 64 MiB, and never more than a quarter of what is free at a time. */
  readonly sharedMemoryBytesMax?: number;
  /** gRPC channel options that override the client's own. */
  readonly channelOptions?: ChannelOptions;
}

export interface CompiledOptions {
  readonly targets: readonly string[];
  readonly credentials: ChannelCredentials;
  readonly transport: Transport;
  readonly streams: number | null;
  readonly retry: boolean;
  readonly deadlineMs: number | null;
  readonly replyMarginMs: number;
  readonly graceMs: number;
  readonly connectTimeoutMs: number;
  readonly queueMax: number;
  readonly tenant: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** 0: no shared memory. */
  readonly sharedMemoryBytesMax: number;
  readonly channelOptions: ChannelOptions;
}

/** Numbers by which gRPC names its compression algorithms. */
const COMPRESSION = { none: 0, deflate: 1, gzip: 2 } as const;

const DEFAULT_CHANNEL_OPTIONS: ChannelOptions = {
  // The daemon limits sizes; tensors are often larger than gRPC's default of 4 MiB.
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  // The client sends again by itself, knowing deadlines; gRPC's own retries would only keep copies.
  "grpc.enable_retries": 0,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 5_000,
  // A host that vanished without closing its connections is noticed within 40 s.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // Twice HTTP/2's default. More makes large unary answers slower on a near network (600 KB: a third fewer a second at 4 MiB), where
  // the pieces of several interleave; over a far one, whose round trips this costs, callers raise it.
  "grpc-node.flow_control_window": 128 * 1024,
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
};

function positive(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (typeof value !== "number" || !(value >= 0)) throw invalidArgument(`${name} must be a number >= 0, got ${value}`);
  return value;
}

/** Throws INVALID_ARGUMENT. */
export function checkDeadline(deadlineMs: number | undefined): number | null {
  if (deadlineMs === undefined) return null;
  if (typeof deadlineMs !== "number" || !(deadlineMs > 0)) {
    throw invalidArgument(`deadlineMs must be a number of milliseconds > 0, got ${deadlineMs}`);
  }
  return Number.isFinite(deadlineMs) ? deadlineMs : null;
}

const GRPC_NAME = /^(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):/;
const HOST_AND_PORT = /^(\[[^\]]+\]|[^:[\]]+):\d{1,5}$/;

/** Fills in defaults; throws INVALID_ARGUMENT. */
export function compileOptions(options: SlacklineClientOptions): CompiledOptions {
  const targets = [...(options.targets ?? []), ...(options.target === undefined ? [] : [options.target])];
  if (targets.length === 0 || targets.some((target) => typeof target !== "string" || target === "")) {
    throw invalidArgument('a client needs `target` (such as "localhost:8001") or `targets`');
  }
  const url = targets.find((target) => /^(https?|grpcs?):/.test(target));
  if (url !== undefined) {
    throw invalidArgument(
      `target "${url}" is a URL; a target is HOST:PORT, such as "localhost:8001", or a gRPC name such as "dns:///HOST:PORT" ` +
        "(TLS is asked for by `credentials`)",
    );
  }
  const portless = targets.find((target) => !GRPC_NAME.test(target) && !HOST_AND_PORT.test(target));
  if (portless !== undefined) {
    // gRPC would take port 443, whatever the credentials are.
    throw invalidArgument(`target "${portless}" is not HOST:PORT, such as "localhost:8001" or "[::1]:8001"`);
  }
  const transport = options.transport ?? "stream";
  if (transport !== "stream" && transport !== "unary") {
    throw invalidArgument(`transport must be "stream" or "unary", got ${JSON.stringify(transport)}`);
  }
  const { streams, sharedMemory = "auto" } = options;
  if (sharedMemory !== "auto" && sharedMemory !== "off") {
    throw invalidArgument(`sharedMemory must be "auto" or "off", got ${JSON.stringify(sharedMemory)}`);
  }
  if (streams !== undefined && !(Number.isInteger(streams) && streams > 0)) {
    throw invalidArgument(`streams must be a whole number > 0, got ${streams}`);
  }
  return {
    targets: [...new Set(targets)],
    credentials: options.credentials ?? credentials.createInsecure(),
    transport,
    streams: streams ?? null,
    retry: options.retry ?? true,
    deadlineMs: checkDeadline(options.deadlineMs),
    replyMarginMs: positive("replyMarginMs", options.replyMarginMs, 2),
    graceMs: positive("graceMs", options.graceMs, 50),
    connectTimeoutMs: positive("connectTimeoutMs", options.connectTimeoutMs, 10_000),
    queueMax: positive("queueMax", options.queueMax, 10_000),
    tenant: options.tenant ?? "",
    metadata: options.metadata ?? {},
    sharedMemoryBytesMax:
      sharedMemory === "off" ? 0 : positive("sharedMemoryBytesMax", options.sharedMemoryBytesMax, 64 * 1024 * 1024),
    channelOptions: {
      ...DEFAULT_CHANNEL_OPTIONS,
      "grpc.default_compression_algorithm": COMPRESSION[options.compression ?? "none"],
      ...options.channelOptions,
    },
  };
}

/** Whether a target's name may stand for several addresses, among which gRPC distributes calls and streams. */
export function mayBeSeveral(target: string): boolean {
  return /^dns:/.test(target) || target.includes(",");
}

const METADATA_KEY = /^[0-9a-z_.-]+$/i;
const PRINTABLE_ASCII = /^[ -~]*$/;

function isMetadataValue(value: unknown): boolean {
  return typeof value === "string" && PRINTABLE_ASCII.test(value);
}

/** gRPC metadata of calls and streams; throws INVALID_ARGUMENT. */
export function buildMetadata(tenant: string, ...parts: readonly Readonly<Record<string, string>>[]): Metadata {
  if (!isMetadataValue(tenant)) {
    const got = typeof tenant === "string" ? `"${tenant}"` : typeof tenant;
    throw invalidArgument(`tenant must be a string of printable ASCII characters, got ${got}`);
  }
  const metadata = new Metadata();
  for (const part of parts) {
    for (const [key, value] of Object.entries(part)) {
      if (!METADATA_KEY.test(key) || /-bin$/i.test(key)) {
        const allowed = 'made of a to z, 0 to 9, "_", "." and "-", and not end with "-bin"';
        throw invalidArgument(`metadata key "${key}" can't be sent: keys must be ${allowed}`);
      }
      // Values may be secrets, so that messages don't show them.
      if (!isMetadataValue(value)) {
        throw invalidArgument(`metadata "${key}" must be a string of printable ASCII characters`);
      }
      metadata.set(key, value);
    }
  }
  if (tenant !== "") metadata.set(TENANT_METADATA, tenant);
  return metadata;
}
