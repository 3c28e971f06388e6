/** The client. */
import { setTimeout as sleep } from "node:timers/promises";
import { Endpoint } from "./endpoint.ts";
import { invalidArgument, SlacklineError } from "./errors.ts";
import type { ModelConfig__Output } from "./generated/inference/ModelConfig.ts";
import type { ModelConfigResponse__Output } from "./generated/inference/ModelConfigResponse.ts";
import type { ModelMetadataResponse__Output } from "./generated/inference/ModelMetadataResponse.ts";
import type { ModelReadyResponse__Output } from "./generated/inference/ModelReadyResponse.ts";
import type { ModelStatisticsResponse__Output } from "./generated/inference/ModelStatisticsResponse.ts";
import type { RepositoryIndexResponse__Output } from "./generated/inference/RepositoryIndexResponse.ts";
import type { ServerMetadataResponse__Output } from "./generated/inference/ServerMetadataResponse.ts";
import type { ServerReadyResponse__Output } from "./generated/inference/ServerReadyResponse.ts";
import { REQUEST_PARAMETERS } from "./generated/parameters.ts";
import { InferCall, nowMs } from "./infer-call.ts";
import type { SlacklineClientOptions, Transport } from "./options.ts";
import { buildMetadata, type CompiledOptions, checkDeadline, compileOptions } from "./options.ts";
import { aborted, Queries, type QueryOptions } from "./queries.ts";
import { InferResult } from "./result.ts";
import {
  type ModelIndexEntry,
  type ModelMetadata,
  type ModelStatistics,
  modelMetadata,
  modelStatistics,
  type ServerMetadata,
} from "./server-info.ts";
import { shareMemory } from "./shared/share-memory.ts";
import type { SharedMemory, SharedMemoryStatus } from "./shared/shared-memory.ts";
import { watchSignal } from "./signals.ts";
import { checkTensor, type Tensor } from "./tensor.ts";
import { Transports } from "./transports.ts";
import type { ParameterValue, WireParameter, WireRequest } from "./wire/request.ts";

/** Tensors by input name. */
export type InferInputs = Readonly<Record<string, Tensor>>;

export interface InferOptions {
  /** Which version of the model; default: the daemon's choice, the newest as a rule. */
  readonly version?: string | number | undefined;
  /**
   * Where the daemon shares requests out among versions: those of one key, a user's for example, go to one version. 1 to
   * 256 characters.
   */
  readonly trafficKey?: string | undefined;
  /** Names of the outputs that are wanted; default all. */
  readonly outputs?: readonly string[] | undefined;
  /**
   * By when the answer must be there, in milliseconds from now. The daemon plans by it, and sheds the request as soon as it can't be
   * met. The promise settles by then, or within the client's `graceMs` after it. Default: the client's `deadlineMs`.
   */
  readonly deadlineMs?: number | undefined;
  /** Run in time that no deadline needs; a deadline then only says when to give up. */
  readonly bestEffort?: boolean | undefined;
  /** Cancels the request, at the daemon too. */
  readonly signal?: AbortSignal | undefined;
  /** On whose behalf; default the client's. */
  readonly tenant?: string | undefined;
  /** Smaller is more important, 1 the most; for servers that have priorities. */
  readonly priority?: number | undefined;
  /** Ask for `InferResult.timings`. */
  readonly timings?: boolean | undefined;
  /** Further request parameters. */
  readonly parameters?: Readonly<Record<string, ParameterValue>> | undefined;
  /** gRPC metadata of this request, which then goes as a unary call: a stream has one for all its requests. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Whether it is tried again when shed (on another daemon) or lost with its lane (once); default the client's. */
  readonly retry?: boolean | undefined;
  /** How this request travels; default the client's. */
  readonly transport?: Transport | undefined;
}

