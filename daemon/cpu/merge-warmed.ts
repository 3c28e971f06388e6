import type { WarmedModel } from "../device/messages.ts";
import { median, monotoneProfile, usOf } from "../device/profile.ts";
import type { Profile } from "../scheduler/types.ts";

/** What several replicas that were warmed side by side found, as one: median times, the largest memory, the longest load. */
export function mergeWarmed(warmed: readonly WarmedModel[]): WarmedModel {
  const [first] = warmed;
  if (first === undefined) throw new Error("no replica was warmed");
  // Replicas choose their buckets by their own measurements; those that all have are kept, the largest batch among them.
  const buckets = first.buckets.filter((bucket) => warmed.every((one) => one.buckets.includes(bucket)));
  const shapes = Object.keys(first.profiles).filter((shape) => warmed.every((one) => shape in one.profiles));
  const profiles: Record<string, Profile> = {};
  for (const shape of shapes) {
    profiles[shape] = monotoneProfile(
      buckets.map((bucket) => ({
        bucket,
        us: median(warmed.map((one) => usOf(one.profiles[shape]!, bucket))),
      })),
    );
  }
  return {
    buckets,
    profiles,
    coldShapes: first.coldShapes,
    padding: warmed.find(({ padding }) => padding?.ok === false)?.padding ?? first.padding,
    unbatchedOutputs: [...new Set(warmed.flatMap((one) => one.unbatchedOutputs))],
    mixedOutputs: [...new Set(warmed.flatMap((one) => one.mixedOutputs))],
    separated: first.separated,
    slotBytes: Math.max(...warmed.map((one) => one.slotBytes)),
    createUs: Math.max(...warmed.map((one) => one.createUs)),
    warmUpUs: Math.max(...warmed.map((one) => one.warmUpUs)),
  };
}
