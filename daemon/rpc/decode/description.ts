/** How much of a message may be something else than tensor data. */
import protobuf from "protobufjs";
import { malformedMessage, tooMuchDescription } from "./refusals.ts";

/**
 * Names, shapes, parameters and what separates them become objects, at worst some hundred bytes for two on the wire. This is
 * room for thousands of inputs.
 */
export const DESCRIPTION_BYTES_MAX: number = 2 ** 18;

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const INPUT = 5;
const RAW_CONTENTS = 7;
const FIELDS = 7;
const INPUT_SHAPE = 3;
const INPUT_CONTENTS = 5;
const INPUT_FIELDS = 5;

/**
 * Refuses an encoded ModelInferRequest with more than `DESCRIPTION_BYTES_MAX` bytes outside of raw and typed contents, without
 * decoding it and without looking at what follows them. Throws `RpcError`, or anything else where it is malformed.
 */
export function checkDescription(bytes: Uint8Array): void {
  // Most messages are small as a whole.
  if (bytes.byteLength <= DESCRIPTION_BYTES_MAX) return;
  const reader = protobuf.Reader.create(bytes);
  let contents = 0;
  const tooMuch = () => reader.pos - contents > DESCRIPTION_BYTES_MAX;
  while (reader.pos < reader.len && !tooMuch()) {
    const tag = reader.uint32();
    const field = tag >>> 3;
    // The decoder reads the fields it knows by their type, whatever the wire says: where the two differ, it would see another message.
    if (field >= 1 && field <= FIELDS && (tag & 7) !== LENGTH_DELIMITED) throw malformedMessage();
    if (field === RAW_CONTENTS) {
      contents += skipBytes(reader);
    } else if (field === INPUT) {
      const end = reader.uint32() + reader.pos;
      while (reader.pos < end && !tooMuch()) contents += skipInputField(reader);
      if (reader.pos > end) throw malformedMessage();
    } else {
      reader.skipType(tag & 7);
    }
  }
  if (tooMuch()) throw tooMuchDescription(DESCRIPTION_BYTES_MAX);
}

/** The bytes of its contents. */
function skipInputField(reader: protobuf.Reader): number {
  const tag = reader.uint32();
  const field = tag >>> 3;
  const wireType = tag & 7;
  if (field >= 1 && field <= INPUT_FIELDS && wireType !== LENGTH_DELIMITED) {
    if (field !== INPUT_SHAPE || wireType !== VARINT) throw malformedMessage();
  }
  if (field === INPUT_CONTENTS) return skipBytes(reader);
  reader.skipType(wireType);
  return 0;
}

function skipBytes(reader: protobuf.Reader): number {
  const length = reader.uint32();
  reader.skip(length);
  return length;
}
