/** How a lane is set up, what it tells, and what it says of a model that it loaded. */
import type { LaneKind, ShapeProfiles } from "../scheduler/types.ts";
import type { ArenaBacking } from "./arena.ts";
import type { HangLimits } from "./hang-limits.ts";
import type { LaneDevice } from "./lane-device.ts";
import type { LoadError } from "./load-error.ts";
import type { ColdShape, PaddingTrial } from "./messages.ts";
import type { Provider } from "./provider.ts";

export type Transport = ArenaBacking | "threads";

export interface LaneOptions {
  /** Name of the lane, as the scheduler and the metrics know it. */
  readonly lane: string;
  readonly kind?: LaneKind;
  readonly provider: Provider;
  /** The hardware's name; profiles measured on another are not used. */
  readonly deviceName: string;
  /** Intra-op threads of sessions whose model does not say. */
  readonly threads: number;
  /** How tensors reach the lane; by default the first that works of `memfd`, `shm`, `threads`. */
  readonly transport?: Transport;
  /** Folder for measured profiles; null: none are kept. */
  readonly cacheFolder: string | null;
  /** Time to spend on measuring each shape of a model; 3000 by default. */
  readonly profileBudgetMs?: number;
  /** Limit on shared memory. */
  readonly arenaBytesMax?: number;
  /** When it counts as hung, and is started again; `HANG_LIMITS` where not given. */
  readonly hangLimits?: Partial<HangLimits>;
  readonly events: LaneEvents;
}

export interface LaneEvents {
  /** After a crash, which the old device told as `lost`: a new device of the same name, with nothing loaded yet. */
  restarted(device: LaneDevice): void;
  /** After a restart: the model is back. */
  reloaded(model: LoadedModel): void;
  /** The model could not be loaded again, or has crashed its lane too often: it is gone until it is loaded anew. */
  dropped(model: string, error: LoadError): void;
  /** What a load is doing, in words: `bucket 16`. */
  progress?(model: string, activity: string): void;
  /** Something for the log: a line of the lane's own output, a crash, a restart. */
  log(level: "info" | "warn", message: string): void;
}

/** A model that is ready to execute on the lane. */
export interface LoadedModel {
  readonly model: string;
  readonly profiles: ShapeProfiles;
  /** Ascending; the last is the largest batch. */
  readonly buckets: readonly number[];
  /** Whether the profiles were measured at an earlier load. */
  readonly fromCache: boolean;
  /** Shapes that were to be warmed and could not be. */
  readonly coldShapes: readonly ColdShape[];
  /** Whether requests may be padded as the model's settings ask; null where they don't. */
  readonly padding: PaddingTrial | null;
  /**
   * Outputs whose first dimension is not the batch's. Where there are any, batches cannot be split into answers: unload the
   * model and load it as one without a batch dimension.
   */
  readonly unbatchedOutputs: readonly string[];
  /** Outputs in which an item of a batch was answered otherwise than alone: as above, unless the model's settings assert a batch dimension. */
  readonly mixedOutputs: readonly string[];
  readonly createUs: number;
  readonly warmUpUs: number;
}

export interface LoadOptions {
  /** Measures even where profiles are cached. */
  readonly reprofile?: boolean;
}
