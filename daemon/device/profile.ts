/** Arithmetic on profiles: making measured points monotone, choosing buckets, scaling to shapes never measured. */
import type { Profile, ProfilePoint } from "../scheduler/types.ts";

/** Powers of two up to the largest batch, which is a bucket itself. */
export function powerOfTwoBuckets(maxBatch: number): number[] {
  const buckets: number[] = [];
  for (let bucket = 1; bucket < maxBatch; bucket *= 2) buckets.push(bucket);
  buckets.push(maxBatch);
  return buckets;
}

/** A step between buckets is worth halving where it makes the execution this much longer. */
const STEP_RATIO_MAX = 1.5;

/**
 * Buckets worth adding between those measured: where execution time grows nearly as the batch does, padding up to the next
 * power of two costs up to half the device's time, and a bucket in the middle halves that. Where time hardly grows, padding
 * is free and the steps are left as they are.
 */
export function bucketsToAdd(profile: Profile): number[] {
  const added: number[] = [];
  for (let index = 1; index < profile.length; index++) {
    const low = profile[index - 1]!;
    const high = profile[index]!;
    if (high.bucket - low.bucket < 2 || high.us < low.us * STEP_RATIO_MAX) continue;
    added.push(Math.ceil((low.bucket + high.bucket) / 2));
  }
  return added;
}

/**
 * Least-squares monotone fit (pool adjacent violators), then strictly ascending in whole microseconds: noise in the
 * measurements must not make a larger bucket look cheaper than a smaller one.
 */
export function monotoneProfile(measured: readonly ProfilePoint[]): Profile {
  const points = [...measured].sort((a, b) => a.bucket - b.bucket);
  const pools: { sum: number; count: number }[] = [];
  for (const point of points) {
    pools.push({ sum: point.us, count: 1 });
    while (pools.length > 1) {
      const last = pools[pools.length - 1]!;
      const before = pools[pools.length - 2]!;
      if (before.sum / before.count <= last.sum / last.count) break;
      before.sum += last.sum;
      before.count += last.count;
      pools.pop();
    }
  }
  const fitted = pools.flatMap(({ sum, count }) => new Array<number>(count).fill(sum / count));
  let previousUs = 0;
  return points.map(({ bucket }, index) => {
    previousUs = Math.max(previousUs + 1, Math.round(fitted[index]!));
    return { bucket, us: previousUs };
  });
}

/** A guess for a shape of `ratio` times the elements of the one measured: time in proportion. */
export function scaledProfile(profile: Profile, ratio: number): Profile {
  return monotoneProfile(profile.map(({ bucket, us }) => ({ bucket, us: us * ratio })));
}

/** What a batch of this size takes; the profile has to have the size. */
export function usOf(profile: Profile, bucket: number): number {
  return profile.find((point) => point.bucket === bucket)!.us;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
