/**
 * Sessions that execute batches of one size only. ONNX Runtime's CUDA provider plans every convolution anew whenever its input has another shape than
 * in the run before (since 1.20: microsoft/onnxruntime#23006). On an H200 that makes an image in ResNet-18 take 48 ms instead of 1.7 after a
 * batch of another size, so a scheduler that adapts batches is thrown from one to the other. In a session that sees one size nothing is planned anew.
 */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { CudaDevice, type DeviceMemory } from "./cuda-device.ts";
import type { KnownProfiles } from "./messages.ts";
import { usOf } from "./profile.ts";
import type { Provider } from "./provider.ts";
import type { TrialRun } from "./warm-up.ts";

/** Less than this, or than an execution takes, is not worth another copy of the weights on the device. */
const COST_MIN_US = 2_000;
const TRIES = 2;
/** Of weights in copies of one model, besides the first. */
const COPIES_BYTES_MAX = 2 ** 31;
const COPIES_MAX = 24;
/** Part of the device's memory that copies leave to other models, and to what batches need beside the weights. */
const FREE_PART_MIN = 0.25;

/** One size of one shape. */
export interface BatchKind {
  readonly shape: string;
  readonly bucket: number;
}

export function kindKey({ shape, bucket }: BatchKind): string {
  return `${bucket}|${shape}`;
}

/** What is asked of a device before a model gets more sessions on it. */
export interface SizeCosts {
  /** What a change of the batch's kind adds to an execution, microseconds; 0 where it is next to nothing. */
  changeUs(warmed: KnownProfiles, run: TrialRun): Promise<number>;
  hasRoomFor(modelBytes: number): boolean;
}

/** Null for a provider that plans nothing by shape. */
export function sizeCosts({ name, deviceId }: Provider): SizeCosts | null {
  if (name !== "cuda") return null;
  return { changeUs, hasRoomFor: (modelBytes) => hasRoomFor(modelBytes, () => CudaDevice.open(deviceId).memory()) };
}

/** Everything has to be warm. */
export async function changeUs(warmed: KnownProfiles, run: TrialRun): Promise<number> {
  const kinds = kindsOf(warmed);
  const [first] = kinds;
  const last = kinds.at(-1);
  if (first === undefined || last === undefined || first === last) return 0;
  let changedUs = Number.POSITIVE_INFINITY;
  let sameUs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < TRIES; i++) {
    await run(last.shape, last.bucket);
    changedUs = Math.min(changedUs, await run(first.shape, first.bucket));
    sameUs = Math.min(sameUs, await run(first.shape, first.bucket));
  }
  const costUs = changedUs - sameUs;
  return costUs > Math.max(COST_MIN_US, sameUs) ? costUs : 0;
}

/** Whether another copy of the model leaves enough of the device. */
export function hasRoomFor(modelBytes: number, memory: () => DeviceMemory): boolean {
  try {
    const { freeBytes, totalBytes } = memory();
    return freeBytes - modelBytes >= FREE_PART_MIN * totalBytes;
  } catch {
    return false;
  }
}

export interface SessionPlan {
  /** What gets a session of its own. What is not among it stays with the session that is there. */
  readonly separate: readonly BatchKind[];
  /** Batch sizes that are given up, since padding to the next one that has a session takes less than a change. */
  readonly dropped: readonly number[];
}

/** @param mayDrop not where somebody has chosen the sizes */
export function planSessions(
  warmed: KnownProfiles,
  { modelBytes, costUs, mayDrop }: { readonly modelBytes: number; readonly costUs: number; readonly mayDrop: boolean },
): SessionPlan {
  const { buckets, profiles } = warmed;
  const shapes = Object.keys(profiles);
  const copies = Math.min(COPIES_MAX, Math.floor(COPIES_BYTES_MAX / Math.max(1, modelBytes)));
  const chosen = spread(buckets, Math.floor((copies + 1) / shapes.length));
  const isDropped = (bucket: number): boolean => {
    const next = chosen.find((size) => size >= bucket);
    if (!mayDrop || next === undefined || next === bucket) return false;
    return shapes.every((shape) => usOf(profiles[shape]!, next) - usOf(profiles[shape]!, bucket) < costUs);
  };
  const dropped = buckets.filter(isDropped);
  const separate = shapes.flatMap((shape) => chosen.map((bucket) => ({ shape, bucket })));
  // The session that is there serves one kind without a change as well, if it has no other to serve.
  const isAll = chosen.length + dropped.length === buckets.length;
  return { separate: separate.slice(0, isAll ? Math.min(copies, separate.length - 1) : copies), dropped };
}

/** What was warmed, without some of the batch sizes. */
export function withoutSizes<Warmed extends KnownProfiles>(warmed: Warmed, dropped: readonly number[]): Warmed {
  if (dropped.length === 0) return warmed;
  const isKept = (bucket: number): boolean => !dropped.includes(bucket);
  const profiles = Object.entries(warmed.profiles).map(
    ([shape, profile]) => [shape, profile.filter(({ bucket }) => isKept(bucket))] as const,
  );
  return { ...warmed, buckets: warmed.buckets.filter(isKept), profiles: Object.fromEntries(profiles) };
}

/** The model's file and what lies beside it: its weights, where they are in files of their own. Infinity where they can't be looked at. */
export function modelBytes(file: string): number {
  const folder = path.dirname(file);
  try {
    const sizes = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => {
      const found = statSync(path.join(folder, name));
      return found.isFile() ? found.size : 0;
    });
    return sizes.reduce((sum, size) => sum + size, 0);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

function kindsOf({ buckets, profiles }: KnownProfiles): BatchKind[] {
  return Object.keys(profiles).flatMap((shape) => buckets.map((bucket) => ({ shape, bucket })));
}

/** So many of the sizes, the largest among them and then the smallest. */
function spread(sizes: readonly number[], count: number): readonly number[] {
  if (count >= sizes.length) return sizes;
  if (count <= 1) return sizes.slice(sizes.length - Math.max(0, count));
  return Array.from({ length: count }, (_, i) => sizes[Math.round((i * (sizes.length - 1)) / (count - 1))]!);
}
