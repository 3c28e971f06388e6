/** One long-lived ModelStreamInfer stream, opened again whenever it ends. */
import type { ClientDuplexStream, Metadata, StatusObject } from "@grpc/grpc-js";
import { status } from "@grpc/grpc-js";
import { attemptAnswered, attemptFailed, encodeAttempt } from "./attempt.ts";
import { CongestionWindow } from "./congestion.ts";
import type { Endpoint } from "./endpoint.ts";
import { fromStreamEnd, fromStreamError } from "./failures.ts";
import { REQUEST_PARAMETERS } from "./generated/parameters.ts";
import type { InferCall } from "./infer-call.ts";
import type { Failure, LinkEvents, ReplaceableLink } from "./link.ts";
import type { Lease } from "./shared/lease.ts";
import type { Urgency } from "./urgency.ts";
import { giveBuffer } from "./wire/buffer-pool.ts";
import { encodeInferRequest } from "./wire/request.ts";
import { decodeStreamResponse, type ReadShared, type WireStreamResponse } from "./wire/response.ts";

const PATH = "/inference.GRPCInferenceService/ModelStreamInfer";
const identity = (bytes: Buffer): Buffer => bytes;
const REOPEN_MS_MIN = 50;
const REOPEN_MS_MAX = 2_000;
/**
 * A stream with this much that the connection has not taken gets no more requests for now. What waits in the router instead goes by its
 * urgency, says how much time is left when it goes, and is not sent where none is. It is enough to keep the connection busy meanwhile.
 */
const UNWRITTEN_BYTES_MAX = 64 * 1024;
/**
 * Requests that may be outstanding on a stream when one more is sent. What may wait leaves room for what may not: it would be in the way
 * of it for as long as the daemon lets it wait. All stay below the 16,384 at which the daemon refuses more.
 */
const OUTSTANDING_MAX: Readonly<Record<Urgency, number>> = { deadline: 3_072, slo: 2_048, background: 1_024 };
/** Streams of a target with several addresses are replaced after this long, so that new addresses get their share. */
const MAX_AGE_MS = 5 * 60_000;

type Stream = ClientDuplexStream<Buffer, Buffer>;

export interface StreamLinkSettings {
  readonly endpoint: Endpoint;
  readonly metadata: Metadata;
  readonly events: LinkEvents;
  /** The server has no ModelStreamInfer. */
  readonly onUnsupported: () => void;
  /** The stream has lived long enough, and another should take its place. */
  readonly onAged: (link: StreamLink) => void;
}

export class StreamLink implements ReplaceableLink {
  readonly #settings: StreamLinkSettings;
  readonly #outstanding = new Map<string, InferCall>();
  /** Shared memory of requests that were given up: the daemon answers these too. */
  readonly #abandoned = new Map<string, Lease>();
  readonly #unlisten: () => void;
  readonly #readShared: ReadShared = (id, place) => this.#callOf(id)?.lease?.read(place) ?? null;
  readonly #window = new CongestionWindow(OUTSTANDING_MAX.deadline);
  #stream: Stream | null = null;
  #nextId = 1;
  /** Requests given up since the stream last brought something: a stream that only swallows must not look idle. */
  #swallowed = 0;
  /** Of messages that are not yet written to the connection. */
  #unwrittenBytes = 0;
  #broughtSomething = false;
  #failures = 0;
  #reopenTimer: NodeJS.Timeout | null = null;
  #ageTimer: NodeJS.Timeout | null = null;
  /** What to call once it has closed, where it takes no more requests. */
  #drained: (() => void) | null = null;
  #closed = false;

  constructor(settings: StreamLinkSettings) {
    this.#settings = settings;
    this.#unlisten = settings.endpoint.onConnected(() => this.#open());
    if (settings.endpoint.connected) this.#open();
  }

  get connected(): boolean {
    return this.#stream !== null && this.#drained === null;
  }

  takes(urgency: Urgency): boolean {
    return (
      this.#stream !== null &&
      this.#unwrittenBytes < UNWRITTEN_BYTES_MAX &&
      this.#outstanding.size < OUTSTANDING_MAX[urgency] &&
      this.#window.hasRoom &&
      this.#drained === null
    );
  }

  get load(): number {
    return this.#outstanding.size + this.#swallowed;
  }

