/**
 * Sessions that execute batches of one size only. ONNX Runtime's CUDA provider plans every convolution anew whenever its input has another shape than
 * in the run before (since 1.20: microsoft/onnxruntime#23006). On an H200 that makes an image in ResNet-18 take 48 ms instead of 1.7 after a
 * batch of another size, so a scheduler that adapts batches is thrown from one to the other. In a session that sees one size nothing is planned anew.
 */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import type { ProfilePoint } from "../scheduler/types.ts";
import type { KnownProfiles } from "./messages.ts";
import type { Provider } from "./provider.ts";
import type { TrialRun } from "./warm-up.ts";

/** Less than this, or than an execution takes, is not worth another copy of the weights on the device. */
const COST_MIN_US = 2_000;
const TRIES = 2;
/** Of weights in copies of one model, besides the first. */
const COPIES_BYTES_MAX = 2 ** 31;
const COPIES_MAX = 24;

/** One size of one shape. */
export interface BatchKind {
  readonly shape: string;
  readonly bucket: number;
}

export function kindKey({ shape, bucket }: BatchKind): string {
  return `${bucket}|${shape}`;
}

/** Whether a batch takes much longer after one of another size than after one of its own. Everything has to be warm. */
export async function changesAreCostly({ buckets, profiles }: KnownProfiles, run: TrialRun): Promise<boolean> {
  const [shape] = Object.keys(profiles);
  const [smallest] = buckets;
  const largest = buckets.at(-1);
  if (shape === undefined || smallest === undefined || largest === smallest) return false;
  let changedUs = Number.POSITIVE_INFINITY;
  let sameUs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < TRIES; i++) {
    await run(shape, largest!);
    changedUs = Math.min(changedUs, await run(shape, smallest));
    sameUs = Math.min(sameUs, await run(shape, smallest));
  }
  return changedUs - sameUs > Math.max(COST_MIN_US, sameUs);
}

/** Whether a provider may do so. */
export function mayPlanAnew({ name }: Provider): boolean {
  return name === "cuda";
}

/**
 * As many of the batch sizes as sessions have room for, the smallest and the largest among them: a batch that is padded further takes less than one
 * that is planned anew. All of them where there is room for less than two of each shape, and then none gets a session.
 */
export function sizesWithRoom(warmed: KnownProfiles, modelBytes: number): KnownProfiles {
  const { buckets, profiles } = warmed;
  const sizes = sizesOfEachShape(warmed, modelBytes);
  if (sizes >= buckets.length || sizes < 2) return warmed;
  const kept = Array.from({ length: sizes }, (_, i) => buckets[Math.round((i * (buckets.length - 1)) / (sizes - 1))]!);
  const isKept = ({ bucket }: ProfilePoint): boolean => kept.includes(bucket);
  const all = Object.entries(profiles).map(([shape, profile]) => [shape, profile.filter(isKept)] as const);
  return { buckets: kept, profiles: Object.fromEntries(all) };
}

/** What gets a session of its own: all but the last, which stays with the session that is there and that also executes what was not warmed. */
export function kindsToSeparate(warmed: KnownProfiles, modelBytes: number): BatchKind[] {
  const { buckets, profiles } = warmed;
  if (sizesOfEachShape(warmed, modelBytes) < buckets.length) return [];
  return Object.keys(profiles)
    .flatMap((shape) => buckets.map((bucket) => ({ shape, bucket })))
    .slice(0, -1);
}

function sizesOfEachShape({ profiles }: KnownProfiles, modelBytes: number): number {
  const copies = Math.min(COPIES_MAX, Math.floor(COPIES_BYTES_MAX / Math.max(1, modelBytes)));
  return Math.floor((copies + 1) / Object.keys(profiles).length);
}

/** The model's file and what lies beside it: its weights, where they are in files of their own. */
export function modelBytes(file: string): number {
  const folder = path.dirname(file);
  const files = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  return files.reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).size, 0);
}