export interface WaitOptions {
  /** Milliseconds; default 30,000. */
  readonly timeoutMs?: number | undefined;
  /** Models that must be ready too; default: whatever the server counts as ready. */
  readonly models?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ModelQueryOptions extends QueryOptions {
  /** Default: the daemon's choice. */
  readonly version?: string | number | undefined;
}

const READY_POLL_MS = 100;
const RESERVED_PARAMETERS: ReadonlySet<string> = new Set(Object.values(REQUEST_PARAMETERS));

function parametersOf(options: InferOptions): WireParameter[] {
  const parameters: WireParameter[] = [];
  if (options.bestEffort) parameters.push({ name: REQUEST_PARAMETERS.bestEffort, value: true });
  if (options.trafficKey !== undefined) {
    parameters.push({ name: REQUEST_PARAMETERS.trafficKey, value: options.trafficKey });
  }
  if (options.timings) parameters.push({ name: REQUEST_PARAMETERS.timings, value: true });
  const { priority } = options;
  if (priority !== undefined) {
    if (!Number.isSafeInteger(priority) || priority < 0) {
      throw invalidArgument(`priority must be a whole number >= 0, got ${priority}`);
    }
    parameters.push({ name: REQUEST_PARAMETERS.priority, uint64: priority });
  }
  for (const [name, value] of Object.entries(options.parameters ?? {})) {
    if (RESERVED_PARAMETERS.has(name)) {
      throw invalidArgument(
        `parameter '${name}' has an option of its own: deadlineMs, bestEffort, timings, trafficKey, priority, outputs or signal`,
      );
    }
    parameters.push({ name, value });
  }
  return parameters;
}

/**
 * Calls a slackline daemon, or another server of the Open Inference Protocol.
 *
 * Make one per process and keep it: it connects by itself, again and again, and shares its streams among all requests.
 * Every method rejects with `SlacklineError`. `close()` it, or its connections keep the process alive.
 */
export class SlacklineClient {
  readonly #options: CompiledOptions;
  readonly #endpoints: readonly Endpoint[];
  readonly #transports: Transports;
  readonly #queries: Queries;
  readonly #memories: ReadonlyMap<Endpoint, SharedMemory>;
  readonly #metadataByTenant = new Map<string, ReturnType<typeof buildMetadata>>();
  #closed = false;

