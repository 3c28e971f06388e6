import type { FileHandle } from "node:fs/promises";
import protobuf from "protobufjs/minimal.js";

/** A field of a protobuf message in a file: a scalar value, or the byte range of a string, bytes or nested message. */
export interface ProtobufField {
  readonly number: number;
  /** Value of a varint field; 0 for the others. */
  readonly value: number;
  /** Whether the field is length-delimited, so that `start` and `end` bound its payload. */
  readonly delimited: boolean;
  readonly start: number;
  readonly end: number;
}

/** The bytes are no valid protobuf message: they end too early or make no sense. */
export class ProtobufFileError extends Error {
  readonly kind: "truncated" | "malformed";

  constructor(kind: "truncated" | "malformed", message: string) {
    super(message);
    this.name = "ProtobufFileError";
    this.kind = kind;
  }
}

/** A tag and a length, each a varint of at most ten bytes. */
const HEADER_BYTES_MAX = 20;
const WINDOW_BYTES = 256 * 1024;

/**
 * Walks the fields of protobuf messages in a file in order, through a window, so that payloads nobody asks for (weights)
 * are never read. Works on files of any size.
 */
export class ProtobufFile {
  readonly size: number;
  readonly #file: FileHandle;
  #window: Buffer = Buffer.alloc(0);
  #windowStart = 0;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.size = size;
  }

  /**
   * Calls `visit` for each field of the message in the byte range, in order, awaiting it where it returns a promise.
   * Throws ProtobufFileError.
   */
  async walk(start: number, end: number, visit: (field: ProtobufField) => Promise<void> | void): Promise<void> {
    let position = start;
    while (position < end) {
      if (!this.#holds(position, Math.min(position + HEADER_BYTES_MAX, this.size))) await this.#fill(position);
      const field = this.#field(position, end);
      const pending = visit(field);
      if (pending !== undefined) await pending;
      position = field.end;
    }
  }

  /** The bytes of a range, as a view that is valid until the next call of any method. Throws ProtobufFileError. */
  async bytes(start: number, end: number): Promise<Uint8Array> {
    if (!this.#holds(start, end)) await this.#fill(start, end - start);
    return this.#window.subarray(start - this.#windowStart, end - this.#windowStart);
  }

  #holds(start: number, end: number): boolean {
    return start >= this.#windowStart && end <= this.#windowStart + this.#window.length;
  }

  #field(position: number, end: number): ProtobufField {
    const at = position - this.#windowStart;
    const reader = protobuf.Reader.create(
      this.#window.subarray(at, Math.min(at + HEADER_BYTES_MAX, at + end - position)),
    );
    try {
      const tag = reader.uint32();
      const number = tag >>> 3;
      if (number === 0) throw new ProtobufFileError("malformed", `a field at byte ${position} has the number 0`);
      let length = 0;
      let value = 0;
      const wireType = tag & 7;
      if (wireType === 0) value = Number(reader.int64());
      else if (wireType === 1) length = 8;
      else if (wireType === 2) length = Number(reader.uint64());
      else if (wireType === 5) length = 4;
      else throw new ProtobufFileError("malformed", `a field at byte ${position} has the wire type ${wireType}`);
      const payload = position + reader.pos;
      if (payload + length > end) throw this.#overrun(position, end);
      return { number, value, delimited: wireType === 2, start: payload, end: payload + length };
    } catch (error) {
      if (error instanceof ProtobufFileError) throw error;
      throw position + HEADER_BYTES_MAX > end
        ? this.#overrun(position, end)
        : new ProtobufFileError("malformed", `there is no valid field at byte ${position}`);
    }
  }

  #overrun(position: number, end: number): ProtobufFileError {
    return end === this.size
      ? new ProtobufFileError("truncated", `a field at byte ${position} reaches past the end of the file`)
      : new ProtobufFileError("malformed", `a field at byte ${position} reaches past the message that holds it`);
  }

  async #fill(start: number, length: number = WINDOW_BYTES): Promise<void> {
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.size - start);
    const window = Buffer.allocUnsafeSlow(wanted);
    let filled = 0;
    while (filled < wanted) {
      const { bytesRead } = await this.#file.read(window, filled, wanted - filled, start + filled);
      if (bytesRead === 0) throw new ProtobufFileError("truncated", "the file became shorter while it was read");
      filled += bytesRead;
    }
    this.#window = window;
    this.#windowStart = start;
  }
}

/** The values of a packed varint field. Throws ProtobufFileError. */
export function unpackVarints(bytes: Uint8Array): number[] {
  const reader = protobuf.Reader.create(bytes);
  const values: number[] = [];
  try {
    while (reader.pos < reader.len) values.push(Number(reader.int64()));
  } catch {
    throw new ProtobufFileError("malformed", "a list of integers ends within one");
  }
  return values;
}
