/** The gRPC server: puts services, health and reflection on one port, drains and stops. */
import { logVerbosity, Server, ServerCredentials, setLogger, setLogVerbosity } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { protoPath as healthProtoPath } from "grpc-health-check";
import { loadProtocol } from "../../proto/load.ts";
import type { Inference } from "../engine/ports.ts";
import { admission } from "./admission.ts";
import { Arrivals } from "./arrivals.ts";
import { ByteBudget } from "./byte-budget.ts";
import { loadCodec } from "./codec.ts";
import { controlHandlers } from "./control-service.ts";
import { eagerWrites, serializeAnswer } from "./eager-writes.ts";
import { Health } from "./health.ts";
import { setHttp2Options } from "./http2-servers.ts";
import { InferenceGateway } from "./inference-gateway.ts";
import type { ModelCatalog, RequestObserver, RpcLogger, StatisticsSource } from "./ports.ts";
import { DEFAULT_RPC_SETTINGS, type RpcSettings, type RpcTls } from "./settings.ts";
import { SharedMemoryRegions } from "./shared-memory.ts";
import { sharedMemoryHandlers } from "./shared-memory-service.ts";
import { InferenceStreams, type StreamCall } from "./stream.ts";
import { EncodedAnswer, type TransportParts, unaryInference } from "./unary.ts";
import { UnreadAnswers } from "./unread-answers.ts";

export interface RpcServerParts {
  readonly inference: Inference;
  /** For how long the process has had nothing to do so far, microseconds. */
  idleUs(): number;
  readonly catalog: ModelCatalog;
  readonly statistics: StatisticsSource;
  /** What is left out has its default. */
  readonly settings: Partial<RpcSettings>;
  readonly logger: RpcLogger;
  readonly observer?: RequestObserver;
}

export interface RpcServer {
  /** Listens; rejects with a sentence when the address can't be had. */
  start(): Promise<{ readonly port: number }>;
  /** What the daemon as a whole, or one model (`ranker`, `ranker/2`), says to health checks. */
  setServing(service: "daemon" | { readonly model: string }, serving: boolean): void;
  /** Refuses new requests and resolves once those under way have been answered and their answers have been taken. */
  drain(): Promise<void>;
  /** Ends streams and connections; what is still open after `graceMs` is cut. */
  stop(graceMs?: number): Promise<void>;
  /** Requests under way, open streams, and bytes of messages held: for metrics and logs. */
  load(): { readonly requests: number; readonly streams: number; readonly bytes: number };
}

const STOP_GRACE_MS = 1000;
const SWEEP_MS = 60_000;

