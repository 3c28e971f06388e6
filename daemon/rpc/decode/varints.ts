/** Varints as two words: the protobuf library makes an object of every 64-bit integer. */

const BYTES_MAX = 10;

/** How many varints there are from `start` to `end`; null where those bytes are none. */
export function countVarints(bytes: Uint8Array, start: number, end: number): number | null {
  let count = 0;
  let length = 0;
  for (let at = start; at < end; at++) {
    if (++length > BYTES_MAX) return null;
    if (bytes[at]! >= 0x80) continue;
    count++;
    length = 0;
  }
  return length === 0 ? count : null;
}

/** Reads varints that have been counted. */
export class VarintReader {
  readonly #bytes: Uint8Array;
  /** Where the next one begins. */
  at = 0;
  /** The one that was read: its lower and upper 32 bits, signed. */
  low = 0;
  high = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  next(): void {
    const bytes = this.#bytes;
    let byte = bytes[this.at++]!;
    let low = byte & 0x7f;
    let high = 0;
    for (let shift = 7; byte >= 0x80; shift += 7) {
      byte = bytes[this.at++]!;
      const bits = byte & 0x7f;
      if (shift < 32) low |= bits << shift;
      if (shift === 28) high = bits >>> 4;
      else if (shift > 28) high |= bits << (shift - 32);
    }
    this.low = low;
    this.high = high;
  }
}
