/** What the daemon's side of a lane and its session threads tell each other. Contracts within this folder only. */

import type { OutputAxes, SequencePadding } from "../engine/sequence.ts";
import type { TensorSpec } from "../engine/tensors.ts";
import type { ShapeProfiles } from "../scheduler/types.ts";
import type { Region } from "./arena.ts";
import type { LoadErrorCode } from "./load-error.ts";
import type { Provider } from "./provider.ts";

/** What a session thread needs to know of a model. */
export interface LoadRequest {
  readonly model: string;
  readonly path: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly batched: boolean;
  /** Whether it is to be tried out if items of a batch are answered as they are alone. */
  readonly tryBatching: boolean;
  readonly maxBatchSize: number;
  /** Padding that is to be tried out; null: requests are not padded, or it has been tried out already. */
  readonly sequence: SequencePadding | null;
  readonly provider: Provider;
  /** Intra-op threads of the session. */
  readonly threads: number;
  /** null: chosen by measuring. */
  readonly buckets: readonly number[] | null;
  readonly warmShapes: WarmShapes;
  /** What trial runs fill each input with; null: made-up values. */
  readonly warmValues: readonly (number | string | null)[];
  /** Measured earlier on the same model, runtime, device and threads: only warm-up is needed. */
  readonly known: KnownProfiles | null;
  /** Time to spend on measuring, for each shape. */
  readonly profileBudgetMs: number;
}

/** Shape keys to warm: all of them, or where the model says nothing, the first that works. */
export interface WarmShapes {
  readonly keys: readonly string[];
  readonly firstThatWorks: boolean;
}

export interface KnownProfiles {
  readonly buckets: readonly number[];
  readonly profiles: ShapeProfiles;
}

/** What came of trying to pad: which dimensions of the outputs grow, or why requests must not be padded. */
export type PaddingTrial =
  | { readonly ok: true; readonly outputAxes: OutputAxes }
  | { readonly ok: false; readonly reason: string };

/** A shape that was to be warmed, and why it could not be. */
export interface ColdShape {
  readonly shape: string;
  readonly message: string;
}

/** Batch sizes have sessions of their own, since a change of the size costs time. */
export interface SeparatedSizes {
  readonly sessions: number;
  readonly costUs: number;
  /** Batch sizes that were given up for want of room. */
  readonly dropped: readonly number[];
  /** Why there are no more sessions, where there should be. */
  readonly problem: string | null;
}

export interface WarmedModel extends KnownProfiles {
  readonly coldShapes: readonly ColdShape[];
  /** null where there was nothing to try. */
  readonly padding: PaddingTrial | null;
  /** Outputs whose first dimension is not the batch's, by what was seen in warm-up. */
  readonly unbatchedOutputs: readonly string[];
  /** Outputs in which an item of a batch was answered otherwise than alone; empty where that was not tried. */
  readonly mixedOutputs: readonly string[];
  /** Null where one session executes all batches. */
  readonly separated: SeparatedSizes | null;
  /** The largest warmed batch's inputs and outputs. */
  readonly slotBytes: number;
  /** Time to create the session; to warm and measure it. */
  readonly createUs: number;
  readonly warmUpUs: number;
}

export interface RunRequest {
  readonly type: "run";
  readonly execution: number;
  readonly model: string;
  readonly shape: string;
  readonly bucket: number;
  /** The slot in shared memory; null where the slot's buffer comes with the message. */
  readonly region: Region | null;
}

/** On a lane whose threads take turns. */
export interface NumberedRun extends RunRequest {
  /** Counts the batches that were sent to the lane's threads since they share a token, from 0: they execute in this order. */
  readonly turn: number;
}

/** To warm and measure one batch size of a shape of a model that is loaded. */
export interface WarmRequest {
  readonly type: "warm";
  readonly model: string;
  readonly shape: string;
  readonly bucket: number;
  readonly budgetMs: number;
}

export type ToThread =
  | { readonly type: "load"; readonly request: LoadRequest }
  | { readonly type: "unload"; readonly model: string }
  | WarmRequest
  | { readonly type: "map"; readonly region: Region }
  | { readonly type: "unmap"; readonly region: Region }
  | NumberedRun;

/** Where an output of an execution lies: in the slot from `offset`, or (−1) next in the message's payload. */
export interface OutputPlace {
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

export type FromThread =
  | { readonly type: "progress"; readonly model: string; readonly activity: string }
  | { readonly type: "loaded"; readonly model: string; readonly result: WarmedModel }
  | { readonly type: "load-failed"; readonly model: string; readonly code: LoadErrorCode; readonly message: string }
  | { readonly type: "warmed"; readonly us: number }
  | { readonly type: "warm-failed"; readonly message: string }
  | { readonly type: "unloaded"; readonly model: string }
  | {
      readonly type: "done";
      readonly execution: number;
      readonly executeUs: number;
      readonly outputs: readonly OutputPlace[];
    }
  | {
      readonly type: "failed";
      readonly execution: number;
      readonly message: string;
      readonly executeUs: number | null;
      /** The device itself is in a state that only a new process can leave. */
      readonly fatal: boolean;
    };

/** Either end of the line between the daemon and one session thread. */
export interface Channel<Out, In> {
  /** `buffer` is a slot that is handed over with the message where memory is not shared. */
  send(message: Out, payload?: readonly Uint8Array[], buffer?: ArrayBuffer): void;
  /** Set once, before the first message can arrive. */
  onMessage(listener: (message: In, payload: Uint8Array, buffer: ArrayBuffer | null) => void): void;
  close(): void;
}

/** How a session thread is told where to find its line, its memory and the execution token. */
export interface ThreadData {
  readonly token: SharedArrayBuffer;
  /** null: messages go through the worker's own port, slots included. */
  readonly socket: { readonly address: string; readonly secret: string; readonly thread: number } | null;
  readonly arenaFd: number | null;
}

export interface Hello {
  readonly secret: string;
  readonly thread: number;
}
