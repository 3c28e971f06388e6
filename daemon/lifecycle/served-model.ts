import { isDeepStrictEqual } from "node:util";
import type { ModelVersion } from "../repository/model.ts";
import type { ModelSpec, Profile, ShapeProfiles } from "../scheduler/types.ts";

const SLO_DEFAULT_US = 100_000;
/** The SLO of a model that states none is at least this many times its execution time for one item. */
const SLO_EXECUTIONS = 4;

/** A model version that is served, or on its way there. */
export class ServedModel {
  /** As the repository asked for it. */
  readonly asked: ModelVersion;
  /** The interface as it is served: where an output turned out to have no batch dimension, that of the unbatched model. */
  readonly version: ModelVersion;
  readonly sloUs: number;
  /** Lanes that hold it now, with the profiles they have for it. */
  readonly lanes: Map<string, ShapeProfiles> = new Map();
  /** Of these, the replicas. */
  readonly replicas: Set<string> = new Set();
  /** Intra-op threads of each replica; 0 without replicas. */
  replicaThreads = 0;
  /** How it runs on replicas, in words. */
  replicaSummary: string | null = null;

  constructor(asked: ModelVersion, version: ModelVersion, sloUs: number) {
    this.asked = asked;
    this.version = version;
    this.sloUs = sloUs;
  }

  get placement(): "device" | "replica" | "both" | "none" {
    if (this.lanes.size === 0) return "none";
    const kinds = new Set([...this.lanes.keys()].map((lane) => this.replicas.has(lane)));
    return kinds.size === 2 ? "both" : kinds.has(true) ? "replica" : "device";
  }

  /** The same sessions under other settings; see `needsSameSessions`. */
  withSettings(asked: ModelVersion): ServedModel {
    const { buckets } = this.version.settings;
    const version = { ...this.version, settings: { ...asked.settings, buckets } };
    const profiles = this.lanes.values().next().value;
    const served = new ServedModel(
      asked,
      version,
      profiles === undefined ? this.sloUs : effectiveSloUs(version, profiles),
    );
    for (const [lane, known] of this.lanes) served.lanes.set(lane, known);
    for (const lane of this.replicas) served.replicas.add(lane);
    served.replicaThreads = this.replicaThreads;
    served.replicaSummary = this.replicaSummary;
    return served;
  }

  /** The profile of its first shape on its first lane of a kind. */
  profile(kind: "device" | "replica"): Profile | null {
    for (const [lane, profiles] of this.lanes) {
      if (this.replicas.has(lane) === (kind === "replica")) return firstProfile(profiles);
    }
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

export function firstProfile(profiles: ShapeProfiles): Profile | null {
  return Object.values(profiles)[0] ?? null;
}

/** The SLO that a model states, or one that leaves room for several executions of a single item. */
export function effectiveSloUs(version: ModelVersion, profiles: ShapeProfiles): number {
  if (version.settings.sloMs !== null) return Math.round(version.settings.sloMs * 1000);
  const singleUs = Math.max(0, ...Object.values(profiles).map((profile) => profile[0]?.us ?? 0));
  return Math.max(SLO_DEFAULT_US, SLO_EXECUTIONS * singleUs);
}

/** Whether two readings of a version differ, if at all, only in settings that no session depends on. */
export function needsSameSessions(a: ModelVersion, b: ModelVersion): boolean {
  return a === b || isDeepStrictEqual(sessionPart(a), sessionPart(b));
}

function sessionPart({ settings, ...version }: ModelVersion): object {
  const { device, buckets, replicas, threads, warmShapes } = settings;
  return { ...version, device, buckets, replicas, threads, warmShapes };
}