  get peer(): string {
    const { endpoint } = this.#settings;
    return endpoint.several ? (this.#stream?.getPeer() ?? endpoint.target) : endpoint.target;
  }

  get roams(): boolean {
    return false;
  }

  send(call: InferCall): void {
    const id = String(this.#nextId++);
    const message = encodeAttempt(call, id, this.#settings.endpoint.memory);
    call.wireId = id;
    call.link = this;
    this.#outstanding.set(id, call);
    this.#window.sent(call);
    this.#write(message);
  }

  overdue(call: InferCall): void {
    this.#window.overdue(call);
  }

  abandon(call: InferCall): void {
    if (!this.#remove(call) || this.#stream === null) return;
    this.#window.abandoned(call);
    if (call.lease !== null) this.#abandoned.set(call.wireId, call.lease);
    call.lease = null;
    this.#swallowed++;
    const { model, version } = call.settings.request;
    const cancel = { model, version, inputs: [], outputs: [], parameters: [] };
    this.#write(encodeInferRequest(cancel, call.wireId, [{ name: REQUEST_PARAMETERS.cancel, value: true }]));
    this.#closeWhenDrained();
  }

  drain(closed: () => void): void {
    this.#drained = closed;
    this.#closeWhenDrained();
  }

  #closeWhenDrained(): void {
    if (this.#drained === null || this.#closed || this.#outstanding.size > 0) return;
    this.#stream?.end();
    this.#stop();
    this.#drained();
  }

  close(): void {
    this.#stream?.cancel();
    this.#stop();
    this.#outstanding.clear();
  }

  #stop(): void {
    this.#closed = true;
    this.#unlisten();
    if (this.#reopenTimer !== null) clearTimeout(this.#reopenTimer);
    this.#forgetStream();
  }

  #write(message: Buffer): void {
    const stream = this.#stream!;
    const bytes = message.length;
    this.#unwrittenBytes += bytes;
    stream.write(message, (error?: Error | null) => {
      // gRPC has copied it by now, except perhaps where it failed.
      if (!error) giveBuffer(message);
      if (this.#stream !== stream) return;
      const wasFull = this.#unwrittenBytes >= UNWRITTEN_BYTES_MAX;
      this.#unwrittenBytes -= bytes;
      if (wasFull && this.#unwrittenBytes < UNWRITTEN_BYTES_MAX) this.#settings.events.available();
    });
  }

  /** The request is no longer outstanding; false where it was not. */
  #remove(call: InferCall): boolean {
    call.link = null;
    if (!this.#outstanding.delete(call.wireId)) return false;
    this.#settings.events.available();
    return true;
  }

  #open(): void {
    const { endpoint, metadata, events } = this.#settings;
    if (this.#closed || this.#stream !== null || this.#reopenTimer !== null || !endpoint.connected) return;
    const stream = endpoint.client.makeBidiStreamRequest(PATH, identity, identity, metadata, {});
    this.#stream = stream;
    this.#window.reconnected();
    this.#broughtSomething = false;
    const ifCurrent =
      <T>(fn: (value: T) => void) =>
      (value: T): void => {
        if (this.#stream === stream) fn(value);
      };
    stream.on("data", ifCurrent(this.#received.bind(this)));
    // Errors come as a status too.
    stream.on("error", () => {});
    stream.on(
      "status",
      ifCurrent(({ code, details }: StatusObject) => {
        const end = ifCurrent(() => this.#ended(code, details, stream));
        // Answers that arrived before the end still count.
        if (stream.readableLength === 0) end(undefined);
        else stream.once("end", end);
      }),
    );
    if (endpoint.several) this.#ageTimer = setTimeout(() => this.#settings.onAged(this), MAX_AGE_MS).unref();
    events.available();
  }

  #received(message: Buffer): void {
    this.#broughtSomething = true;
    this.#failures = 0;
    this.#swallowed = 0;
    let answer: WireStreamResponse;
    try {
      answer = decodeStreamResponse(message, this.#readShared);
    } catch (error) {
      const stream = this.#stream!;
      this.#ended(status.INTERNAL, `malformed answer: ${(error as Error).message}`, stream);
      stream.cancel();
      return;
    }
    const { error, response } = answer;
    const call = this.#callOf(response?.id ?? "");
    // Answers to requests that were cancelled or given up find nobody.
    if (call === undefined) {
      this.#abandoned.get(response?.id ?? "")?.release();
      this.#abandoned.delete(response?.id ?? "");
      return;
    }
    this.#remove(call);
    const { events, endpoint } = this.#settings;
    this.#window.answered(call);
    if (error === "" && response !== null) {
      attemptAnswered(call, response, endpoint.memory);
      events.answered(call, response);
    } else {
      events.failed(call, attemptFailed(call, fromStreamError(error, response?.parameters ?? {})), this);
    }
    this.#closeWhenDrained();
  }

  /** A server that doesn't echo the id on errors can mean only one request where only one is outstanding. */
  #callOf(id: string): InferCall | undefined {
    if (id !== "" || this.#outstanding.size !== 1) return this.#outstanding.get(id);
    return this.#outstanding.values().next().value;
  }

  #ended(code: number, details: string, stream: Stream): void {
    if (code === status.UNIMPLEMENTED && !this.#broughtSomething) this.#settings.onUnsupported();
    // A stream that ends before it brought anything will probably do so again: wait longer each time.
    if (!this.#broughtSomething) this.#failures++;
    const lost: Failure = fromStreamEnd(code, details);
    this.#breakOff(lost, stream);
    this.#closeWhenDrained();
    this.#reopen();
  }

  #breakOff(failure: Failure, stream: Stream): void {
    if (this.#stream !== stream) return;
    this.#forgetStream();
    const calls = [...this.#outstanding.values()];
    this.#outstanding.clear();
    for (const call of calls) {
      call.link = null;
      this.#window.abandoned(call);
      this.#settings.events.failed(call, attemptFailed(call, failure), this);
    }
  }

  #forgetStream(): void {
    this.#stream = null;
    for (const lease of this.#abandoned.values()) lease.doubt();
    this.#abandoned.clear();
    this.#unwrittenBytes = 0;
    this.#swallowed = 0;
    if (this.#ageTimer !== null) clearTimeout(this.#ageTimer);
    this.#ageTimer = null;
  }

  #reopen(): void {
    if (this.#closed || this.#reopenTimer !== null) return;
    if (this.#failures === 0) {
      this.#open();
      return;
    }
    const backoff = Math.min(REOPEN_MS_MAX, REOPEN_MS_MIN * 2 ** (this.#failures - 1));
    this.#reopenTimer = setTimeout(
      () => {
        this.#reopenTimer = null;
        this.#open();
      },
      backoff * (0.5 + Math.random()),
    );
  }
}
