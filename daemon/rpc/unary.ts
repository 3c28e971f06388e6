/** ModelInfer: one request, one answer. */
import type { Metadata, sendUnaryData } from "@grpc/grpc-js";
import { TENANT_METADATA } from "../../proto/parameters.ts";
import type { InferenceCodec } from "./codec.ts";
import { callDeadlineUs } from "./deadlines.ts";
import { type ErrorStyle, type RpcError, unaryStatus } from "./errors.ts";
import type { CallContext, InferenceGateway } from "./inference-gateway.ts";
import type { WireResponse } from "./messages.ts";
import { Peer } from "./peer.ts";
import type { UnreadAnswers } from "./unread-answers.ts";

/** The part of a grpc-js call that is used here. */
export interface CallFacts {
  readonly metadata: Metadata;
  getDeadline(): Date | number;
  /** Address and port of the connection's other end. */
  getPeer(): string;
}

export interface UnaryCall extends CallFacts {
  readonly request: Buffer;
  /** Emitted when the call has ended, for whatever reason: also after its answer has been taken. */
  on(event: "cancelled", listener: () => void): unknown;
}

/** An encoded answer on its way through grpc-js, which serialises only for a call that is still there. */
export class EncodedAnswer {
  readonly bytes: Buffer;
  #sent = false;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  get sent(): boolean {
    return this.#sent;
  }

  /** What grpc-js is given as serialiser. */
  static serialize(answer: EncodedAnswer): Buffer {
    answer.#sent = true;
    return answer.bytes;
  }
}

export interface TransportParts {
  readonly gateway: InferenceGateway;
  readonly codec: InferenceCodec;
  readonly unread: UnreadAnswers;
  readonly errors: ErrorStyle;
  /** The engine's clock, microseconds. */
  nowUs(): number;
}

/** What a call states for all its requests. */
export function callContext(call: CallFacts, stream: boolean, nowUs: number): CallContext {
  const tenant = call.metadata.get(TENANT_METADATA)[0];
  return {
    deadline: { atUs: callDeadlineUs(call.getDeadline(), Date.now(), nowUs), stream },
    tenant: typeof tenant === "string" ? tenant : "",
    peer: new Peer(call),
  };
}

export type UnaryHandler = (call: UnaryCall, callback: sendUnaryData<EncodedAnswer>) => void;

export function unaryInference(parts: TransportParts): UnaryHandler {
  const { gateway, codec, unread, errors } = parts;
  return (call, callback) => {
    let peer = "";
    let answerBytes = 0;
    const taken = () => {
      unread.give(peer, answerBytes);
      answerBytes = 0;
    };
    const context = callContext(call, false, parts.nowUs());
    const ticket = gateway.submit(call.request, context, {
      cancels: null,
      answered(message: WireResponse) {
        const answer = new EncodedAnswer(codec.encodeResponse(message));
        peer = context.peer.address;
        unread.take(peer, answer.bytes.byteLength);
        answerBytes = answer.bytes.byteLength;
        callback(null, answer);
        // A call that is gone is not told again that it has ended: then nothing holds the answer either.
        if (!answer.sent) taken();
      },
      refused(error: RpcError) {
        callback(unaryStatus(error, errors));
      },
    });
    call.on("cancelled", () => {
      ticket?.cancel();
      taken();
    });
  };
}
