/** A server of the protocol with models that answer at once and always alike, for tests of what calls servers. */
import { Server, ServerCredentials, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import type { GRPCInferenceServiceHandlers } from "../../proto/generated/inference/GRPCInferenceService.ts";
import type { ModelInferRequest__Output } from "../../proto/generated/inference/ModelInferRequest.ts";
import type { ModelInferResponse } from "../../proto/generated/inference/ModelInferResponse.ts";
import { loadProtocol } from "../../proto/load.ts";
import { ERROR_PARAMETERS, TIMING_PARAMETERS } from "../../proto/parameters.ts";

export interface SmallModel {
  readonly maxBatch: number;
  readonly inputs: readonly { readonly name: string; readonly datatype: string; readonly shape: readonly number[] }[];
  /** Whether each request is answered or shed with this cause. */
  readonly shed?: string;
}

export interface SmallServer {
  /** HOST:PORT */
  readonly address: string;
  /** Every inference request that came, in order. */
  readonly requests: readonly ModelInferRequest__Output[];
  /** Calls `fn` once, when this many more requests have come. */
  onceReceived(count: number, fn: () => void): void;
  close(): void;
}

export async function startSmallServer(models: Readonly<Record<string, SmallModel>>): Promise<SmallServer> {
  const requests: ModelInferRequest__Output[] = [];
  const waiting = new Map<number, () => void>();
  const take = (request: ModelInferRequest__Output): void => {
    requests.push(request);
    waiting.get(requests.length)?.();
  };
  const answer = (request: ModelInferRequest__Output): ModelInferResponse => {
    take(request);
    return {
      model_name: request.model_name,
      model_version: "1",
      id: request.id,
      parameters: {
        [TIMING_PARAMETERS.queueUs]: { int64_param: 100 },
        [TIMING_PARAMETERS.executeUs]: { int64_param: 900 },
        [TIMING_PARAMETERS.batchItems]: { int64_param: 2 },
        [TIMING_PARAMETERS.bucket]: { int64_param: 2 },
        [TIMING_PARAMETERS.lane]: { string_param: "cpu0" },
      },
      outputs: [],
      raw_output_contents: [],
    };
  };
  const shed = (request: ModelInferRequest__Output, cause: string) => {
    take(request);
    const parameters = {
      [ERROR_PARAMETERS.code]: { string_param: "DEADLINE_EXCEEDED" },
      [ERROR_PARAMETERS.cause]: { string_param: cause },
    };
    return { error_message: "shed", infer_response: { id: request.id, parameters } };
  };
  const handlers: Partial<GRPCInferenceServiceHandlers> = {
    ServerMetadata: (_, done) => done(null, { name: "small", version: "1", extensions: [] }),
    ModelReady: ({ request }, done) => done(null, { ready: Object.hasOwn(models, request.name) }),
    RepositoryIndex: (_, done) =>
      done(null, { models: Object.keys(models).map((name) => ({ name, version: "1", state: "READY", reason: "" })) }),
    ModelMetadata: ({ request: { name } }, done) =>
      done(null, {
        name,
        versions: ["1"],
        platform: "",
        inputs: models[name]!.inputs.map((input) => ({ ...input, shape: [...input.shape] })),
        outputs: [],
      }),
    ModelConfig: ({ request: { name } }, done) =>
      done(null, { config: { name, max_batch_size: models[name]!.maxBatch } }),
    ModelInfer: ({ request }, done) => done(null, answer(request)),
    ModelStreamInfer: (stream) => {
      stream.on("data", (request: ModelInferRequest__Output) => {
        const cause = models[request.model_name]!.shed;
        stream.write(
          cause === undefined ? { error_message: "", infer_response: answer(request) } : shed(request, cause),
        );
      });
      stream.on("end", () => stream.end());
    },
  };
  const server = new Server();
  const { service } = loadProtocol().inference.GRPCInferenceService;
  const unimplemented = (_: unknown, done?: (error: object) => void): void => done?.({ code: status.UNIMPLEMENTED });
  const all = Object.fromEntries(Object.keys(service).map((name) => [name, unimplemented]));
  server.addService(service, { ...all, ...handlers } as UntypedServiceImplementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    address: `127.0.0.1:${port}`,
    requests,
    onceReceived: (count, fn) => waiting.set(requests.length + count, fn),
    close: () => server.forceShutdown(),
  };
}
