/** One target: its channel, and whether it is connected. */
import { Client, connectivityState, type ServiceError } from "@grpc/grpc-js";
import { type CompiledOptions, mayBeSeveral } from "./options.ts";

import type { LeaseSource } from "./shared/lease.ts";

const PROBE_PATH = "/inference.GRPCInferenceService/ServerLive";
const identity = (bytes: Buffer): Buffer => bytes;
const PROBE_DEADLINE_MS = 1_000;

export class Endpoint {
  readonly target: string;
  /** Whether the target may stand for several daemons. */
  readonly several: boolean;
  readonly client: Client;
  /** Memory shared with its daemon, where it may be; set before the first request. */
  memory: LeaseSource | null = null;
  #connected = false;
  #closed = false;
  #problem = "still connecting";
  readonly #listeners = new Set<() => void>();

  constructor(target: string, options: CompiledOptions) {
    this.target = target;
    this.several = mayBeSeveral(target);
    this.client = new Client(target, options.credentials, options.channelOptions);
    this.#watch();
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** Why there is no connection. */
  get problem(): string {
    return this.#problem;
  }

  /** Calls `listener` whenever the endpoint gets connected; returns how to stop that. */
  onConnected(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#closed = true;
    this.#connected = false;
    this.#listeners.clear();
    this.client.close();
  }

  #watch(): void {
    if (this.#closed) return;
    const channel = this.client.getChannel();
    // `true`: connect, now and whenever the connection was lost.
    const state = channel.getConnectivityState(true);
    this.#connected = state === connectivityState.READY;
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => this.#watch());
    if (this.#connected) {
      for (const listener of [...this.#listeners]) listener();
    } else if (state === connectivityState.TRANSIENT_FAILURE) {
      this.#learnProblem();
    }
  }

  /** Channels don't say why they can't connect; a call that fails at once, without leaving this process, does. */
  #learnProblem(): void {
    const done = (error: ServiceError | null): void => {
      if (error !== null) this.#problem = error.details;
    };
    const options = { deadline: Date.now() + PROBE_DEADLINE_MS };
    this.client.makeUnaryRequest(PROBE_PATH, identity, identity, Buffer.alloc(0), options, done);
  }
}
