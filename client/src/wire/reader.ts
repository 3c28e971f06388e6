/** Reads protobuf fields from a received message. */
import { FIXED32, FIXED64, LENGTH, VARINT } from "./writer.ts";

/** The bytes are not a well-formed message. */
export class MalformedMessage extends Error {}

function narrow(value: bigint): number | bigint {
  const asNumber = Number(value);
  return Number.isSafeInteger(asNumber) ? asNumber : value;
}

export class Reader {
  readonly buffer: Buffer;
  offset: number;
  readonly end: number;

  constructor(buffer: Buffer, offset = 0, end: number = buffer.length) {
    if (end > buffer.length) throw new MalformedMessage("a length points beyond the message's end");
    this.buffer = buffer;
    this.offset = offset;
    this.end = end;
  }

  get more(): boolean {
    return this.offset < this.end;
  }

  #byte(): number {
    if (this.offset >= this.end) throw new MalformedMessage("the message ends within a field");
    return this.buffer[this.offset++]!;
  }

  /** Up to four bytes of a varint, which are exact and fast as a number; -1, and nothing consumed, for a longer one. */
  #shortVarint(): number {
    const start = this.offset;
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#byte();
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    this.offset = start;
    return -1;
  }

  /** A varint of a signed field as a number; exact within ±2^53. */
  varint(): number {
    const short = this.#shortVarint();
    return short >= 0 ? short : Number(BigInt.asIntN(64, this.varint64()));
  }

  /** A varint of an int64 field: a number where that is exact, else a bigint. */
  int64(): number | bigint {
    const short = this.#shortVarint();
    return short >= 0 ? short : narrow(BigInt.asIntN(64, this.varint64()));
  }

  /** A varint of a uint64 field: a number where that is exact, else a bigint. */
  uint64(): number | bigint {
    const short = this.#shortVarint();
    return short >= 0 ? short : narrow(this.varint64());
  }

  /** A varint as 64 unsigned bits. */
  varint64(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new MalformedMessage("a varint has more than ten bytes");
  }

  double(): number {
    const at = this.#advance(8);
    return this.buffer.readDoubleLE(at);
  }

  float(): number {
    const at = this.#advance(4);
    return this.buffer.readFloatLE(at);
  }

  string(): string {
    const size = this.varint();
    const at = this.#advance(size);
    return this.buffer.toString("utf8", at, at + size);
  }

  /** A view on the message. */
  bytes(): Buffer {
    const size = this.varint();
    const at = this.#advance(size);
    return this.buffer.subarray(at, at + size);
  }

  /** A nested message or packed list. */
  nested(): Reader {
    const size = this.varint();
    const at = this.#advance(size);
    return new Reader(this.buffer, at, at + size);
  }

  skip(tag: number): void {
    switch (tag & 7) {
      case VARINT:
        this.varint64();
        return;
      case FIXED64:
        this.#advance(8);
        return;
      case LENGTH:
        this.#advance(this.varint());
        return;
      case FIXED32:
        this.#advance(4);
        return;
      default:
        throw new MalformedMessage(`unknown wire type ${tag & 7}`);
    }
  }

  #advance(size: number): number {
    const at = this.offset;
    if (size < 0 || at + size > this.end) throw new MalformedMessage("a length points beyond the message's end");
    this.offset = at + size;
    return at;
  }
}
