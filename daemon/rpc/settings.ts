/** Settings of the gRPC side with their defaults. */
import type { ErrorStyle } from "./errors.ts";

export interface RpcTls {
  /** PEM. */
  readonly certificateChain: Buffer;
  readonly privateKey: Buffer;
  /** PEM; where given, callers must present a certificate signed by it. */
  readonly clientCa: Buffer | null;
}

export interface RpcSettings {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly tls: RpcTls | null;
  /** Largest request that is received; none is that exceeds `inflightBytesMax`. */
  readonly messageBytesMax: number;
  /**
   * Requests held at once, in bytes of their messages and what reading them takes besides; those beyond it are refused. As many
   * bytes again of answers that were not read; answers beyond it are dropped.
   */
  readonly inflightBytesMax: number;
  /** Requests of one stream that may be unanswered; beyond it further ones are refused. */
  readonly streamRequestsMax: number;
  /** Answers of one stream that its reader has not taken; beyond it the stream is not read. */
  readonly streamUnreadBytesMax: number;
  /** Calls that one connection may have open at once. */
  readonly connectionCallsMax: number;
  /** Age at which a connection takes no more calls, within a tenth; null: unlimited. Calls on it go on for as long as they last. */
  readonly connectionAgeMaxMs: number | null;
  /** A connection's other end is asked so often whether it is there still, and is given up without an answer in time. */
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
  /** What is kept of a caller's gRPC deadline for the answer's way back, microseconds. */
  readonly replyMarginUs: number;
  readonly errors: ErrorStyle;
  /** Tenants whose requests are best-effort work unless they say otherwise. */
  readonly bestEffortTenants: ReadonlySet<string>;
  /** Who may use shared memory: callers on this host's loopback, any (containers that share its memory), or none. */
  readonly sharedMemoryPeers: "loopback" | "any" | "none";
  readonly serverName: string;
  readonly serverVersion: string;
}

/** HTTP/2 message lengths have 32 bits, but 2 GiB − 1 is what clients agree on. */
export const MESSAGE_BYTES_LIMIT: number = 2 ** 31 - 1;

export const DEFAULT_RPC_SETTINGS: RpcSettings = {
  host: "127.0.0.1",
  port: 8001,
  tls: null,
  messageBytesMax: MESSAGE_BYTES_LIMIT,
  inflightBytesMax: 2 ** 30,
  streamRequestsMax: 16_384,
  streamUnreadBytesMax: 32 * 2 ** 20,
  connectionCallsMax: 16_384,
  connectionAgeMaxMs: null,
  keepaliveTimeMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  replyMarginUs: 5_000,
  errors: "native",
  bestEffortTenants: new Set(),
  sharedMemoryPeers: "loopback",
  serverName: "slackline",
  serverVersion: "0.0.0",
};
