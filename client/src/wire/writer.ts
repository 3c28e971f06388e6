/** Writes protobuf fields into one growing buffer. Used for what surrounds tensor bytes, which are copied once, at the end. */

/** Wire types of protobuf. */
export const VARINT = 0;
export const FIXED64 = 1;
export const LENGTH = 2;
export const FIXED32 = 5;

/** Bytes that a varint of this value (at least 0, at most 2^53) takes. */
export function varintBytes(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** Writes a varint (at least 0, at most 2^53) and returns the offset after it. */
export function putVarint(into: Uint8Array, at: number, value: number): number {
  let rest = value;
  let offset = at;
  for (; rest >= 128; rest = Math.floor(rest / 128)) into[offset++] = (rest % 128) | 128;
  into[offset++] = rest;
  return offset;
}

const MAX_VARINT = 10;

export class Writer {
  #buffer: Buffer = Buffer.allocUnsafeSlow(4096);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  reset(): void {
    this.#length = 0;
  }

  /** Copies what was written to the start of `into`. */
  copyTo(into: Uint8Array): void {
    into.set(this.#buffer.subarray(0, this.#length));
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }

  /** Field numbers here are at most 15, so that a tag is one byte. */
  tag(field: number, wireType: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = (field << 3) | wireType;
  }

  varint(value: number): void {
    this.#reserve(MAX_VARINT);
    this.#length = putVarint(this.#buffer, this.#length, value);
  }

  /** A 64-bit varint: of a negative value, its two's complement. */
  varint64(value: bigint): void {
    this.#reserve(MAX_VARINT);
    let rest = BigInt.asUintN(64, value);
    for (; rest >= 128n; rest >>= 7n) this.#buffer[this.#length++] = Number(rest & 127n) | 128;
    this.#buffer[this.#length++] = Number(rest);
  }

  double(value: number): void {
    this.#reserve(8);
    this.#length = this.#buffer.writeDoubleLE(value, this.#length);
  }

  /** A string field; nothing for an empty string, as protobuf has it. */
  string(field: number, value: string): void {
    if (value !== "") this.stringAlways(field, value);
  }

  /** A string field that is written even when empty: a member of a oneof. */
  stringAlways(field: number, value: string): void {
    this.tag(field, LENGTH);
    const mark = this.begin();
    // UTF-8 takes at most three bytes for each UTF-16 unit.
    this.#reserve(value.length * 3);
    this.#length += this.#buffer.write(value, this.#length);
    this.end(mark);
  }

  /** Starts something whose length goes before it; give the result to `end`. */
  begin(): number {
    this.#reserve(1);
    return this.#length++;
  }

  /** Fills in the length that `begin` left room for, moving the contents where it takes more than one byte. */
  end(mark: number): void {
    const start = mark + 1;
    const size = this.#length - start;
    const lengthBytes = varintBytes(size);
    if (lengthBytes > 1) {
      this.#reserve(lengthBytes - 1);
      this.#buffer.copyWithin(mark + lengthBytes, start, this.#length);
      this.#length += lengthBytes - 1;
    }
    putVarint(this.#buffer, mark, size);
  }
}
