/** What the gRPC side needs from the rest of the daemon, as narrow as it can be; `daemon.ts` provides it. */
import type { FallbackEnd } from "../engine/fallback.ts";
import type { ModelState, ModelVersion } from "../repository/model.ts";
import type { ShedCause } from "../scheduler/types.ts";

/** A model version that may be asked for, with what was decided when it was loaded. */
export interface ServedModel {
  /** The same object for as long as the version's interface stays the same: what is derived from it is kept by identity. */
  readonly version: ModelVersion;
  /** Effective default time from arrival to answer, microseconds. */
  readonly sloUs: number;
}

/** Known, but not able to serve now. */
export interface ModelNotReady {
  readonly type: "not-ready";
  readonly reason: string;
  /** Whether that ends by itself, soon as a rule: it is being loaded. */
  readonly passing: boolean;
  /** As it was served and will be, where that is known. */
  readonly model: ServedModel | null;
}

export type ModelLookup =
  | { readonly type: "ready"; readonly model: ServedModel }
  | ModelNotReady
  | { readonly type: "unknown" };

/** A line of the repository's index. */
export interface CatalogEntry {
  readonly name: string;
  /** Empty where no version could be determined. */
  readonly version: string;
  readonly state: ModelState;
  /** Why it is in that state; empty where there is nothing to say. */
  readonly reason: string;
}

export type RepositoryAction =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** `refused`: this repository's control mode does not allow it; `invalid`: its parameters are wrong. */
      readonly kind: "unknown" | "refused" | "invalid" | "failed";
      /** A sentence for the caller, without paths of the host. */
      readonly reason: string;
    };

export type RepositoryParameter = boolean | number | string | Uint8Array;

/** The model repository as the wire sees it. */
export interface ModelCatalog {
  /** `version` as the caller wrote it, empty for the policy's choice; quick. */
  find(name: string, version: string): ModelLookup;
  /**
   * The version that is to answer a request, where it names none by the model's traffic shares; otherwise as `find`.
   * `trafficKey` is the caller's: requests of one key go to one version. Quick too.
   */
  route(name: string, version: string, trafficKey: string | null): ModelLookup;
  list(): readonly CatalogEntry[];
  /** Versions of a model that are served or could be, ascending; empty for an unknown name. */
  versions(name: string): readonly number[];
  /** Whether every model that can be served is ready. */
  ready(): boolean;
  load(name: string, parameters: ReadonlyMap<string, RepositoryParameter>): Promise<RepositoryAction>;
  unload(name: string, parameters: ReadonlyMap<string, RepositoryParameter>): Promise<RepositoryAction>;
}

/** How often something happened and how long it took in all, microseconds. */
export interface CountedTime {
  readonly count: number;
  readonly us: number;
}

/** Cumulative statistics of one model version since the daemon started. */
export interface ModelStatisticsSnapshot {
  /** Unix time of the last inference, milliseconds; 0 before the first. */
  readonly lastInferenceMs: number;
  /** Items inferred; like executions and the times of computing without those that were answered from the cache. */
  readonly items: number;
  /** Batches executed. */
  readonly executions: number;
  readonly success: CountedTime;
  readonly fail: CountedTime;
  readonly queue: CountedTime;
  /** These three have equal counts. */
  readonly computeInput: CountedTime;
  readonly computeInfer: CountedTime;
  readonly computeOutput: CountedTime;
  /** Looking up what was there. */
  readonly cacheHit: CountedTime;
  /** Looking up what was not there, and keeping the answer. */
  readonly cacheMiss: CountedTime;
  readonly batches: readonly {
    readonly size: number;
    readonly computeInput: CountedTime;
    readonly computeInfer: CountedTime;
    readonly computeOutput: CountedTime;
  }[];
}

export interface StatisticsSource {
  /** By the model version's key; null for one that never had a request. */
  statistics(key: string): ModelStatisticsSnapshot | null;
}

/** A model that did not answer a request, so that its fallback was asked. */
export interface FallenBack {
  readonly model: string;
  /** As callers see it. */
  readonly cause: string;
  /** Where the engine shed it: after how long, microseconds. */
  readonly shed: { readonly cause: ShedCause; readonly afterUs: number } | null;
}

/** Learns of what the engine's observers don't see. */
export interface RequestObserver {
  /**
   * A request was answered with an error that is not the engine's. `model` is the key where the model is known; `code` is a gRPC
   * status name, `cause` as callers see it.
   */
  refused(model: string | null, code: string, cause: string): void;
  /**
   * A request that a model could not answer was given to its fallback: how that ended. Only now is it known whether what the model
   * shed with `fallback: "ahead"` was shed for good.
   */
  fellBack(from: FallenBack, end: FallbackEnd): void;
}

/** The part of pino that is used here. */
export interface RpcLogger {
  debug(details: object, message: string): void;
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}