  /** Throws INVALID_ARGUMENT; does not wait for a connection. */
  constructor(options: SlacklineClientOptions) {
    this.#options = compileOptions(options);
    // Throws before there are connections that nobody would close.
    const metadata = buildMetadata(this.#options.tenant, this.#options.metadata);
    this.#endpoints = this.#options.targets.map((target) => new Endpoint(target, this.#options));
    this.#queries = new Queries(this.#endpoints, metadata);
    this.#memories = shareMemory(this.#endpoints, this.#queries, this.#options.sharedMemoryBytesMax);
    this.#transports = new Transports(this.#options, this.#endpoints);
  }

  /** Runs a model on tensors, named as the model names its inputs, and gives its outputs. */
  infer(model: string, inputs: InferInputs, options: InferOptions = {}): Promise<InferResult> {
    return new Promise((resolve, reject) => {
      this.#checkOpen();
      const { signal, metadata } = options;
      if (signal?.aborted) throw aborted(signal);
      const tenant = options.tenant ?? this.#options.tenant;
      const call = new InferCall(
        {
          request: this.#request(model, inputs, options),
          deadlineMs: options.deadlineMs === undefined ? this.#options.deadlineMs : checkDeadline(options.deadlineMs),
          replyMarginMs: this.#options.replyMarginMs,
          bestEffort: options.bestEffort ?? false,
          retry: options.retry ?? this.#options.retry,
          metadata:
            metadata === undefined ? this.#metadata(tenant) : buildMetadata(tenant, this.#options.metadata, metadata),
        },
        (response) => resolve(new InferResult(response)),
        reject,
      );
      if (signal !== undefined) call.unwatchSignal = watchSignal(signal, () => call.giveUp(aborted(signal)));
      const transport = metadata === undefined ? (options.transport ?? this.#options.transport) : "unary";
      this.#transports.router(transport, tenant).submit(call);
    });
  }

  /** Whether a target answers that every model it can serve is ready; false where none can be reached in time. */
  async ready(options: QueryOptions = {}): Promise<boolean> {
    this.#checkOpen();
    try {
      const { ready } = await this.#queries.ask<ServerReadyResponse__Output>(
        (stub, ...rest) => stub.ServerReady({}, ...rest),
        { timeoutMs: 2_000, ...options },
      );
      return ready;
    } catch (error) {
      if (error instanceof SlacklineError && ["UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(error.code)) return false;
      throw error;
    }
  }

  /** Waits until a target is ready; rejects with UNAVAILABLE when that takes too long. */
  async waitForReady(options: WaitOptions = {}): Promise<void> {
    const { timeoutMs = 30_000, models = [], signal } = options;
    const endMs = nowMs() + timeoutMs;
    for (;;) {
      const left = endMs - nowMs();
      const query = { timeoutMs: Math.max(1, Math.min(left, 2_000)), signal };
      const up = await this.ready(query);
      const model = up ? await this.#firstNotReady(models, query) : null;
      if (up && model === null) return;
      if (nowMs() + READY_POLL_MS >= endMs) {
        const problems = this.#endpoints
          .map(({ target, connected, problem }) => `${target}: ${connected ? "connected" : problem}`)
          .join("; ");
        const missing = model === null ? "the server" : `model '${model}'`;
        const why = model === null ? "" : await this.#whyNotReady(model);
        throw new SlacklineError("UNAVAILABLE", `${missing} is not ready after ${timeoutMs} ms${why} (${problems})`, {
          reason: "not_ready",
        });
      }
      await sleep(READY_POLL_MS);
      if (signal?.aborted) throw aborted(signal);
    }
  }

  /** Whether a model can be inferred; false for an unknown model too. */
  async modelReady(model: string, options: ModelQueryOptions = {}): Promise<boolean> {
    this.#checkOpen();
    const request = { name: model, version: versionText(options.version) };
    try {
      const { ready } = await this.#queries.ask<ModelReadyResponse__Output>(
        (stub, ...rest) => stub.ModelReady(request, ...rest),
        options,
      );
      return ready;
    } catch (error) {
      if (error instanceof SlacklineError && error.code === "NOT_FOUND") return false;
      throw error;
    }
  }

  async serverMetadata(options: QueryOptions = {}): Promise<ServerMetadata> {
    this.#checkOpen();
    const { name, version, extensions } = await this.#queries.ask<ServerMetadataResponse__Output>(
      (stub, ...rest) => stub.ServerMetadata({}, ...rest),
      options,
    );
    return { name, version, extensions };
  }

  /** A model's inputs and outputs. */
  async modelMetadata(model: string, options: ModelQueryOptions = {}): Promise<ModelMetadata> {
    this.#checkOpen();
    const request = { name: model, version: versionText(options.version) };
    return modelMetadata(
      await this.#queries.ask<ModelMetadataResponse__Output>(
        (stub, ...rest) => stub.ModelMetadata(request, ...rest),
        options,
      ),
    );
  }

  /** A model's configuration as the protocol has it: 64-bit integers are strings. */
  async modelConfig(model: string, options: ModelQueryOptions = {}): Promise<ModelConfig__Output> {
    this.#checkOpen();
    const request = { name: model, version: versionText(options.version) };
    const { config } = await this.#queries.ask<ModelConfigResponse__Output>(
      (stub, ...rest) => stub.ModelConfig(request, ...rest),
      options,
    );
    if (config === null) throw new SlacklineError("INTERNAL", `the server sent no configuration of model '${model}'`);
    return config;
  }

