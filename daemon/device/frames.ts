/**
 * Messages between the daemon and a lane: a small JSON header, and where strings or outputs that have no place in the arena
 * travel, a payload of bytes. On a socket each is a frame: two lengths (u32, little-endian), header, payload.
 */
const PREFIX_BYTES = 8;

export interface Frame<Message> {
  readonly message: Message;
  readonly payload: Uint8Array;
}

const EMPTY = new Uint8Array(0);

/** One buffer for the header; the payload follows it unchanged. */
export function encodeHeader(message: unknown, payloadBytes: number): Buffer {
  const json = JSON.stringify(message);
  const jsonBytes = Buffer.byteLength(json);
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + jsonBytes);
  frame.writeUInt32LE(jsonBytes, 0);
  frame.writeUInt32LE(payloadBytes, 4);
  frame.write(json, PREFIX_BYTES);
  return frame;
}

/** Cuts a byte stream into frames; payloads are copies that stay valid. */
export class FrameReader<Message> {
  readonly #onFrame: (frame: Frame<Message>) => void;
  #chunks: Buffer[] = [];
  #buffered = 0;
  #wanted = PREFIX_BYTES;

  constructor(onFrame: (frame: Frame<Message>) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    // Chunks are joined only when a frame is complete: a payload of many megabytes comes in pieces of 64 KiB.
    if (this.#buffered < this.#wanted) return;
    let bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#buffered);
    for (;;) {
      this.#wanted = PREFIX_BYTES;
      if (bytes.length < this.#wanted) break;
      const jsonBytes = bytes.readUInt32LE(0);
      const payloadBytes = bytes.readUInt32LE(4);
      this.#wanted = PREFIX_BYTES + jsonBytes + payloadBytes;
      if (bytes.length < this.#wanted) break;
      const message = JSON.parse(bytes.toString("utf8", PREFIX_BYTES, PREFIX_BYTES + jsonBytes)) as Message;
      const payload = payloadBytes === 0 ? EMPTY : bytes.subarray(PREFIX_BYTES + jsonBytes, this.#wanted);
      bytes = bytes.subarray(this.#wanted);
      this.#onFrame({ message, payload });
    }
    this.#chunks = bytes.length === 0 ? [] : [bytes];
    this.#buffered = bytes.length;
  }
}

/** String elements as bytes: each with its length (u32, little-endian) before it. */
export function encodeStrings(elements: readonly Uint8Array[]): Buffer {
  let total = 0;
  for (const element of elements) total += 4 + element.byteLength;
  const bytes = Buffer.allocUnsafe(total);
  let position = 0;
  for (const element of elements) {
    bytes.writeUInt32LE(element.byteLength, position);
    bytes.set(element, position + 4);
    position += 4 + element.byteLength;
  }
  return bytes;
}

/** The inverse of `encodeStrings` for `count` elements from `start`: views on `bytes`, and where they end. */
export function decodeStrings(
  bytes: Uint8Array,
  start: number,
  count: number,
): { elements: Uint8Array[]; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const elements: Uint8Array[] = [];
  let position = start;
  for (let index = 0; index < count; index++) {
    const length = view.getUint32(position, true);
    elements.push(bytes.subarray(position + 4, position + 4 + length));
    position += 4 + length;
  }
  return { elements, end: position };
}
