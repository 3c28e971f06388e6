/**
 * A server that speaks the protocol through proto-loader's generic codec, so that the client's own codec meets another. It echoes
 * inputs as outputs and misbehaves as told.
 */
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceError,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import type { InferParameter } from "../../proto/generated/inference/InferParameter.ts";
import type { ModelConfig } from "../../proto/generated/inference/ModelConfig.ts";
import type {
  ModelInferRequest,
  ModelInferRequest__Output,
} from "../../proto/generated/inference/ModelInferRequest.ts";
import type {
  ModelInferResponse,
  ModelInferResponse__Output,
} from "../../proto/generated/inference/ModelInferResponse.ts";
import type { ModelMetadataResponse } from "../../proto/generated/inference/ModelMetadataResponse.ts";
import type { ModelStreamInferResponse } from "../../proto/generated/inference/ModelStreamInferResponse.ts";
import { loadProtocol, type Protocol } from "../../proto/load.ts";
import { SHARED_MEMORY_EXTENSION } from "../../proto/parameters.ts";
import { type FakeRegions, RegionGone } from "./fake-regions.ts";

type Unary = ServerUnaryCall<ModelInferRequest__Output, ModelInferResponse>;
export type FakeStream = ServerDuplexStream<ModelInferRequest__Output, ModelStreamInferResponse>;

/** How the fake answers a request. */
export type Behaviour =
  | { readonly type: "echo"; readonly parameters?: Record<string, InferParameter> }
  | { readonly type: "answer"; readonly response: ModelInferResponse }
  | {
      readonly type: "error";
      readonly code: keyof typeof status;
      readonly message: string;
      readonly cause?: string;
      readonly retryAfterMs?: number;
    }
  /** Never answered, unless `release` is called. */
  | { readonly type: "hold" }
  /** The whole stream ends with this status; a unary call alone does. */
  | { readonly type: "break"; readonly code: keyof typeof status };

type Refusal = Extract<Behaviour, { type: "error" }>;

/** A request as it arrived. */
export interface Arrival {
  readonly request: ModelInferRequest__Output;
  readonly via: "stream" | "unary";
  readonly metadata: Metadata;
  /** Milliseconds left of gRPC's deadline; Infinity without one. */
  readonly grpcDeadlineMs: number;
}

export interface FakeDaemonOptions {
  readonly port?: number;
  readonly behave?: (request: ModelInferRequest__Output, arrival: Arrival) => Behaviour;
  /** Whether the service has ModelStreamInfer. */
  readonly streams?: boolean;
  /** By name; under `NAME/VERSION` what is said of one version. */
  readonly models?: Readonly<Record<string, ModelMetadataResponse>>;
  readonly maxMessageBytes?: number;
  /** Shared memory: without it the server neither offers it nor knows the calls. */
  readonly regions?: FakeRegions;
  /** What is said of models' outputs. */
  readonly config?: (model: string) => ModelConfig;
}

let protocol: Protocol | null = null;

export class FakeDaemon {
  readonly arrivals: Arrival[] = [];
  /** Ids of the requests that were cancelled by a message on a stream, and of unary calls as `unary`. */
  readonly cancelled: string[] = [];
  readonly streams: Set<FakeStream> = new Set();
  streamsOpened: number = 0;
  ready: boolean = true;
  readonly port: number;
  behave: NonNullable<FakeDaemonOptions["behave"]>;
  readonly #server: Server;
  readonly #held: (() => void)[] = [];
  #notify: (() => void)[] = [];

  readonly #regions: FakeRegions | undefined;

  private constructor(
    server: Server,
    port: number,
    behave: NonNullable<FakeDaemonOptions["behave"]>,
    regions: FakeRegions | undefined,
  ) {
    this.#regions = regions;
    this.#server = server;
    this.port = port;
    this.behave = behave;
  }

  get target(): string {
    return `127.0.0.1:${this.port}`;
  }

