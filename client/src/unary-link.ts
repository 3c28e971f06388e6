/** A target's unary calls. */
import type { ClientUnaryCall, ServiceError } from "@grpc/grpc-js";
import { attemptAnswered, attemptFailed, encodeAttempt } from "./attempt.ts";
import { CongestionWindow } from "./congestion.ts";
import type { Endpoint } from "./endpoint.ts";
import { SlacklineError } from "./errors.ts";
import { fromUnaryError } from "./failures.ts";
import type { InferCall } from "./infer-call.ts";
import type { Link, LinkEvents } from "./link.ts";
import { giveBuffer } from "./wire/buffer-pool.ts";
import { decodeInferResponse, type WireResponse } from "./wire/response.ts";

const PATH = "/inference.GRPCInferenceService/ModelInfer";
/** Calls, each of which takes memory here and at the daemon. */
const OUTSTANDING_MAX = 4_096;
const identity = (bytes: Buffer): Buffer => bytes;

export class UnaryLink implements Link {
  readonly #endpoint: Endpoint;
  readonly #graceMs: number;
  readonly #events: LinkEvents;
  readonly #outstanding = new Map<InferCall, ClientUnaryCall>();
  readonly #window = new CongestionWindow(OUTSTANDING_MAX);
  readonly #unlisten: () => void;

  constructor(endpoint: Endpoint, graceMs: number, events: LinkEvents) {
    this.#endpoint = endpoint;
    this.#graceMs = graceMs;
    this.#events = events;
    this.#unlisten = endpoint.onConnected(() => {
      this.#window.reconnected();
      events.available();
    });
  }

  takes(): boolean {
    return this.#endpoint.connected && this.#outstanding.size < OUTSTANDING_MAX && this.#window.hasRoom;
  }

  get connected(): boolean {
    return this.#endpoint.connected;
  }

  get load(): number {
    return this.#outstanding.size;
  }

  get peer(): string {
    return this.#endpoint.target;
  }

  get roams(): boolean {
    return this.#endpoint.several;
  }

  send(call: InferCall): void {
    const message = encodeAttempt(call, "", this.#endpoint.memory);
    const remaining = call.remainingMs;
    // gRPC's deadline leaves the daemon time to say why it shed; what it aims at is the parameter.
    const options = Number.isFinite(remaining) ? { deadline: Date.now() + remaining + this.#graceMs } : {};
    const done = (error: ServiceError | null, answer?: Buffer): void => {
      if (!this.#outstanding.delete(call)) return;
      call.link = null;
      this.#events.available();
      if (error !== null) {
        const failure = fromUnaryError(error);
        // gRPC's timer may go before the router's.
        if (failure.type === "expired") this.#window.overdue(call);
        if (failure.type === "answered") this.#window.answered(call);
        else this.#window.abandoned(call);
        this.#events.failed(call, attemptFailed(call, failure), this);
        return;
      }
      giveBuffer(message);
      this.#answered(call, answer!);
    };
    call.link = this;
    this.#window.sent(call);
    const { metadata } = call.settings;
    this.#outstanding.set(
      call,
      this.#endpoint.client.makeUnaryRequest(PATH, identity, identity, message, metadata, options, done),
    );
  }

  #answered(call: InferCall, answer: Buffer): void {
    let response: WireResponse;
    try {
      response = decodeInferResponse(answer, (_id, place) => call.lease?.read(place) ?? null);
    } catch (cause) {
      this.#window.answered(call);
      const error = new SlacklineError("INTERNAL", `malformed answer: ${(cause as Error).message}`, { cause });
      this.#events.failed(call, attemptFailed(call, { type: "answered", error, shed: false }), this);
      return;
    }
    this.#window.answered(call);
    attemptAnswered(call, response, this.#endpoint.memory);
    this.#events.answered(call, response);
  }

  overdue(call: InferCall): void {
    this.#window.overdue(call);
  }

  abandon(call: InferCall): void {
    const unary = this.#outstanding.get(call);
    this.#outstanding.delete(call);
    call.link = null;
    this.#window.abandoned(call);
    this.#events.available();
    // Nothing tells when the daemon has heard of it.
    call.lease?.doubt();
    call.lease = null;
    unary?.cancel();
  }

  close(): void {
    this.#unlisten();
    for (const call of [...this.#outstanding.keys()]) this.abandon(call);
  }
}
