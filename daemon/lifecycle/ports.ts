/** What the lifecycle of models needs from lanes and replicas; `device/` and `cpu/` provide it. */
import type { Device } from "../engine/ports.ts";
import type { OutputAxes } from "../engine/sequence.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { ModelSpec, ShapeProfiles } from "../scheduler/types.ts";

/** A model that can execute on a lane. */
export interface LoadedOnLane {
  readonly profiles: ShapeProfiles;
  /** Shapes that were to be warmed and could not be. */
  readonly coldShapes: readonly { readonly shape: string; readonly message: string }[];
  /** Whether requests may be padded as the model's settings ask, and how outputs grow then; null where they don't ask. */
  readonly padding:
    | { readonly ok: true; readonly outputAxes: OutputAxes }
    | { readonly ok: false; readonly reason: string }
    | null;
  /** Outputs whose first dimension is not the batch's: such a model has to be loaded as one without a batch dimension. */
  readonly unbatchedOutputs: readonly string[];
  readonly mixedOutputs: readonly string[];
}

/** A device lane on which models are loaded. Loads go one after another; executions go on meanwhile. */
export interface ModelLane {
  readonly lane: string;
  load(version: ModelVersion, options: { readonly reprofile: boolean }): Promise<LoadedOnLane>;
  unload(key: string): Promise<void>;
  /** All profiles with one for `shape` added, where the lane had none for it; null where nothing is new. */
  profilesFor(key: string, shape: string): ShapeProfiles | null;
  /** Whether the first batches of this shape may take seconds, since the device prepares for each shape. */
  isCold(key: string, shape: string): boolean;
  /**
   * Prepares for the shape and measures it, one batch size at a time; `turn` is waited for before each. Batches go on
   * meanwhile. Resolves to all profiles that were measured; rejects where the model can't run it, or is unloaded.
   */
  warm(key: string, shape: string, turn: () => Promise<void>): Promise<ShapeProfiles>;
}

/** A model's CPU replicas: each is a lane on which nothing else is loaded. */
export interface LoadedReplicas extends LoadedOnLane {
  /** Each to be taken into service; a replica that is lost comes back by `ReplicaEvents`. */
  readonly devices: readonly Device[];
  readonly threadsEach: number;
  /** What was tried and why this split was kept, in words. */
  readonly summary: string;
}

/** CPU replicas of any number of models. */
export interface ReplicaPool {
  load(version: ModelVersion, sloUs: number | null, options: { readonly reprofile: boolean }): Promise<LoadedReplicas>;
  unload(key: string): Promise<void>;
  profilesFor(key: string, shape: string): ShapeProfiles | null;
}

/** The engine as the lifecycle drives it. */
export interface ModelHost {
  addModel(spec: ModelSpec): void;
  removeModel(key: string): void;
  addLane(device: Device): void;
  removeLane(lane: string): Promise<void>;
  loaded(lane: string, key: string, profiles: ShapeProfiles): void;
  unloaded(lane: string, key: string): void;
  /** Whether nothing of the model is queued or executing. */
  isIdle(key: string): boolean;
  /** Whether no work with deadlines waits anywhere, and none has been executing on the lane for a while. */
  isQuiet(lane: string): boolean;
  /** Whether the lane is executing a batch of the model. */
  executes(lane: string, key: string): boolean;
}

/** What others want to know of a model's state; called after it has changed. */
export interface LifecycleObserver {
  servingChanged(name: string, version: number, serving: boolean): void;
}

export interface LifecycleLogger {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}
