/** A value and how much it counts. */
export type Weighted = readonly [value: number, weight: number];

/** The smallest value that at least this share of the total weight does not exceed; NaN where there is none. */
export function weightedQuantile(samples: readonly Weighted[], share: number): number {
  const ordered = [...samples].sort((a, b) => a[0] - b[0]);
  const total = ordered.reduce((sum, [, weight]) => sum + weight, 0);
  let reached = 0;
  for (const [value, weight] of ordered) {
    reached += weight;
    if (reached >= share * total) return value;
  }
  return Number.NaN;
}

export function quantile(values: readonly number[], share: number): number {
  return weightedQuantile(
    values.map((value) => [value, 1]),
    share,
  );
}
