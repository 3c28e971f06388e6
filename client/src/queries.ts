/** Everything that a server can be asked apart from inference: plain unary calls. */
import type { CallOptions, ClientUnaryCall, Metadata, ServiceError } from "@grpc/grpc-js";
import type { Endpoint } from "./endpoint.ts";
import { invalidArgument, SlacklineError } from "./errors.ts";
import { fromUnaryError } from "./failures.ts";
import { type Stub, stubOn } from "./protocol.ts";
import { watchSignal } from "./signals.ts";

export interface QueryOptions {
  /** Milliseconds; default 10,000. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Which of the client's targets to ask; default: the first that is connected. */
  readonly target?: string | undefined;
}

type Callback<Response> = (error: ServiceError | null, response?: Response) => void;

/** Invokes one method of the stub with the arguments given. */
export type Invoke<Response> = (
  stub: Stub,
  metadata: Metadata,
  options: CallOptions,
  callback: Callback<Response>,
) => ClientUnaryCall;

const DEFAULT_TIMEOUT_MS = 10_000;

export class Queries {
  readonly #endpoints: readonly Endpoint[];
  readonly #metadata: Metadata;
  readonly #stubs = new Map<Endpoint, Stub>();

  /** `metadata` is sent with every call; calls wait for a connection. */
  constructor(endpoints: readonly Endpoint[], metadata: Metadata) {
    this.#endpoints = endpoints;
    this.#metadata = metadata.clone();
    this.#metadata.setOptions({ waitForReady: true });
  }

  /** Asks one server. */
  ask<Response>(invoke: Invoke<Response>, options: QueryOptions = {}): Promise<Response> {
    const { target } = options;
    const endpoint =
      target === undefined
        ? (this.#endpoints.find((candidate) => candidate.connected) ?? this.#endpoints[0]!)
        : this.#endpoints.find((candidate) => candidate.target === target);
    if (endpoint === undefined) {
      const known = this.#endpoints.map((candidate) => candidate.target).join(", ");
      return Promise.reject(invalidArgument(`'${target}' is not a target of this client; it has ${known}`));
    }
    return this.#call(endpoint, invoke, options);
  }

  /** Asks every server, or the one named by `target`. */
  async askAll<Response>(invoke: Invoke<Response>, options: QueryOptions = {}): Promise<Response[]> {
    if (options.target !== undefined) return [await this.ask(invoke, options)];
    return Promise.all(this.#endpoints.map((endpoint) => this.#call(endpoint, invoke, options)));
  }

  #call<Response>(endpoint: Endpoint, invoke: Invoke<Response>, options: QueryOptions): Promise<Response> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(aborted(signal));
        return;
      }
      let unwatch: (() => void) | undefined;
      const done: Callback<Response> = (error, response) => {
        unwatch?.();
        if (error === null) resolve(response!);
        else if (signal?.aborted) reject(aborted(signal));
        else reject(describe(error, endpoint, timeoutMs));
      };
      const call = invoke(this.#stub(endpoint), this.#metadata, { deadline: Date.now() + timeoutMs }, done);
      if (signal !== undefined) unwatch = watchSignal(signal, () => call.cancel());
    });
  }

  #stub(endpoint: Endpoint): Stub {
    let stub = this.#stubs.get(endpoint);
    if (stub === undefined) {
      stub = stubOn(endpoint.client.getChannel());
      this.#stubs.set(endpoint, stub);
    }
    return stub;
  }
}

/** The error of a request whose signal aborted. */
export function aborted(signal: AbortSignal): SlacklineError {
  return new SlacklineError("CANCELLED", "aborted by the caller's signal", { reason: "aborted", cause: signal.reason });
}

function describe(cause: ServiceError, endpoint: Endpoint, timeoutMs: number): SlacklineError {
  const failure = fromUnaryError(cause);
  if (failure.type !== "expired") return failure.error;
  if (endpoint.connected) {
    const message = `${endpoint.target} gave no answer within ${timeoutMs} ms (timeoutMs)`;
    return new SlacklineError("DEADLINE_EXCEEDED", message, { reason: "no_answer", cause });
  }
  const message = `no daemon was reached at ${endpoint.target} within ${timeoutMs} ms (timeoutMs): ${endpoint.problem}`;
  return new SlacklineError("UNAVAILABLE", message, { reason: "no_connection", cause });
}
