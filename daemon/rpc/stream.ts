/** ModelStreamInfer: many requests on one call, answered in the order in which they complete. */
import { status } from "@grpc/grpc-js";
import type { StreamAnswer } from "./eager-writes.ts";
import { errorParameters, RpcError } from "./errors.ts";
import { type CallContext, RETRY_AFTER_MS, type Responder, type Ticket } from "./inference-gateway.ts";
import type { WireResponse } from "./messages.ts";
import { type CallFacts, callContext, type TransportParts } from "./unary.ts";
import type { UnreadAnswers } from "./unread-answers.ts";

/** The part of a grpc-js duplex stream that is used here. */
export interface StreamCall extends CallFacts {
  on(event: "data", listener: (bytes: Buffer) => void): unknown;
  on(event: "end" | "cancelled", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  write(answer: StreamAnswer): unknown;
  pause(): unknown;
  resume(): unknown;
  end(): unknown;
  /** Ends the call with this status, behind what was written. */
  emit(event: "error", status: { readonly code: status; readonly details: string }): unknown;
}

export interface StreamLimits {
  readonly streamRequestsMax: number;
  readonly streamUnreadBytesMax: number;
}

/** The open streams, so that a shutdown can end them. */
export class InferenceStreams {
  readonly #parts: TransportParts;
  readonly #limits: StreamLimits;
  readonly #open = new Set<InferenceStream>();

  constructor(parts: TransportParts, limits: StreamLimits) {
    this.#parts = parts;
    this.#limits = limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /** The handler that grpc-js calls. */
  accept(call: StreamCall): void {
    const stream = new InferenceStream(call, this.#parts, this.#limits, () => this.#open.delete(stream));
    this.#open.add(stream);
  }

  /** Ends every stream once what is under way on it has been answered. */
  end(): void {
    for (const stream of this.#open) stream.finish();
  }
}

class InferenceStream {
  readonly #call: StreamCall;
  readonly #parts: TransportParts;
  readonly #unread: UnreadAnswers;
  readonly #peer: string;
  readonly #limits: StreamLimits;
  readonly #context: CallContext;
  readonly #onClosed: () => void;
  readonly #tickets = new Set<Ticket>();
  /** Encoded answers that the reader has not taken. */
  #unreadBytes = 0;
  #paused = false;
  /** The caller has said that it sends nothing more. */
  #halfClosed = false;
  /** No more requests are expected. */
  #finishing = false;
  /** The call's own end was sent: nothing can be written any more. */
  #ended = false;
  #closed = false;

  constructor(call: StreamCall, parts: TransportParts, limits: StreamLimits, onClosed: () => void) {
    this.#call = call;
    this.#parts = parts;
    this.#unread = parts.unread;
    this.#limits = limits;
    this.#context = callContext(call, true, parts.nowUs());
    this.#peer = this.#context.peer.address;
    this.#onClosed = onClosed;
    call.on("data", (bytes) => this.#receive(bytes));
    call.on("end", () => {
      this.#halfClosed = true;
      this.finish();
    });
    // Comes after every end, and only when the connection has taken everything: `close` does not wait for that.
    call.on("cancelled", () => this.#close());
    // grpc-js reports the error to the caller; what is left to do here is the same as after any end.
    call.on("error", () => this.#close());
  }

  /** Ends the call when all that is under way has been answered. */
  finish(): void {
    this.#finishing = true;
    this.#endWhenDone();
  }

  #receive(bytes: Buffer): void {
    if (this.#closed || this.#ended) return;
    let ticket: Ticket | null = null;
    const responder: Responder = {
      cancels: (id) => this.#cancel(id),
      refusal: () => this.#refusal(),
      answered: (message) => {
        if (ticket !== null) this.#tickets.delete(ticket);
        this.#write({ infer_response: message }, true);
      },
      refused: (error, id) => {
        if (ticket !== null) this.#tickets.delete(ticket);
        this.#writeError(error, id);
      },
    };
    ticket = this.#parts.gateway.submit(bytes, this.#context, responder);
    if (ticket !== null) this.#tickets.add(ticket);
    this.#adjustReading();
  }

  /** A stream that is full goes on being read, or the cancellations that would make room would not be. */
  #refusal(): RpcError | null {
    const { streamRequestsMax } = this.#limits;
    if (this.#tickets.size < streamRequestsMax) return null;
    return new RpcError(
      "RESOURCE_EXHAUSTED",
      "stream_requests",
      `${streamRequestsMax} requests of this stream are unanswered, which is the most it may have: wait for answers, or open another stream`,
      RETRY_AFTER_MS,
    );
  }

  #cancel(id: string): void {
    for (const ticket of this.#tickets) {
      if (ticket.id !== id || !ticket.cancel()) continue;
      this.#tickets.delete(ticket);
      this.#writeError(new RpcError("CANCELLED", "cancelled", "the request was cancelled by the client"), id);
    }
  }

  #writeError(error: RpcError, id: string): void {
    const parameters = errorParameters(error, this.#parts.errors);
    this.#write({ error_message: error.message, infer_response: { id, parameters } }, false);
  }

  /** Throws `RpcError` where a message that may be dropped finds no room. */
  #write(message: { error_message?: string; infer_response: WireResponse }, droppable: boolean): void {
    if (this.#closed || this.#ended) return;
    const bytes = this.#parts.codec.encodeStreamResponse(message);
    const size = bytes.byteLength;
    if (droppable) this.#unread.take(this.#peer, size);
    else this.#unread.takeAnyway(this.#peer, size);
    this.#unreadBytes += size;
    const written = () => {
      if (this.#closed) return;
      this.#unreadBytes -= size;
      this.#unread.give(this.#peer, size);
      this.#adjustReading();
    };
    this.#call.write({ bytes, written });
    this.#endWhenDone();
  }

  /** A caller that does not take its answers is not read from. */
  #adjustReading(): void {
    const full = this.#unreadBytes > this.#limits.streamUnreadBytesMax;
    if (full === this.#paused) return;
    this.#paused = full;
    if (full) this.#call.pause();
    else this.#call.resume();
  }

  #endWhenDone(): void {
    if (!this.#finishing || this.#ended || this.#closed || this.#tickets.size > 0) return;
    this.#ended = true;
    if (this.#halfClosed) this.#call.end();
    // Requests may be on their way, or yet to be sent: their caller must not take the end for that of its answers.
    else this.#call.emit("error", { code: status.UNAVAILABLE, details: "the daemon is shutting down" });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const ticket of this.#tickets) ticket.cancel();
    this.#tickets.clear();
    this.#unread.give(this.#peer, this.#unreadBytes);
    this.#unreadBytes = 0;
    this.#onClosed();
  }
}