  static async start(options: FakeDaemonOptions = {}): Promise<FakeDaemon> {
    protocol ??= loadProtocol();
    const { maxMessageBytes = -1 } = options;
    const server = new Server({
      "grpc.max_receive_message_length": maxMessageBytes,
      "grpc.max_send_message_length": -1,
    });
    let daemon: FakeDaemon | null = null;
    const models = options.models ?? {};
    const known = (name: string): ModelMetadataResponse => {
      const model = models[name];
      if (model === undefined) throw serviceError("NOT_FOUND", `Request for unknown model: '${name}' is not found`);
      return model;
    };
    const unary =
      <Request, Response>(answer: (request: Request) => Response) =>
      (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>): void => {
        try {
          callback(null, answer(call.request));
        } catch (error) {
          callback(error as ServiceError);
        }
      };
    const { regions } = options;
    const extensions = ["statistics", ...(regions === undefined ? [] : [SHARED_MEMORY_EXTENSION])];
    /** A call that tests wait for. */
    const changes = <Request>(answer: (request: Request) => object) =>
      unary((request: Request) => {
        try {
          return answer(request);
        } finally {
          daemon!.#happened();
        }
      });
    server.addService(protocol.inference.GRPCInferenceService.service, {
      ServerLive: unary(() => ({ live: true })),
      ServerReady: unary(() => ({ ready: daemon!.ready })),
      ServerMetadata: unary(() => ({ name: "fake", version: "1.2.3", extensions })),
      ModelReady: unary(({ name }: { name: string }) => ({ ready: known(name) !== undefined })),
      ModelMetadata: unary(
        ({ name, version }: { name: string; version: string }) => models[`${name}/${version}`] ?? known(name),
      ),
      ModelConfig: unary(({ name }: { name: string }) => ({
        config: options.config?.(name) ?? { name, max_batch_size: 8 },
      })),
      ModelStatistics: unary(({ name }: { name: string }) => ({
        model_stats: [
          { name, version: "1", inference_count: 7, inference_stats: { queue: { count: 3, ns: "1234567" } } },
        ],
      })),
      RepositoryIndex: unary(() => ({
        models: Object.keys(models).map((name) => ({ name, version: "1", state: "READY", reason: "" })),
      })),
      RepositoryModelLoad: unary(({ model_name }: { model_name: string }) => {
        known(model_name);
        return {};
      }),
      RepositoryModelUnload: unary(() => ({})),
      ...(regions === undefined
        ? {}
        : {
            SystemSharedMemoryRegister: changes((request: { name: string; key: string }) => regions.register(request)),
            SystemSharedMemoryUnregister: changes((request: { name: string }) => regions.unregister(request)),
          }),
      ModelInfer: (call: Unary, callback: sendUnaryData<ModelInferResponse>) => daemon!.#unary(call, callback),
      ...(options.streams === false ? {} : { ModelStreamInfer: (stream: FakeStream) => daemon!.#stream(stream) }),
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`127.0.0.1:${options.port ?? 0}`, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    daemon = new FakeDaemon(server, port, options.behave ?? (() => ({ type: "echo" })), regions);
    return daemon;
  }

  /** Answers what was held, in this order of indexes; all by default. */
  release(order?: readonly number[]): void {
    const held = this.#held.splice(0);
    for (const index of order ?? held.keys()) held[index]!();
  }

  get held(): number {
    return this.#held.length;
  }

  /** Resolves once the condition holds; checked whenever something arrives. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#notify.push(resolve));
  }

  /** Drops all connections, and stops listening. */
  kill(): void {
    this.#server.forceShutdown();
  }

  /** Ends every stream with a status. */
  breakStreams(code: keyof typeof status): void {
    for (const stream of [...this.streams]) this.#breakStream(stream, code);
  }

  #happened(): void {
    const notify = this.#notify;
    this.#notify = [];
    for (const resolve of notify) resolve();
  }

  #breakStream(stream: FakeStream, code: keyof typeof status): void {
    if (!this.streams.delete(stream)) return;
    if (code === "OK") stream.end();
    else stream.emit("error", serviceError(code, `the stream broke: ${code}`));
  }

  #unary(call: Unary, callback: sendUnaryData<ModelInferResponse>): void {
    const { request, metadata } = call;
    const deadline = Number(call.getDeadline());
    const arrival: Arrival = { request, via: "unary", metadata, grpcDeadlineMs: deadline - Date.now() };
    this.arrivals.push(arrival);
    call.on("cancelled", () => {
      this.cancelled.push("unary");
      this.#happened();
    });
    const behaviour = this.behave(request, arrival);
    const refuseUnary = (refusal: Refusal): void => {
      const trailers = new Metadata();
      trailers.set("slackline_code", refusal.code);
      if (refusal.cause !== undefined) trailers.set("slackline_cause", refusal.cause);
      if (refusal.retryAfterMs !== undefined) trailers.set("slackline_retry_after_ms", String(refusal.retryAfterMs));
      callback({ code: status[refusal.code], details: refusal.message, metadata: trailers });
    };
    const echoUnary = (parameters?: Record<string, InferParameter>): void => {
      this.#echo(request, parameters, (response) => callback(null, response), refuseUnary);
    };
    switch (behaviour.type) {
      case "error":
        refuseUnary(behaviour);
        break;
      case "break":
        callback({ code: status[behaviour.code], details: `broke: ${behaviour.code}` });
        break;
      case "hold":
        this.#held.push(() => echoUnary());
        break;
      case "answer":
        callback(null, behaviour.response);
        break;
      case "echo":
        echoUnary(behaviour.parameters);
        break;
    }
    this.#happened();
  }

  #stream(stream: FakeStream): void {
    this.streams.add(stream);
    this.streamsOpened++;
    stream.on("data", (request: ModelInferRequest__Output) => this.#onStream(stream, request));
    const gone = (): void => {
      this.streams.delete(stream);
      this.#happened();
    };
    stream.on("error", gone);
    stream.on("cancelled", gone);
    stream.on("end", () => {
      gone();
      stream.end();
    });
    this.#happened();
  }

  /** Answers with the request's inputs; refuses where these are in a region that is not there any more. */
  #echo(
    request: ModelInferRequest__Output,
    parameters: Record<string, InferParameter> = {},
    answer: (response: ModelInferResponse) => void,
    refuse: (refusal: Refusal) => void,
  ): void {
    let response: ModelInferResponse;
    try {
      response =
        this.#regions === undefined ? echo(request, parameters) : { ...this.#regions.echo(request), parameters };
    } catch (error) {
      if (!(error instanceof RegionGone)) throw error;
      refuse({ type: "error", code: "NOT_FOUND", message: error.message, cause: "shared_memory" });
      return;
    }
    answer(response);
  }

