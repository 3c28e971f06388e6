import type { ModelVersion } from "./repository/model.ts";
import { availableCores } from "./resources.ts";

/** How the machine's cores are divided between those who execute models. */
export interface CoreShares {
  /** Intra-op threads of a device lane that runs on the CPU. */
  readonly laneThreads: number;
  /** Cores for CPU replicas, of all models together. */
  readonly poolCores: number;
}

export interface CoreSettings {
  /** null: what the event loop and the pool leave. */
  readonly laneThreads: number | null;
  /** null: half of what the event loop leaves where both lane and pool need cores, all of it where only the pool does. */
  readonly poolCores: number | null;
}

/**
 * One core is the event loop's; the rest are divided between a device lane that runs on the CPU and the replicas. Each
 * gets at least one, so on two cores they share.
 */
export function divideCores(
  settings: CoreSettings,
  lane: { readonly onCpu: boolean; readonly needed: boolean },
  poolNeeded: boolean,
  cores: number = availableCores(),
): CoreShares {
  const free = Math.max(1, cores - 1);
  const laneNeedsCores = lane.onCpu && lane.needed;
  const poolCores =
    settings.poolCores ?? (poolNeeded ? (laneNeedsCores ? Math.max(1, Math.floor(free / 2)) : free) : 0);
  const laneThreads = settings.laneThreads ?? Math.max(1, lane.onCpu ? free - poolCores : 1);
  return { laneThreads, poolCores };
}

/** Whether models get replicas for spill-over that have not asked for any. */
export function replicasByDefault({ poolCores }: CoreSettings, deviceIsCpu: boolean): boolean {
  // They would take the cores of a lane that runs on the CPU itself.
  return poolCores !== 0 && !deviceIsCpu;
}

/** Whether a model is to run on CPU replicas. */
export function usesReplicas({ settings }: ModelVersion, byDefault: boolean): boolean {
  if (settings.device === "cpu") return true;
  if (settings.device === "gpu") return false;
  return settings.replicas === "auto" ? byDefault : settings.replicas > 0;
}
