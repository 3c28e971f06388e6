import { setTimeout as delay } from "node:timers/promises";
import { usesReplicas } from "../cores.ts";
import type { Device } from "../engine/ports.ts";
import { lengthsOfKeys } from "../engine/sequence.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { ShapeProfiles } from "../scheduler/types.ts";
import type { LifecycleLogger, LoadedOnLane, LoadedReplicas, ModelHost, ModelLane, ReplicaPool } from "./ports.ts";
import { type PlacedLane, ServedModel } from "./served-model.ts";

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

/** Where a version is, from its first load until it leaves. */
interface Placed {
  readonly lanes: Map<string, PlacedLane>;
  /** Whether the engine knows the model; until then it is told of none of the lanes. */
  announced: boolean;
}

/** Brings model versions to device lanes and CPU replicas, takes them away, and keeps track of where they are meanwhile. */
export class Placement {
  readonly #parts: PlacementParts;
  readonly #watch: PlacementWatch;
  readonly #placed = new Map<string, Placed>();

  constructor(parts: PlacementParts, watch: PlacementWatch) {
    this.#parts = parts;
    this.#watch = watch;
  }

  /** Loads a version where it belongs and announces it to the engine; where that fails it is left on no lane. */
  async place(asked: ModelVersion): Promise<ServedModel> {
    const { key } = asked;
    const placed: Placed = { lanes: new Map(), announced: false };
    this.#placed.set(key, placed);
    try {
      return await this.#place(asked, placed);
    } catch (error) {
      await this.leave(key);
      throw error;
    }
  }

