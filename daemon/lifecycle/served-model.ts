import { isDeepStrictEqual } from "node:util";
import type { ModelVersion } from "../repository/model.ts";
import type { LaneKind, ModelSpec, Profile, ShapeProfiles } from "../scheduler/types.ts";

const SLO_DEFAULT_US = 100_000;
/** The SLO of a model that states none is at least this many times its execution time for one item. */
const SLO_EXECUTIONS = 4;

/** A lane that a version is placed on: loaded there, or to be loaded again when the lane is back. */
export interface PlacedLane {
  readonly kind: LaneKind;
  /** As the lane measured them last. */
  readonly profiles: ShapeProfiles;
  /** Whether it can execute there now; false while the lane restarts. */
  readonly up: boolean;
}

/** A model version that is served. */
export class ServedModel {
  /** As the repository asked for it. */
  readonly asked: ModelVersion;
  /** The interface as it is served: where an output turned out to have no batch dimension, that of the unbatched model. */
  readonly version: ModelVersion;
  readonly sloUs: number;
  /** By name, device lanes first; kept current by who placed it. */
  readonly lanes: ReadonlyMap<string, PlacedLane>;
  /** Intra-op threads of each replica; 0 without replicas. */
  replicaThreads = 0;
  /** How it runs on replicas, in words. */
  replicaSummary: string | null = null;

  constructor(asked: ModelVersion, version: ModelVersion, lanes: ReadonlyMap<string, PlacedLane>) {
    this.asked = asked;
    this.version = version;
    this.lanes = lanes;
    this.sloUs = effectiveSloUs(version, lanes.values().next().value?.profiles ?? {});
  }

  /** Whether it can execute on the lane now. */
  isUpOn(lane: string): boolean {
    return this.lanes.get(lane)?.up === true;
  }

  /** Whether it can execute anywhere now. */
  get isUp(): boolean {
    for (const { up } of this.lanes.values()) if (up) return true;
    return false;
  }

  /** Where it can execute now. */
  get upLanes(): readonly string[] {
    return [...this.lanes.keys()].filter((lane) => this.isUpOn(lane));
  }

  /** CPU replicas that it is placed on; their process may be restarting. */
  get replicas(): readonly string[] {
    return [...this.lanes.keys()].filter((lane) => this.lanes.get(lane)?.kind === "replica");
  }

  get placement(): LaneKind | "both" | "none" {
    const kinds = new Set(this.upLanes.map((lane) => this.lanes.get(lane)!.kind));
    const [kind = "none"] = kinds;
    return kinds.size === 2 ? "both" : kind;
  }

  /** The same sessions under other settings; see `needsSameSessions`. */
  withSettings(asked: ModelVersion): ServedModel {
    const { buckets } = this.version.settings;
    const unbatchedReason = asked.unbatchedReason ?? this.version.unbatchedReason;
    const version = { ...this.version, unbatchedReason, settings: { ...asked.settings, buckets } };
    const served = new ServedModel(asked, version, this.lanes);
    served.replicaThreads = this.replicaThreads;
    served.replicaSummary = this.replicaSummary;
    return served;
  }

  /** The profile of its first shape on its first lane of a kind. */
  profile(wanted: LaneKind): Profile | null {
    for (const { kind, profiles } of this.lanes.values()) if (kind === wanted) return firstProfile(profiles);
    return null;
  }

  spec(): ModelSpec {
    const { key, maxBatchSize, settings } = this.version;
    return {
      model: key,
      maxBatch: maxBatchSize,
      sloUs: this.sloUs,
      weight: settings.weight,
      minShare: settings.minShare,
      shedImplicit: settings.shedImplicit,
      queueItemsMax: settings.queueItemsMax,
      queueBytesMax: settings.queueBytesMax,
    };
  }
}

function firstProfile(profiles: ShapeProfiles): Profile | null {
  return Object.values(profiles)[0] ?? null;
}

/** The SLO that a model states, or one that leaves room for several executions of a single item. */
function effectiveSloUs(version: ModelVersion, profiles: ShapeProfiles): number {
  if (version.settings.sloMs !== null) return Math.round(version.settings.sloMs * 1000);
  const singleUs = Math.max(0, ...Object.values(profiles).map((profile) => profile[0]?.us ?? 0));
  return Math.max(SLO_DEFAULT_US, SLO_EXECUTIONS * singleUs);
}

/** Whether two readings of a version differ, if at all, only in settings that no session depends on. */
export function needsSameSessions(a: ModelVersion, b: ModelVersion): boolean {
  return a === b || isDeepStrictEqual(sessionPart(a), sessionPart(b));
}

function sessionPart({ settings, unbatchedReason: _, ...version }: ModelVersion): object {
  const { device, buckets, replicas, threads, warmShapes, warmValues } = settings;
  return { ...version, device, buckets, replicas, threads, warmShapes, warmValues };
}
