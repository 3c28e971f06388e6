import { setTimeout as delay } from "node:timers/promises";
import { usesReplicas } from "../cores.ts";
import { lengthsOfKeys } from "../engine/sequence.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { LifecycleLogger, LoadedOnLane, LoadedReplicas, ModelHost, ModelLane, ReplicaPool } from "./ports.ts";
import { effectiveSloUs, ServedModel } from "./served-model.ts";

export interface PlacementParts {
  readonly host: ModelHost;
  readonly lanes: readonly ModelLane[];
  readonly replicas: ReplicaPool;
  readonly reprofile: boolean;
  /** Whether models get CPU replicas for spill-over that have not asked for any. */
  readonly replicasByDefault: boolean;
  readonly logger: LifecycleLogger;
}

export interface PlacementWatch {
  /** Told what is being done, in words. */
  doing(activity: string): void;
  /** Whether there is nothing left to wait for: the daemon ends. */
  closed(): boolean;
}

/** Nothing tells when a model's last request has ended; who waits for it looks at this interval. */
export const IDLE_CHECK_MS = 5;

/** Brings model versions to device lanes and CPU replicas, and takes them away. */
export class Placement {
  readonly #parts: PlacementParts;
  readonly #watch: PlacementWatch;

  constructor(parts: PlacementParts, watch: PlacementWatch) {
    this.#parts = parts;
    this.#watch = watch;
  }

  /** Loads a version where it belongs and announces it to the engine. */
  async place(asked: ModelVersion): Promise<ServedModel> {
    const { lanes, host, replicas, reprofile, replicasByDefault, logger } = this.#parts;
    let version = asked;
    const loaded: [lane: ModelLane, on: LoadedOnLane][] = [];
    let pool: LoadedReplicas | null = null;
    let poolProblem: string | null = null;
    try {
      if (asked.settings.device !== "cpu") {
        for (const lane of lanes) {
          const placed = await this.#placeOn(version, (wanted) => lane.load(wanted, { reprofile }));
          version = placed.version;
          loaded.push([lane, placed.on]);
        }
      }
      if (usesReplicas(version, replicasByDefault)) {
        this.#watch.doing(`loading ${version.key} on CPU replicas`);
        const sloUs = version.settings.sloMs === null ? null : Math.round(version.settings.sloMs * 1000);
        try {
          const load = (wanted: ModelVersion) => replicas.load(wanted, sloUs, { reprofile });
          const placed = await this.#placeOn(version, load);
          version = placed.version;
          pool = placed.on;
        } catch (error) {
          // Replicas for spill-over are a help that it can do without.
          if (loaded.length === 0) throw error;
          poolProblem = `none: ${(error as Error).message}`;
          logger.warn({ model: asked.key }, `${asked.key} has no CPU replicas: ${(error as Error).message}`);
        }
      }
    } catch (error) {
      for (const [lane] of loaded) await lane.unload(asked.key);
      throw error;
    }
    const profiles = (loaded[0]?.[1] ?? pool)!.profiles;
    const served = new ServedModel(asked, version, effectiveSloUs(version, profiles));
    served.replicaSummary = pool?.summary ?? poolProblem;
    host.addModel(served.spec());
    for (const [lane, on] of loaded) {
      served.lanes.set(lane.lane, on.profiles);
      host.loaded(lane.lane, version.key, on.profiles);
      this.#reportCold(version.key, on);
    }
    if (pool === null) return served;
    served.replicaThreads = pool.threadsEach;
    for (const replica of pool.devices) {
      served.lanes.set(replica.lane, pool.profiles);
      served.replicas.add(replica.lane);
      host.addLane(replica);
      host.loaded(replica.lane, version.key, pool.profiles);
    }
    this.#reportCold(version.key, pool);
    return served;
  }

  /** Loads a version, and once more as one without a batch dimension where it turns out to have none. */
  async #placeOn<T extends LoadedOnLane>(
    asked: ModelVersion,
    load: (version: ModelVersion) => Promise<T>,
  ): Promise<{ readonly version: ModelVersion; readonly on: T }> {
    const on = await load(asked);
    if (!asked.batched || on.unbatchedOutputs.length === 0) return { version: this.#padded(asked, on), on };
    const version = this.#unbatched(asked, on.unbatchedOutputs);
    return { version, on: await load(version) };
  }

  /** The version with the lengths that its requests are padded to from now on, or without padding where that was refused. */
  #padded(version: ModelVersion, { padding, profiles }: LoadedOnLane): ModelVersion {
    const { key, sequence } = version;
    if (sequence === null || padding === null) return version;
    if (!padding.ok) {
      this.#parts.logger.warn(
        { model: key },
        `${key}: requests are not padded, and only those of equal length share a batch: ${padding.reason}`,
      );
      return { ...version, sequence: null };
    }
    // A length that could not be warmed is one that every request of it would fail at.
    const lengths = lengthsOfKeys(version, Object.keys(profiles));
    if (sequence.lengths === null) {
      this.#parts.logger.info(
        { model: key, lengths },
        `${key}: requests are padded to lengths of ${lengths.join(", ")}`,
      );
    }
    return { ...version, sequence: { ...sequence, lengths, outputAxes: padding.outputAxes } };
  }

  #unbatched(version: ModelVersion, outputs: readonly string[]): ModelVersion {
    const names = outputs.map((name) => `'${name}'`).join(", ");
    this.#parts.logger.warn(
      { model: version.key },
      `${version.key}: the first dimension of output ${names} is not the batch's, so requests can't share a batch: it runs them one by one`,
    );
    return {
      ...version,
      batched: false,
      maxBatchSize: 1,
      sequence: null,
      settings: { ...version.settings, buckets: null },
    };
  }

  #reportCold(key: string, on: LoadedOnLane): void {
    for (const { shape, message } of on.coldShapes) {
      this.#parts.logger.warn({ model: key, shape }, `${key}: shape ${shape} could not be warmed: ${message}`);
    }
  }

  /** Takes a version off its lanes; what executes is waited for. */
  async leave(served: ServedModel): Promise<void> {
    const { lanes, host, replicas } = this.#parts;
    const { key } = served.version;
    for (const lane of served.replicas) await host.removeLane(lane);
    if (served.replicas.size > 0) await replicas.unload(key);
    for (const lane of lanes) {
      if (!served.lanes.has(lane.lane)) continue;
      host.unloaded(lane.lane, key);
      await this.#idleOn(lane.lane, key);
      await lane.unload(key);
    }
    served.lanes.clear();
    served.replicas.clear();
  }

  async #idleOn(lane: string, key: string): Promise<void> {
    while (!this.#watch.closed() && this.#parts.host.executes(lane, key)) await delay(IDLE_CHECK_MS);
  }
}