export function createRpcServer(parts: RpcServerParts): RpcServer {
  const settings: RpcSettings = { ...DEFAULT_RPC_SETTINGS, ...parts.settings };
  const { inference, catalog, statistics, logger } = parts;
  routeGrpcLog(logger);
  setHttp2Options();

  const codec = loadCodec();
  const budget = new ByteBudget(settings.inflightBytesMax);
  const regions = new SharedMemoryRegions({ peers: settings.sharedMemoryPeers });
  const sweep = setInterval(() => regions.dropUnused(), SWEEP_MS).unref();
  const observer = parts.observer ?? null;
  const nowUs = () => inference.nowUs();
  const arrivals = new Arrivals(nowUs, () => parts.idleUs());
  const gateway = new InferenceGateway({
    inference,
    catalog,
    codec,
    budget,
    regions,
    arrivals,
    settings,
    logger,
    observer,
  });
  const unread = new UnreadAnswers(settings.inflightBytesMax);
  const transport: TransportParts = { gateway, codec, unread, errors: settings.errors, nowUs };
  const streams = new InferenceStreams(transport, settings);
  const health = new Health();

  const draining = () => gateway.draining;
  const { packageDefinition, inference: protocol } = loadProtocol();
  const { service } = protocol.GRPCInferenceService;
  const server = new Server({
    interceptors: [
      admission(service.ModelInfer.path, { arrivals, errors: settings.errors, observer, nowUs, draining }),
      eagerWrites(service.ModelStreamInfer.path),
    ],
    // Nobody asks for its figures here, and every call pays for them.
    "grpc.enable_channelz": 0,
    // Of a compressed message too, once it is decompressed: one that could never be accepted is not received either.
    "grpc.max_receive_message_length": Math.min(settings.messageBytesMax, settings.inflightBytesMax),
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": settings.connectionCallsMax,
    ...(settings.connectionAgeMaxMs === null ? {} : { "grpc.max_connection_age_ms": settings.connectionAgeMaxMs }),
    "grpc.keepalive_time_ms": settings.keepaliveTimeMs,
    "grpc.keepalive_timeout_ms": settings.keepaliveTimeoutMs,
  });
  const receive = (bytes: Buffer) => bytes;
  server.addService(
    {
      ...service,
      // The hot messages pass grpc-js as bytes; they are decoded and encoded here, once.
      ModelInfer: { ...service.ModelInfer, requestDeserialize: receive, responseSerialize: EncodedAnswer.serialize },
      ModelStreamInfer: {
        ...service.ModelStreamInfer,
        requestDeserialize: receive,
        responseSerialize: serializeAnswer,
      },
    },
    {
      ...controlHandlers({ catalog, statistics, settings, logger, draining }),
      ...sharedMemoryHandlers(regions, settings.errors, logger),
      ModelInfer: unaryInference(transport),
      ModelStreamInfer: (call: StreamCall) => streams.accept(call),
    },
  );
  health.addTo(server);
  new ReflectionService({ ...packageDefinition, ...loadSync(healthProtoPath) }).addToServer(server);

  return {
    start: () => listen(server, settings),
    setServing(what, serving) {
      if (what === "daemon") health.setDaemon(serving);
      else health.setModel(what.model, serving);
    },
    drain() {
      health.drain();
      return gateway.drain().then(() => unread.none());
    },
    stop(graceMs = STOP_GRACE_MS) {
      health.drain();
      void gateway.drain();
      streams.end();
      return shutDown(server, graceMs).finally(() => {
        clearInterval(sweep);
        regions.close();
      });
    },
    load: () => ({ requests: gateway.underWay, streams: streams.size, bytes: budget.held + unread.held }),
  };
}

/** grpc-js writes to stderr by itself, of failures that are reported here as errors anyway. */
function routeGrpcLog(logger: RpcLogger): void {
  const write = (message?: unknown) => logger.debug({ grpc: String(message) }, "grpc-js");
  setLogger({ error: write, info: write, debug: write });
  setLogVerbosity(logVerbosity.ERROR);
}

function listen(server: Server, settings: RpcSettings): Promise<{ readonly port: number }> {
  const { host, port } = settings;
  const address = host.includes(":") && !host.startsWith("[") ? `[${host}]:${port}` : `${host}:${port}`;
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials(settings.tls), (error, bound) => {
      if (error === null) resolve({ port: bound });
      else reject(new Error(listenFailure(host, port, error.message), { cause: error }));
    });
  });
}

function listenFailure(host: string, port: number, reason: string): string {
  if (reason.includes("EADDRINUSE")) {
    return `gRPC port ${port} on ${host} is in use: stop what listens there, or choose another port (0 picks a free one)`;
  }
  if (reason.includes("EACCES"))
    return `gRPC port ${port} on ${host} may not be opened by this user: choose one above 1023`;
  if (reason.includes("EADDRNOTAVAIL")) return `the gRPC address ${host} does not belong to this host`;
  return `gRPC can't listen on ${host}:${port}: ${reason}`;
}

function credentials(tls: RpcTls | null): ServerCredentials {
  if (tls === null) return ServerCredentials.createInsecure();
  const pair = { private_key: tls.privateKey, cert_chain: tls.certificateChain };
  return ServerCredentials.createSsl(tls.clientCa, [pair], tls.clientCa !== null);
}

function shutDown(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.forceShutdown(), graceMs);
    server.tryShutdown(() => {
      clearTimeout(cut);
      resolve();
    });
  });
}
