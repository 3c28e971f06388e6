/** How cores can be divided into replicas with threads each, and which division serves a model best. */
import type { Profile } from "../scheduler/types.ts";

export interface Split {
  readonly replicas: number;
  /** Intra-op threads of each. */
  readonly threads: number;
}

export interface MeasuredSplit {
  readonly split: Split;
  /** Execution times while all replicas execute. */
  readonly profile: Profile;
}

/** Few copies of a model's weights at a time: measuring a split loads them all. */
const SPLITS_MAX = 4;
/** A request waits for one execution and is in the next: the two together have to fit its SLO. */
const EXECUTIONS_PER_SLO = 2;

/** From many replicas of one thread to one with all threads, in powers of two. */
export function candidateSplits(cores: number, threads: number | null): Split[] {
  if (threads !== null) return [{ replicas: Math.max(1, Math.floor(cores / threads)), threads }];
  const splits: Split[] = [];
  for (let each = 1; each < cores; each *= 2) splits.push({ replicas: Math.floor(cores / each), threads: each });
  splits.push({ replicas: 1, threads: Math.max(1, cores) });
  return splits.length <= SPLITS_MAX ? splits : [...splits.slice(0, SPLITS_MAX - 1), splits.at(-1)!];
}

/** Items a second that all replicas together finish with the best bucket that meets the SLO; 0 where none does. */
export function throughputPerS({ split, profile }: MeasuredSplit, sloUs: number | null): number {
  let best = 0;
  for (const { bucket, us } of profile) {
    if (sloUs !== null && us * EXECUTIONS_PER_SLO > sloUs) continue;
    best = Math.max(best, (split.replicas * bucket * 1e6) / us);
  }
  return best;
}

/** The split with the highest throughput within the SLO; where none meets it, the one with the quickest single item. */
export function bestSplit(measured: readonly MeasuredSplit[], sloUs: number | null): MeasuredSplit {
  const single = ({ profile }: MeasuredSplit): number => profile[0]?.us ?? Number.POSITIVE_INFINITY;
  return measured.reduce((best, one) => {
    const gain = throughputPerS(one, sloUs) - throughputPerS(best, sloUs);
    return gain > 0 || (gain === 0 && single(one) < single(best)) ? one : best;
  });
}

/** What was found, for logs and the status page. */
export function describeSplits(
  measured: readonly MeasuredSplit[],
  chosen: MeasuredSplit,
  sloUs: number | null,
): string {
  const text = ({ split }: MeasuredSplit): string => `${split.replicas} × ${threadsText(split.threads)}`;
  const figures = (one: MeasuredSplit): string => {
    const perS = throughputPerS(one, sloUs);
    return perS === 0 ? "misses the SLO" : `${perS.toPrecision(3)} items/s`;
  };
  const others = measured.filter((one) => one !== chosen);
  const kept = `${text(chosen)} (${figures(chosen)})`;
  if (others.length === 0) return kept;
  return `${kept}, kept over ${others.map((one) => `${text(one)} (${figures(one)})`).join(", ")}`;
}

function threadsText(threads: number): string {
  return threads === 1 ? "1 thread" : `${threads} threads`;
}
