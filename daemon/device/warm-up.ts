/**
 * Warms every bucket of every shape and measures how long it takes. Knows nothing of the runtime: it is handed a function
 * that executes one batch of made-up inputs.
 */

import { keyOfLength } from "../engine/sequence.ts";
import type { Profile, ProfilePoint } from "../scheduler/types.ts";
import { chooseLengths } from "./lengths.ts";
import type { ColdShape, KnownProfiles, LoadRequest } from "./messages.ts";
import { bucketsToAdd, median, monotoneProfile, powerOfTwoBuckets } from "./profile.ts";
import { keysOfLengths } from "./warm-shapes.ts";

/** Executes a batch of made-up inputs and resolves to its execution time. */
export type TrialRun = (shape: string, bucket: number) => Promise<number>;

export interface WarmUpResult extends KnownProfiles {
  readonly coldShapes: readonly ColdShape[];
}

type WarmUpRequest = Pick<
  LoadRequest,
  | "inputs"
  | "batched"
  | "maxBatchSize"
  | "buckets"
  | "sequence"
  | "warmShapes"
  | "known"
  | "profileBudgetMs"
  | "provider"
>;

/** The first run of a bucket allocates, the second still settles (on a GPU, the first chooses among algorithms too). */
export const WARM_RUNS = 2;
const MEASURED_RUNS_MIN = 3;
const MEASURED_RUNS_MAX = 15;
/** Time for all lengths of a sequence together, as a multiple of that for one shape. */
const LENGTHS_BUDGET = 3;
/** Runs as long as this vary little in proportion, and cost much: fewer do. */
const LONG_RUN_US = 400_000;

/** Rejects with the last failure where no shape could be executed. */
export async function warmUp(request: WarmUpRequest, run: TrialRun): Promise<WarmUpResult> {
  const coldShapes: ColdShape[] = [];
  const profiles: Record<string, Profile> = {};
  let buckets: readonly number[] | null = request.known?.buckets ?? request.buckets;
  let lastFailure: unknown = new Error("no shape to warm up with");
  const keys = await shapesToTry(request, run);
  const share = request.sequence === null ? 1 : Math.min(1, LENGTHS_BUDGET / keys.length);
  // Of a sequence the longest first: there padding costs most, so that batch sizes are chosen by what matters.
  for (const shape of request.sequence === null ? keys : [...keys].reverse()) {
    try {
      const known = request.known?.profiles[shape];
      if (known !== undefined && buckets !== null) {
        // On a CPU one run touches all there is to touch.
        const runs = request.provider.name === "cpu" ? 1 : WARM_RUNS;
        for (const bucket of buckets) await warmBucket(shape, bucket, run, runs);
        profiles[shape] = known;
      } else {
        const profile = await measureShape(request, shape, buckets, share, run);
        buckets ??= profile.map(({ bucket }) => bucket);
        profiles[shape] = profile;
      }
      if (request.warmShapes.firstThatWorks) break;
    } catch (error) {
      lastFailure = error;
      const message = error instanceof Error ? error.message : String(error);
      if (!request.warmShapes.firstThatWorks) coldShapes.push({ shape, message });
    }
  }
  if (buckets === null || Object.keys(profiles).length === 0) throw lastFailure;
  const inOrder = keys.flatMap((shape) => (profiles[shape] === undefined ? [] : [[shape, profiles[shape]] as const]));
  return { buckets, profiles: Object.fromEntries(inOrder), coldShapes };
}

async function shapesToTry(request: WarmUpRequest, run: TrialRun): Promise<readonly string[]> {
  const { sequence, known, maxBatchSize, warmShapes } = request;
  if (sequence === null || sequence.lengths !== null) return warmShapes.keys;
  // Lengths were chosen when these were measured.
  if (known !== null) return Object.keys(known.profiles);
  const lengths = await chooseLengths(sequence.lengthMax, async (length) => {
    return (await measureBucket(keyOfLength(request, length), maxBatchSize, 0, run)).us;
  });
  return keysOfLengths(request, lengths);
}

async function measureShape(
  request: WarmUpRequest,
  shape: string,
  fixedBuckets: readonly number[] | null,
  budgetShare: number,
  run: TrialRun,
): Promise<Profile> {
  const first = fixedBuckets ?? powerOfTwoBuckets(request.maxBatchSize);
  const bucketBudgetUs = (budgetShare * request.profileBudgetMs * 1000) / first.length;
  const points: ProfilePoint[] = [];
  for (const bucket of first) points.push(await measureBucket(shape, bucket, bucketBudgetUs, run));
  if (fixedBuckets === null) {
    for (const bucket of bucketsToAdd(monotoneProfile(points))) {
      points.push(await measureBucket(shape, bucket, bucketBudgetUs, run));
    }
  }
  return monotoneProfile(points);
}

/** Resolves to the time of the last run. */
async function warmBucket(shape: string, bucket: number, run: TrialRun, runs: number = WARM_RUNS): Promise<number> {
  let us = await run(shape, bucket);
  for (let done = 1; done < runs && us < LONG_RUN_US; done++) us = await run(shape, bucket);
  return us;
}

/** Warms one batch size of a shape and measures it as often as the budget allows, a few times at least. */
export async function measureBucket(
  shape: string,
  bucket: number,
  budgetUs: number,
  run: TrialRun,
): Promise<ProfilePoint> {
  const warmUs = await warmBucket(shape, bucket, run);
  const affordable = Math.floor(budgetUs / Math.max(1, warmUs)) - WARM_RUNS;
  const runsMin = warmUs < LONG_RUN_US ? MEASURED_RUNS_MIN : 1;
  const runs = Math.min(MEASURED_RUNS_MAX, Math.max(runsMin, affordable));
  const times: number[] = [];
  for (let index = 0; index < runs; index++) times.push(await run(shape, bucket));
  return { bucket, us: median(times) };
}