  async #place(asked: ModelVersion, placed: Placed): Promise<ServedModel> {
    const { lanes, host, replicas, reprofile, replicasByDefault, logger } = this.#parts;
    let version = asked;
    let pool: LoadedReplicas | null = null;
    let poolProblem: string | null = null;
    if (asked.settings.device !== "cpu") {
      for (const lane of lanes) {
        const { version: settled, on } = await this.#placeOn(version, (wanted) => lane.load(wanted, { reprofile }));
        await this.#placeAgain(version, settled, placed);
        version = settled;
        placed.lanes.set(lane.lane, { kind: "device", profiles: on.profiles, up: true });
      }
    }
    if (usesReplicas(version, replicasByDefault)) {
      this.#watch.doing(`loading ${version.key} on CPU replicas`);
      const sloUs = version.settings.sloMs === null ? null : Math.round(version.settings.sloMs * 1000);
      try {
        const load = (wanted: ModelVersion) => replicas.load(wanted, sloUs, { reprofile });
        const { version: settled, on } = await this.#placeOn(version, load);
        await this.#placeAgain(version, settled, placed);
        version = settled;
        pool = on;
      } catch (error) {
        // Replicas for spill-over are a help that it can do without, unless the lanes have dropped it meanwhile.
        if (placed.lanes.size === 0) throw error;
        poolProblem = `none: ${(error as Error).message}`;
        logger.warn({ model: asked.key }, `${asked.key} has no CPU replicas: ${(error as Error).message}`);
      }
    }
    for (const replica of pool?.devices ?? []) {
      placed.lanes.set(replica.lane, { kind: "replica", profiles: pool!.profiles, up: true });
      host.addLane(replica);
    }
    const served = new ServedModel(asked, version, placed.lanes);
    served.replicaThreads = pool?.threadsEach ?? 0;
    served.replicaSummary = pool?.summary ?? poolProblem;
    host.addModel(served.spec());
    placed.announced = true;
    // One that crashed while others were loading is announced when it has it again.
    for (const [lane, { up, profiles }] of placed.lanes) if (up) host.loaded(lane, version.key, profiles);
    return served;
  }

  /** Where one lane finds that the items of a batch mix, those that have it already must not batch it either. */
  async #placeAgain(before: ModelVersion, settled: ModelVersion, placed: Placed): Promise<void> {
    if (before.batched === settled.batched) return;
    for (const lane of this.#parts.lanes) {
      const on = placed.lanes.get(lane.lane);
      if (on === undefined) continue;
      const { profiles } = await lane.load(settled, { reprofile: this.#parts.reprofile });
      placed.lanes.set(lane.lane, { ...on, profiles });
    }
  }

  /** Loads a version, and once more as one without a batch dimension where it turns out to have none. */
  async #placeOn<T extends LoadedOnLane>(
    asked: ModelVersion,
    load: (version: ModelVersion) => Promise<T>,
  ): Promise<{ readonly version: ModelVersion; readonly on: T }> {
    let on = await load(asked);
    const why = asked.batched ? notBatched(on) : null;
    const version = why === null ? this.#padded(asked, on) : this.#unbatched(asked, why);
    if (why !== null) on = await load(version);
    this.#reportCold(version.key, on);
    return { version, on };
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

  #unbatched(version: ModelVersion, why: string): ModelVersion {
    this.#parts.logger.warn(
      { model: version.key },
      `${version.key}: ${why}, so requests can't share a batch: it runs them one by one`,
    );
    return {
      ...version,
      batched: false,
      unbatchedReason: why,
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

  /** Takes a version off its lanes, those that are restarting too; what executes is waited for. */
  async leave(key: string): Promise<void> {
    const { lanes, host, replicas } = this.#parts;
    const on = this.#placed.get(key)?.lanes ?? new Map<string, PlacedLane>();
    // A lane that brings it back from now on is told to unload it after that: nobody else needs to know.
    this.#placed.delete(key);
    const replicaLanes = [...on.keys()].filter((lane) => on.get(lane)!.kind === "replica");
    for (const lane of replicaLanes) await host.removeLane(lane);
    if (replicaLanes.length > 0) await replicas.unload(key);
    for (const lane of lanes) {
      if (!on.has(lane.lane)) continue;
      host.unloaded(lane.lane, key);
      await this.#idleOn(lane.lane, key);
      await lane.unload(key);
    }
  }

  // What lanes tell.

  /** A lane died, and what is loaded there with it; the lane brings that back, or drops it. */
  laneLost(lane: string): void {
    for (const { lanes } of this.#placed.values()) {
      const on = lanes.get(lane);
      if (on !== undefined) lanes.set(lane, { ...on, up: false });
    }
  }

  laneReloaded(lane: string, key: string, profiles: ShapeProfiles): void {
    const placed = this.#placed.get(key);
    const on = placed?.lanes.get(lane);
    if (placed === undefined || on === undefined) return;
    placed.lanes.set(lane, { ...on, profiles, up: true });
    if (placed.announced) this.#parts.host.loaded(lane, key, profiles);
  }

  replicaRestored(key: string, replica: Device, profiles: ShapeProfiles): void {
    if (!this.#placed.get(key)?.lanes.has(replica.lane)) return;
    this.#parts.host.addLane(replica);
    this.laneReloaded(replica.lane, key, profiles);
  }

  /** @returns what is left of the model; null where it was not placed on the lane */
  laneDropped(lane: string, key: string): "other lanes" | "nothing" | null {
    const placed = this.#placed.get(key);
    if (placed === undefined || !placed.lanes.delete(lane)) return null;
    if (placed.lanes.size > 0) return "other lanes";
    // While it is being placed, other lanes may be to come.
    if (placed.announced) this.#placed.delete(key);
    return "nothing";
  }

  async #idleOn(lane: string, key: string): Promise<void> {
    while (!this.#watch.closed() && this.#parts.host.executes(lane, key)) await delay(IDLE_CHECK_MS);
  }
}

/** Why the first dimension turned out not to be a batch's; null where it is one. */
function notBatched({ unbatchedOutputs, mixedOutputs }: LoadedOnLane): string | null {
  if (unbatchedOutputs.length > 0)
    return `the first dimension of output ${quoted(unbatchedOutputs)} is not the batch's`;
  if (mixedOutputs.length === 0) return null;
  return `in output ${quoted(mixedOutputs)} an item is answered otherwise beside others than alone (config.yaml: \`batched: true\` asserts that this is meant)`;
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(", ");
}