  /** Counters of one model, or of all where `model` is empty. */
  async statistics(model = "", options: ModelQueryOptions = {}): Promise<ModelStatistics[]> {
    this.#checkOpen();
    const request = { name: model, version: versionText(options.version) };
    const { model_stats } = await this.#queries.ask<ModelStatisticsResponse__Output>(
      (stub, ...rest) => stub.ModelStatistics(request, ...rest),
      options,
    );
    return model_stats.map(modelStatistics);
  }

  /** Every model version the server knows, with its state. */
  async repositoryIndex(options: QueryOptions & { readonly readyOnly?: boolean } = {}): Promise<ModelIndexEntry[]> {
    this.#checkOpen();
    const request = { ready: options.readyOnly ?? false };
    const { models } = await this.#queries.ask<RepositoryIndexResponse__Output>(
      (stub, ...rest) => stub.RepositoryIndex(request, ...rest),
      options,
    );
    return models.map(({ name, version, state, reason }) => ({ name, version, state, reason }));
  }

  /** Loads a model, or loads it anew, on every target (or on `target`). Loading can take long: `timeoutMs` is 5 minutes here. */
  async loadModel(model: string, options: QueryOptions = {}): Promise<void> {
    this.#checkOpen();
    await this.#queries.askAll((stub, ...rest) => stub.RepositoryModelLoad({ model_name: model }, ...rest), {
      timeoutMs: 300_000,
      ...options,
    });
  }

  /** Unloads a model on every target (or on `target`). */
  async unloadModel(model: string, options: QueryOptions = {}): Promise<void> {
    this.#checkOpen();
    await this.#queries.askAll((stub, ...rest) => stub.RepositoryModelUnload({ model_name: model }, ...rest), options);
  }

  /** Ends all connections; requests that are outstanding are rejected with CANCELLED. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#transports.close(closedError());
    for (const endpoint of this.#endpoints) {
      const memory = this.#memories.get(endpoint);
      if (memory === undefined) endpoint.close();
      else void memory.close().then(() => endpoint.close());
    }
  }

  /** How tensors travel to each target that may share memory with this process; see the option `sharedMemory`. */
  sharedMemoryStatus(): SharedMemoryStatus[] {
    return [...this.#memories.values()].map(({ status }) => status);
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError();
  }

  #request(model: string, inputs: InferInputs, options: InferOptions): WireRequest {
    if (typeof model !== "string") throw invalidArgument(`model must be a model's name, got ${typeof model}`);
    if (typeof inputs !== "object" || inputs === null) {
      throw invalidArgument(`inputs must be an object with a tensor for each input's name, got ${typeof inputs}`);
    }
    const outputs = options.outputs ?? [];
    if (!Array.isArray(outputs) || outputs.some((name) => typeof name !== "string")) {
      throw invalidArgument("outputs must be an array of names");
    }
    const entries = Object.entries(inputs);
    for (const [name, tensor] of entries) checkTensor(tensor, name);
    return {
      model,
      version: versionText(options.version),
      inputs: entries,
      outputs,
      parameters: parametersOf(options),
    };
  }

  #metadata(tenant: string): ReturnType<typeof buildMetadata> {
    let metadata = this.#metadataByTenant.get(tenant);
    if (metadata === undefined) {
      // Tenants come from callers: a cache of all that ever were would grow for ever.
      if (this.#metadataByTenant.size >= 1_000) this.#metadataByTenant.clear();
      metadata = buildMetadata(tenant, this.#options.metadata);
      this.#metadataByTenant.set(tenant, metadata);
    }
    return metadata;
  }

  async #firstNotReady(models: readonly string[], query: QueryOptions): Promise<string | null> {
    for (const model of models) {
      if (!(await this.modelReady(model, query).catch(() => false))) return model;
    }
    return null;
  }

  /** What the server says of a model, to be added to a message; empty where it says nothing. */
  async #whyNotReady(model: string): Promise<string> {
    const index = await this.repositoryIndex({ timeoutMs: 1_000 }).catch(() => null);
    if (index === null) return "";
    const entries = index.filter(({ name }) => name === model);
    if (entries.length === 0) return `: the server has no model of that name, but ${namesOf(index)}`;
    const states = entries.map(({ version, state, reason }) => `version ${version}: ${reason || state.toLowerCase()}`);
    return `: ${states.join(", ")}`;
  }
}

const NAMES_MAX = 10;

function namesOf(index: readonly ModelIndexEntry[]): string {
  const names = [...new Set(index.map(({ name }) => `'${name}'`))];
  if (names.length === 0) return "none at all";
  const more = names.length > NAMES_MAX ? ` and ${names.length - NAMES_MAX} more` : "";
  return `${names.slice(0, NAMES_MAX).join(", ")}${more}`;
}

function closedError(): SlacklineError {
  return new SlacklineError("CANCELLED", "the client is closed", { reason: "closed" });
}

function versionText(version: string | number | undefined): string {
  return version === undefined ? "" : String(version);
}
