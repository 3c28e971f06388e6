/**
 * What the engine needs from the world. Live, simulated and test adapters implement these ports; the engine and the
 * scheduler are the same in all three.
 */
import type { BatchPlan, LaneKind, RequestId, ShedCause, ShedDetail, WaitExplanation } from "../scheduler/types.ts";
import type { Padding } from "./sequence.ts";
import type { InputTensor, Tensor } from "./tensors.ts";

/** Monotonic time and the one timer. */
export interface Clock {
  /** Integer microseconds from an arbitrary origin. */
  nowUs(): number;
  /** Calls `fn` once at or after `atUs`, replacing an earlier timer; null disarms. Never calls it synchronously. */
  wakeAt(atUs: number | null, fn: () => void): void;
}

/** Where a request with a fallback is on its way. */
export type FallbackStage = "ahead" | "instead" | "behind";

/** A validated request, as an adapter hands it to the engine. */
export interface InferenceRequest {
  /** Key of the model version (`name/version` live). */
  readonly model: string;
  /** Size of the batch dimension; 1 for a model without one. */
  readonly items: number;
  /** Key of the non-batch dimensions where they vary; `""` where all items have one shape. */
  readonly shape: string;
  /** Where it is padded to the length that `shape` has; its inputs have its own. */
  readonly padding?: Padding | null;
  /** In the order of the model's declared inputs. Bytes may be views on the received message; they are not modified. */
  readonly inputs: readonly InputTensor[];
  /** Names of the outputs that are wanted, in order; null for all. */
  readonly outputs: readonly string[] | null;
  /** Absolute, engine clock; null for best-effort work. */
  readonly deadlineUs: number | null;
  /** What the scheduler takes for the deadline: earlier, where time is kept for another model to answer; absent: the deadline itself. */
  readonly planByUs?: number | null;
  readonly explicit: boolean;
  readonly expiresUs: number | null;
  readonly tenant: string;
  /**
   * Of a request with a fallback, for those who count: `ahead` where another model is asked when this one sheds it, `instead` where
   * this one is that model, `behind` where that could not answer it either and the first one does, late. All are one request.
   */
  readonly fallback?: FallbackStage | null;
  /**
   * Identifies what answers it, besides its inputs and the outputs it wants: requests that are equal in all three may be given one
   * answer. Its inputs are in the daemon's memory then. Absent or null: it is executed in any case.
   */
  readonly cacheAs?: string | null;
}

/** A request with the payload the engine keeps for it. */
export interface AcceptedRequest extends InferenceRequest {
  readonly id: RequestId;
  readonly arrivedUs: number;
  /** Of its inputs, what the daemon holds. */
  readonly bytes: number;
}

/** A batch on its way to a lane: the scheduler's plan and the requests it names, in the same order. */
export interface Execution {
  readonly plan: BatchPlan;
  readonly requests: readonly AcceptedRequest[];
}

/** How long the parts of an execution took on the lane. */
export interface ExecutionTimings {
  /** Copying inputs into the lane's memory. */
  readonly gatherUs: number;
  /** The runtime's run call; what profiles predict. */
  readonly executeUs: number;
  /** Making outputs available to the engine. */
  readonly collectUs: number;
}

/** Requests of a batch whose inputs could not be copied from outside, each with why; the batch was executed without them. */
export type UnreadableRequests = ReadonlyMap<RequestId, Error>;

export type ExecutionResult =
  | {
      readonly ok: true;
      /** Absent where there are none. */
      readonly unreadable?: UnreadableRequests;
      /**
       * One tensor for each output of the model, with the executed bucket as its batch dimension and the shape key's length
       * (padding included).
       * Views are valid until `Device.release` is called for the execution.
       */
      readonly outputs: readonly Tensor[];
      readonly timings: ExecutionTimings;
    }
  | {
      readonly ok: false;
      readonly message: string;
      readonly timings: ExecutionTimings | null;
      readonly unreadable?: UnreadableRequests;
    };

/** A lane as the engine sees it: it executes one batch at a time, and can gather the next one or have it ready meanwhile. */
export interface Device {
  readonly lane: string;
  readonly kind: LaneKind;
  /** Where the engine learns of ends and of the lane's loss; set once by the engine. Never called synchronously from start. */
  attach(events: DeviceEvents): void;
  /** Gathers this batch into the free slot, replacing what was staged there. */
  stage(execution: Execution): void;
  /**
   * Executes; uses what was staged where the members are the same (or a prefix), gathers otherwise. While a device executes
   * one batch it takes one more, to follow without a gap; ends are told in the order of starts.
   */
  start(execution: Execution): void;
  /** The outputs of this execution are no longer read. */
  release(execution: Execution): void;
}

export interface DeviceEvents {
  ended(lane: string, execution: Execution, result: ExecutionResult): void;
  /** The lane died; what it executed is lost. It may come back as a new `Device` of the same name. */
  lost(lane: string, reason: string): void;
}

/** Where and how long a request's time went; durations in microseconds. */
export interface RequestTimings extends ExecutionTimings {
  /** From arrival to the start of its execution. */
  readonly queueUs: number;
  /** 0 where it was not executed. */
  readonly batchItems: number;
  readonly bucket: number;
  /** null: it was not executed, its answer was cached. */
  readonly lane: string | null;
  /** Answered after its deadline by this much; 0 where on time or without one. */
  readonly lateUs: number;
  /** What the wait was made of, where the scheduler explains it. */
  readonly waited: WaitExplanation | null;
}

/** How a request ended. Exactly one of these for each accepted request that was not cancelled. */
export type Outcome =
  /** Tensor views are valid only during the call: encode or copy before returning. A BYTES tensor may be joined, as on the wire. */
  | { readonly type: "answered"; readonly outputs: readonly Tensor[]; readonly timings: RequestTimings }
  | { readonly type: "shed"; readonly cause: ShedCause; readonly detail: ShedDetail }
  /** The model failed while running; the message is the runtime's. */
  | { readonly type: "failed"; readonly message: string }
  /** An input could not be copied from outside the daemon; the error is what its `copyTo` threw. */
  | { readonly type: "unreadable"; readonly error: Error }
  /** The lane was lost while it executed the request; it may be tried again. */
  | { readonly type: "lost"; readonly reason: string };

/** Receives the one outcome of a request; may be called before `submit` returns (a shed on arrival). */
export type Reply = (outcome: Outcome, request: AcceptedRequest) => void;

/** The engine as the adapters on the wire's side see it. */
export interface Inference {
  nowUs(): number;
  submit(request: InferenceRequest, reply: Reply): RequestId;
  /** The caller has gone: the reply will not be called any more. Unknown and ended ids are ignored. */
  cancel(id: RequestId): void;
}
