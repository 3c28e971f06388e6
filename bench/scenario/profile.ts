import type { Profile } from "../../daemon/scheduler/types.ts";
import type { ProfileSpec } from "./types.ts";

/**
 * A scenario's profile as the scheduler takes it, in integer microseconds.
 *
 * @param maxBatch buckets above it are left out; a measured profile may end below it
 * @param factor on every time
 */
export function toProfile(spec: ProfileSpec, maxBatch: number, factor = 1): Profile {
  const us = (ms: number): number => Math.max(1, Math.round(ms * 1000 * factor));
  if ("points_ms" in spec) {
    const within = spec.points_ms.filter(([, ms], i) => i === 0 || (spec.points_ms[i - 1]![0] < maxBatch && ms > 0));
    return within.map(([bucket, ms]) => ({ bucket, us: us(ms) }));
  }
  return Array.from({ length: maxBatch }, (_, i) => ({
    bucket: i + 1,
    us: us(spec.alpha_ms * (i + 1) + spec.beta_ms),
  }));
}

/** α and β of l(b) = α·b + β in milliseconds; for measured points the least-squares line through them. */
export function linearFit(spec: ProfileSpec): { readonly alphaMs: number; readonly betaMs: number } {
  if (!("points_ms" in spec)) return { alphaMs: spec.alpha_ms, betaMs: spec.beta_ms };
  const points = spec.points_ms;
  const n = points.length;
  const meanB = points.reduce((sum, [b]) => sum + b, 0) / n;
  const meanMs = points.reduce((sum, [, ms]) => sum + ms, 0) / n;
  const square = points.reduce((sum, [b]) => sum + (b - meanB) ** 2, 0);
  const slope = square === 0 ? 0 : points.reduce((sum, [b, ms]) => sum + (b - meanB) * (ms - meanMs), 0) / square;
  const alphaMs = Math.max(0, slope);
  return { alphaMs, betaMs: Math.max(0, meanMs - alphaMs * meanB) };
}
