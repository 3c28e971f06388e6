/** A real server on a free port with a puppet engine behind it, and a raw grpc-js client before it. */
import { type ClientOptions, credentials, type Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { ModelStatisticsSnapshot, RpcLogger } from "../../daemon/rpc/ports.ts";
import { createRpcServer, type RpcServer } from "../../daemon/rpc/server.ts";
import type { RpcSettings } from "../../daemon/rpc/settings.ts";
import type { GRPCInferenceServiceClient } from "../../proto/generated/inference/GRPCInferenceService.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import type { ModelInferResponse__Output } from "../../proto/generated/inference/ModelInferResponse.ts";
import { loadProtocol } from "../../proto/load.ts";
import { FakeCatalog } from "./models.ts";
import { PuppetInference } from "./puppet-inference.ts";

export const protocol: ReturnType<typeof loadProtocol> = loadProtocol();

export interface Harness {
  readonly server: RpcServer;
  readonly client: GRPCInferenceServiceClient;
  readonly address: string;
  readonly inference: PuppetInference;
  readonly catalog: FakeCatalog;
  /** Messages logged as errors. */
  readonly logged: { readonly details: object; readonly message: string }[];
  readonly refusals: string[];
  readonly fallbacks: string[];
  readonly warnings: string[];
  readonly statistics: Map<string, ModelStatisticsSnapshot>;
  stop(): Promise<void>;
}

export async function startServer(settings: Partial<RpcSettings> = {}, options: ClientOptions = {}): Promise<Harness> {
  const inference = new PuppetInference();
  const catalog = new FakeCatalog();
  const logged: { details: object; message: string }[] = [];
  const refusals: string[] = [];
  const fallbacks: string[] = [];
  const warnings: string[] = [];
  const statistics = new Map<string, ModelStatisticsSnapshot>();
  const quiet = () => {};
  const logger: RpcLogger = {
    debug: quiet,
    info: quiet,
    warn: (_details, message) => warnings.push(message),
    error: (details, message) => logged.push({ details, message }),
  };
  const server = createRpcServer({
    inference,
    idleUs: () => performance.nodeTiming.idleTime * 1000,
    catalog,
    statistics: { statistics: (key) => statistics.get(key) ?? null },
    settings: { port: 0, serverVersion: "1.2.3", ...settings },
    logger,
    observer: {
      refused: (model, code, cause) => refusals.push(`${model ?? "-"} ${code} ${cause}`),
      fellBack: ({ model, cause }, end) => fallbacks.push(`${model} ${cause} ${end}`),
    },
  });
  const { port } = await server.start();
  const address = `127.0.0.1:${port}`;
  const client = new protocol.inference.GRPCInferenceService(address, credentials.createInsecure(), options);
  const stop = async () => {
    client.close();
    await server.stop(200);
  };
  return { server, client, address, inference, catalog, logged, refusals, fallbacks, warnings, statistics, stop };
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly trailers: Metadata;
}

export type InferResult = { readonly response: ModelInferResponse__Output } | { readonly failure: Failure };

/** One unary inference; never rejects. */
export function infer(
  client: GRPCInferenceServiceClient,
  request: ModelInferRequest,
  deadlineMs?: number,
): Promise<InferResult> {
  return new Promise((resolve) => {
    const options = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
    client.ModelInfer(request, options, (error, response) => {
      if (error) resolve({ failure: failureOf(error) });
      else resolve({ response: response as ModelInferResponse__Output });
    });
  });
}

export function failureOf(error: ServiceError): Failure {
  return { code: status[error.code]!, message: error.details, trailers: error.metadata };
}

export function answered(result: InferResult): ModelInferResponse__Output {
  if ("failure" in result) throw new Error(`${result.failure.code}: ${result.failure.message}`);
  return result.response;
}

export function failed(result: InferResult): Failure {
  if ("response" in result) throw new Error("the request was answered");
  return result.failure;
}

/** Little-endian bytes of float32 values. */
export function floats(...values: number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer);
}

/** A valid request of the model `vector`. */
export function vectorRequest(overrides: Partial<ModelInferRequest> = {}): ModelInferRequest {
  return {
    model_name: "vector",
    id: "r1",
    inputs: [{ name: "x", datatype: "FP32", shape: [1, 4] }],
    raw_input_contents: [floats(1, 2, 3, 4)],
    ...overrides,
  };
}
