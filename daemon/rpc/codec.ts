/**
 * Decoding and encoding of the hot messages straight with protobufjs. The service definition of the generic loader
 * converts every message to a plain object with all defaults filled in, which costs as much again as decoding does.
 */
import path from "node:path";
import protobuf from "protobufjs";
import { PROTO_DIR } from "../../proto/load.ts";
import type { ReadRequest, WireResponse, WireStreamResponse } from "./messages.ts";

export interface InferenceCodec {
  /** The tensors' bytes are views on `bytes`. Throws on what is no ModelInferRequest. */
  decodeRequest(bytes: Uint8Array): ReadRequest;
  /** Copies everything it is given, so that views may die afterwards. */
  encodeResponse(response: WireResponse): Buffer;
  encodeStreamResponse(response: WireStreamResponse): Buffer;
}

/** Reads and parses the .proto files (some 20 ms: call once). */
export function loadCodec(): InferenceCodec {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => path.join(PROTO_DIR, target);
  root.loadSync("inference.proto", { keepCase: true });
  root.resolveAll();
  const request = root.lookupType("inference.ModelInferRequest");
  const response = root.lookupType("inference.ModelInferResponse");
  const streamResponse = root.lookupType("inference.ModelStreamInferResponse");
  return {
    decodeRequest: (bytes) => request.decode(bytes) as unknown as ReadRequest,
    // In Node the writer's buffer is a Buffer, whatever its declared type.
    encodeResponse: (message) => response.encode(message).finish() as Buffer,
    encodeStreamResponse: (message) => streamResponse.encode(message).finish() as Buffer,
  };
}

const ID_FIELD = 3;
const LENGTH_DELIMITED = 2;

/** The `id` of an encoded ModelInferRequest, without decoding the rest; empty where it has none or is malformed. */
export function peekRequestId(bytes: Uint8Array): string {
  try {
    const reader = protobuf.Reader.create(bytes);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag >>> 3 === ID_FIELD && (tag & 7) === LENGTH_DELIMITED) return reader.string();
      reader.skipType(tag & 7);
    }
  } catch {
    // Malformed messages are reported when they are decoded; here only the id is missing.
  }
  return "";
}
