/**
 * Seeded random numbers that are the same on every machine: integer arithmetic and exactly rounded operations only.
 * The generator is SplitMix32 (Steele, Lea, Flood 2014, in its 32-bit form), quick enough for tens of millions of weights.
 */
export class Random {
  #state: number;

  constructor(seed: number | string) {
    this.#state = typeof seed === "number" ? seed | 0 : hash(seed);
  }

  /** An integer of 32 bits, unsigned. */
  uint32(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    return mix(this.#state) >>> 0;
  }

  /** In [0, 1). */
  uniform(): number {
    return this.uint32() / 2 ** 32;
  }

  /** An integer in [0, `bound`). */
  below(bound: number): number {
    return Math.floor(this.uniform() * bound);
  }

  /** Values uniform in ±`limit`. */
  fill(count: number, limit: number): Float32Array<ArrayBuffer> {
    const values = new Float32Array(count);
    const scale = limit / 2 ** 31;
    let state = this.#state;
    for (let index = 0; index < count; index++) {
      state = (state + 0x9e3779b9) | 0;
      values[index] = mix(state) * scale;
    }
    this.#state = state;
    return values;
  }

  /** Shuffles in place (Fisher and Yates). */
  shuffle<T>(items: T[]): T[] {
    for (let last = items.length - 1; last > 0; last--) {
      const other = this.below(last + 1);
      [items[last], items[other]] = [items[other]!, items[last]!];
    }
    return items;
  }
}

/** A signed integer of 32 well-mixed bits. */
function mix(state: number): number {
  let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return z ^ (z >>> 15);
}

/** FNV-1a. */
function hash(text: string): number {
  let state = 0x811c9dc5;
  for (const byte of Buffer.from(text)) state = Math.imul(state ^ byte, 0x01000193);
  return state;
}
