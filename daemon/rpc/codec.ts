/**
 * Decoding and encoding of the hot messages straight with protobufjs. The service definition of the generic loader
 * converts every message to a plain object with all defaults filled in, which costs as much again as decoding does.
 */
import path from "node:path";
import protobuf from "protobufjs";
import { PROTO_DIR } from "../../proto/load.ts";
import { checkDescription } from "./decode/description.ts";
import type { ReadRequest, WireResponse, WireStreamResponse } from "./messages.ts";

export interface InferenceCodec {
  /** The tensors' bytes are views on `bytes`. Throws on what is no ModelInferRequest, `RpcError` on one that describes too much. */
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
  leaveContentsEncoded(root.lookupType("inference.ModelInferRequest.InferInputTensor"));
  root.resolveAll();
  const request = root.lookupType("inference.ModelInferRequest");
  const response = root.lookupType("inference.ModelInferResponse");
  const streamResponse = root.lookupType("inference.ModelStreamInferResponse");
  return {
    decodeRequest(bytes) {
      checkDescription(bytes);
      return request.decode(bytes) as unknown as ReadRequest;
    },
    // In Node the writer's buffer is a Buffer, whatever its declared type.
    encodeResponse: (message) => response.encode(message).finish() as Buffer,
    encodeStreamResponse: (message) => streamResponse.encode(message).finish() as Buffer,
  };
}

/**
 * A message within a message is bytes on the wire. As such typed contents wait until it is known how many elements there may be,
 * and are then read without arrays of numbers and objects in between, which take many times the message's memory.
 */
function leaveContentsEncoded(input: protobuf.Type): void {
  const { name, id } = input.fields.contents!;
  input.remove(input.fields.contents!);
  // Without a default of its own it would read as an array where it is absent.
  input.add(new protobuf.Field(name, id, "bytes", { default: "" }));
}

const ID_FIELD = 3;
/** Clients write fields in their order, so that few come before the id. */
const PEEK_FIELDS_MAX = 1000;
const LENGTH_DELIMITED = 2;

/** The `id` of an encoded ModelInferRequest, without decoding the rest; empty where it has none near its begin, or is malformed. */
export function peekRequestId(bytes: Uint8Array): string {
  try {
    const reader = protobuf.Reader.create(bytes);
    for (let fields = 0; reader.pos < reader.len && fields < PEEK_FIELDS_MAX; fields++) {
      const tag = reader.uint32();
      if (tag >>> 3 === ID_FIELD && (tag & 7) === LENGTH_DELIMITED) return reader.string();
      reader.skipType(tag & 7);
    }
  } catch {
    // Malformed messages are reported when they are decoded; here only the id is missing.
  }
  return "";
}
