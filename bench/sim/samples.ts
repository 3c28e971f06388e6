import type { LatencyMs } from "./result.ts";

/** A growing list of numbers, kept flat so that a million of them cost eight megabytes. */
export class Samples {
  #values = new Float64Array(256);
  #length = 0;

  add(value: number): void {
    if (this.#length === this.#values.length) {
      const grown = new Float64Array(this.#length * 2);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[this.#length++] = value;
  }

  addAll(other: Samples): void {
    for (const value of other.#values.subarray(0, other.#length)) this.add(value);
  }

  /** Exact percentiles (nearest rank) of samples in microseconds, as milliseconds. */
  latencyMs(): LatencyMs {
    const sorted = this.#values.slice(0, this.#length).sort();
    const at = (share: number): number =>
      sorted.length === 0 ? 0 : sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]! / 1000;
    return { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1) };
  }
}
