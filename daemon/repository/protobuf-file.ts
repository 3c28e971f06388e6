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

/** Bytes of a field's payload by wire type, where it states no length; a varint stands in the header. */
const FIXED_BYTES: readonly (number | undefined)[] = [0, 8, undefined, undefined, undefined, 4];
/** A tag and a length or value, each a varint of at most ten bytes. */
const HEADER_BYTES_MAX = 20;
/** Other work runs while the next window is read; the shortest fields, 16,384 in one of this size, take about 1 ms. */
const WINDOW_BYTES = 32 * 1024;

/**
 * Walks the fields of protobuf messages in a file in order, through a window, so that payloads nobody asks for (weights)
 * are never read. Works on files of any size.
 */
export class ProtobufFile {
  readonly size: number;
  readonly #file: FileHandle;
  #window: Buffer = Buffer.alloc(0);
  #windowStart = 0;
  /** Where in the window the next varint is read. */
  #at = 0;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.size = size;
  }

  /**
   * Calls `visit` for each field of the message in the byte range, in order, awaiting it where it returns a promise: for a
   * field that comes by the million (the numbers of an attribute, say), it had better return none.
   * Throws ProtobufFileError.
   */
  async walk(start: number, end: number, visit: (field: ProtobufField) => Promise<unknown> | undefined): Promise<void> {
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
    this.#at = position - this.#windowStart;
    const limit = Math.min(this.#at + HEADER_BYTES_MAX, this.#at + end - position);
    const tag = this.#varint(limit);
    const wireType = tag & 7;
    const scalar = wireType === 0 || wireType === 2 ? this.#varint(limit) : 0;
    if (Number.isNaN(tag) || Number.isNaN(scalar)) {
      throw position + HEADER_BYTES_MAX > end
        ? this.#overrun(position, end)
        : new ProtobufFileError("malformed", `there is no valid field at byte ${position}`);
    }
    const number = tag >>> 3;
    if (number === 0) throw new ProtobufFileError("malformed", `a field at byte ${position} has the number 0`);
    const delimited = wireType === 2;
    const length = delimited ? scalar : FIXED_BYTES[wireType];
    if (length === undefined) {
      throw new ProtobufFileError("malformed", `a field at byte ${position} has the wire type ${wireType}`);
    }
    const payload = this.#windowStart + this.#at;
    if (length < 0 || payload + length > end) throw this.#overrun(position, end);
    return { number, value: delimited ? 0 : scalar, delimited, start: payload, end: payload + length };
  }

  /**
   * The varint at `#at`, which moves past it, as a signed number of 64 bits; NaN where none ends before `limit`. A
   * protobuf.Reader for each field would take most of the time that reading a tree ensemble takes.
   */
  #varint(limit: number): number {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70 && this.#at < limit; shift += 7) {
      const byte = this.#window[this.#at++]!;
      const bits = byte & 0x7f;
      if (shift < 32) low |= bits << shift;
      if (shift > 31) high |= bits << (shift - 32);
      else if (shift === 28) high = bits >>> 4;
      if (byte < 0x80) return high * 2 ** 32 + (low >>> 0);
    }
    return Number.NaN;
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
