import type { Profile } from "./types.ts";

/** Weight of one observation in a bucket's running ratio, once the bucket has been seen often. */
const BUCKET_GAIN = 0.05;
const TABLE_GAIN = 0.03;
/** Observations a bucket needs before its own ratio counts as much as the whole table's. */
const TRUST_COUNT = 4;
/**
 * After this long without an execution, longer each time that it did not help, what was learnt is doubted where it keeps work from ever
 * being executed, and so from being learnt anew.
 */
const PATIENCE_US = 1_000_000;
const PATIENCE_MAX_US = 60_000_000;
/** An execution that took more than this times its prediction counts as this: a hiccup is no new profile. */
const OUTLIER_RATIO = 3;
/** Margin added to predictions where a deadline is checked, in mean absolute deviations of what was observed. */
export const MARGIN_DEVIATIONS = 1.25;

/**
 * What batches of one model and shape take on one lane: the profile it was given, kept current by what is observed.
 * Looked up by number of items, so that padding is part of the answer.
 */
export class ProfileTable {
  /** Most items that one batch can hold here. */
  readonly cap: number;
  /** Expected duration by items, 0..cap. */
  readonly us: Float64Array;
  /** The same with a margin for how far executions were off: for checks against deadlines. */
  readonly safeUs: Float64Array;
  /** Bucket that holds so many items. */
  readonly bucket: Int32Array;
  /** Given that so many items could run: how many should, so that padding does not waste more than waiting. */
  readonly best: Int32Array;
  /** Mean absolute deviation of actual from predicted durations, relative. */
  deviation = 0;

  readonly #points: Profile;
  readonly #maxBatch: number;
  readonly #ratios: Float64Array;
  readonly #counts: Int32Array;
  #ratio = 1;
  /** Observations since it was doubted: the first of them say most. */
  #count: number = Number.POSITIVE_INFINITY;
  #observedUs: number = Number.NEGATIVE_INFINITY;
  #doubtedUs: number = Number.NEGATIVE_INFINITY;
  #patienceUs = PATIENCE_US;

  constructor(profile: Profile, maxBatch: number) {
    this.#points = profile;
    this.#maxBatch = maxBatch;
    const last = profile[profile.length - 1];
    if (last === undefined) throw new Error("A profile needs at least one bucket.");
    this.cap = Math.min(maxBatch, last.bucket);
    this.us = new Float64Array(this.cap + 1);
    this.safeUs = new Float64Array(this.cap + 1);
    this.bucket = new Int32Array(this.cap + 1);
    this.best = new Int32Array(this.cap + 1);
    this.#ratios = new Float64Array(profile.length).fill(1);
    this.#counts = new Int32Array(profile.length);
    this.#fill();
  }

  /** Whether it was made from these, so that what it has learnt goes on to hold. */
  isMadeFrom(profile: Profile, maxBatch: number): boolean {
    if (maxBatch !== this.#maxBatch || profile.length !== this.#points.length) return false;
    return profile.every(({ bucket, us }, i) => bucket === this.#points[i]!.bucket && us === this.#points[i]!.us);
  }

  /** Learns from an execution of `bucket` items that took `us` and ended now. */
  observe(bucket: number, us: number, nowUs: number): void {
    this.#observedUs = nowUs;
    const index = this.#points.findIndex((point) => point.bucket === bucket);
    if (index < 0) return;
    const told = this.#points[index]!.us;
    const predicted = this.us[Math.min(bucket, this.cap)]!;
    const ratio = Math.min(us / told, (OUTLIER_RATIO * predicted) / told);
    this.deviation += TABLE_GAIN * (Math.min(Math.abs(us / predicted - 1), 1) - this.deviation);
    this.#ratio += Math.max(TABLE_GAIN, 1 / (++this.#count + 1)) * (ratio - this.#ratio);
    const count = ++this.#counts[index]!;
    this.#ratios[index]! += Math.max(BUCKET_GAIN, 1 / (count + 1)) * (ratio - this.#ratios[index]!);
    this.#fill();
  }

  /**
   * Goes back to the profile that it was given where that alone lets so many items end within `roomUs` and none were executed for a while: a
   * device that was slow for a time, or a few hiccups, would shut a model out for ever. Returns whether it did.
   */
  doubt(items: number, roomUs: number, nowUs: number): boolean {
    if (items > this.cap || this.us[items]! <= roomUs || this.#givenUs(items) > roomUs) return false;
    if (nowUs - Math.max(this.#observedUs, this.#doubtedUs) < this.#patienceUs) return false;
    const isAgain = nowUs - this.#doubtedUs < 2 * PATIENCE_MAX_US;
    this.#patienceUs = Math.min(2 * (isAgain ? this.#patienceUs : PATIENCE_US), PATIENCE_MAX_US);
    this.#doubtedUs = nowUs;
    this.#ratio = 1;
    this.#count = 0;
    this.#ratios.fill(1);
    this.#counts.fill(0);
    this.#fill();
    return true;
  }

  #givenUs(items: number): number {
    return this.#points.find(({ bucket }) => bucket >= items)!.us;
  }

  #fill(): void {
    const margin = 1 + MARGIN_DEVIATIONS * (this.deviation < 0.002 ? 0 : this.deviation);
    let items = 1;
    let floorUs = 0;
    for (let p = 0; p < this.#points.length && items <= this.cap; p++) {
      const point = this.#points[p]!;
      const trust = Math.min(this.#counts[p]!, 5 * TRUST_COUNT);
      const ratio = (trust * this.#ratios[p]! + TRUST_COUNT * this.#ratio) / (trust + TRUST_COUNT);
      // Larger batches never take less: noise in neighbouring buckets must not invert their order.
      floorUs = Math.max(floorUs, point.us * ratio);
      for (; items <= this.cap && items <= point.bucket; items++) {
        this.us[items] = floorUs;
        this.safeUs[items] = floorUs * margin;
        this.bucket[items] = point.bucket;
      }
    }
    this.#fillBest();
  }

  #fillBest(): void {
    let best = 1;
    for (let items = 1; items <= this.cap; items++) {
      if (this.us[items]! * best <= this.us[best]! * items * 1.0001) best = items;
      this.best[items] = best;
    }
  }
}

/** Most items, at most `limit`, whose batch takes no longer than `roomUs` including the margin; 0 if none does. */
export function largestWithin(safeUs: Float64Array, limit: number, roomUs: number): number {
  if (limit <= 0 || safeUs[1]! > roomUs) return 0;
  if (safeUs[limit]! <= roomUs) return limit;
  let low = 1;
  let high = limit;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (safeUs[middle]! <= roomUs) low = middle;
    else high = middle;
  }
  return low;
}