  /** A stream that was broken takes no more answers: grpc-js would never send its status then. */
  #write(stream: FakeStream, answer: ModelStreamInferResponse): void {
    if (this.streams.has(stream)) stream.write(answer);
  }

  #onStream(stream: FakeStream, request: ModelInferRequest__Output): void {
    const { id } = request;
    if (request.parameters.slackline_cancel?.bool_param) {
      this.cancelled.push(id);
      this.#happened();
      return;
    }
    const arrival: Arrival = {
      request,
      via: "stream",
      metadata: stream.metadata,
      grpcDeadlineMs: Number.POSITIVE_INFINITY,
    };
    this.arrivals.push(arrival);
    const behaviour = this.behave(request, arrival);
    const refuse = ({ code, message, cause, retryAfterMs }: Refusal): void => {
      const parameters: Record<string, InferParameter> = { slackline_code: { string_param: code } };
      if (cause !== undefined) parameters.slackline_cause = { string_param: cause };
      if (retryAfterMs !== undefined) parameters.slackline_retry_after_ms = { int64_param: retryAfterMs };
      this.#write(stream, { error_message: message, infer_response: { id, parameters } });
    };
    const echoBack = (parameters?: Record<string, InferParameter>): void => {
      this.#echo(request, parameters, (response) => this.#write(stream, { infer_response: response }), refuse);
    };
    switch (behaviour.type) {
      case "error":
        refuse(behaviour);
        break;
      case "break":
        this.#breakStream(stream, behaviour.code);
        break;
      case "hold":
        this.#held.push(() => echoBack());
        break;
      case "answer":
        this.#write(stream, { infer_response: { ...behaviour.response, id } });
        break;
      case "echo":
        echoBack(behaviour.parameters);
        break;
    }
    this.#happened();
  }
}

function serviceError(code: keyof typeof status, details: string): Partial<ServiceError> {
  return Object.assign(new Error(details), { code: status[code], details });
}

/** An answer whose outputs are the request's inputs. */
export function echo(
  request: ModelInferRequest__Output,
  parameters: Record<string, InferParameter> = {},
): ModelInferResponse {
  return {
    model_name: request.model_name,
    model_version: request.model_version || "1",
    id: request.id,
    parameters,
    outputs: request.inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    raw_output_contents: request.raw_input_contents,
  };
}

export type { ModelInferRequest, ModelInferResponse__Output };
