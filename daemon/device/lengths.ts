/** Which lengths requests are padded to, chosen by how long batches of them take. */
import type { ProfilePoint } from "../scheduler/types.ts";
import { bucketsToAdd, monotoneProfile } from "./profile.ts";

/** Shorter sequences cost no less worth mentioning. */
const LENGTH_MIN = 16;
/** A length is superfluous where a batch of the next one takes no more than this many times as long. */
const SAME_TIME_RATIO = 1.1;

/** Powers of two up to the largest length, which is one of them itself. */
export function candidateLengths(lengthMax: number): number[] {
  const lengths: number[] = [];
  for (let length = LENGTH_MIN; length < lengthMax; length *= 2) lengths.push(length);
  lengths.push(lengthMax);
  return lengths;
}

/**
 * Powers of two, with a length between two of them where padding up to the next costs much, and without those whose padding
 * to the next is as good as free: requests of one length share batches, those of two do not.
 *
 * @param measure time of a batch of this length; a length at which it rejects is left out
 * @returns ascending; rejects with the last failure where no length could be executed
 */
export async function chooseLengths(
  lengthMax: number,
  measure: (length: number) => Promise<number>,
): Promise<readonly number[]> {
  const points: ProfilePoint[] = [];
  let lastFailure: unknown = null;
  const add = async (length: number): Promise<void> => {
    try {
      points.push({ bucket: length, us: await measure(length) });
    } catch (error) {
      lastFailure = error;
    }
  };
  for (const length of candidateLengths(lengthMax)) await add(length);
  for (const length of bucketsToAdd(monotoneProfile(points))) await add(length);
  if (points.length === 0) throw lastFailure;
  const kept: ProfilePoint[] = [];
  for (const point of [...monotoneProfile(points)].reverse()) {
    const longer = kept[0];
    if (longer === undefined || longer.us > point.us * SAME_TIME_RATIO) kept.unshift(point);
  }
  return kept.map(({ bucket }) => bucket);
}
