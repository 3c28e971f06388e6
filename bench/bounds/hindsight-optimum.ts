import type { ModelInstance } from "./instance.ts";

/**
 * The most requests of one model that one lane can serve on time, knowing all arrivals: exact for requests of one size
 * and one budget.
 *
 * Some best schedule runs batches in order of arrival, each of requests that arrived one after another: exchanging
 * requests between batches, or a request for one that arrived later but not after the batch's last, breaks no deadline.
 * So let F(d, i) be the least time at which all of the first i requests are served or dropped, d of them dropped:
 *
 *     F(d, i) = min( F(d − 1, i − 1),  min over b of max(F(d, i − b), a_i) + l(b) where that is ≤ a_(i−b+1) + S )
 *
 * and the fewest drops are the least d with F(d, n) finite. Takes n · d · b steps.
 *
 * @param dropsMax where more drops than this are needed, the answer is that of one drop more: an upper bound
 */
export function mostOnTime(
  { arrivalsUs: arrivals, budgetUs, tableUs: table }: ModelInstance,
  dropsMax: number = Number.POSITIVE_INFINITY,
): number {
  const n = arrivals.length;
  let batchMax = 0;
  while (batchMax + 1 < table.length && table[batchMax + 1]! <= budgetUs) batchMax++;
  let before = new Float64Array(n + 1).fill(Number.POSITIVE_INFINITY);
  let row = new Float64Array(n + 1);
  for (let drops = 0; drops <= Math.min(n, dropsMax); drops++) {
    row.fill(Number.POSITIVE_INFINITY);
    if (drops === 0) row[0] = 0;
    for (let i = Math.max(1, drops); i <= n; i++) {
      const readyUs = arrivals[i - 1]!;
      let least = before[i - 1]!;
      const largest = Math.min(batchMax, i - drops);
      for (let b = 1; b <= largest; b++) {
        const dueUs = arrivals[i - b]! + budgetUs;
        // Longer batches begin with older requests and take longer: none of them can meet its deadline either.
        if (readyUs + table[b]! > dueUs) break;
        const freeUs = row[i - b]!;
        const endUs = (freeUs > readyUs ? freeUs : readyUs) + table[b]!;
        if (endUs <= dueUs && endUs < least) least = endUs;
      }
      row[i] = least;
    }
    if (row[n]! < Number.POSITIVE_INFINITY) return n - drops;
    [before, row] = [row, before];
  }
  return Math.max(0, n - dropsMax - 1);
}
