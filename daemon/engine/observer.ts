import type { LaneKind, ShedCause, ShedDetail } from "../scheduler/types.ts";
import type { AcceptedRequest, Execution, ExecutionResult, RequestTimings } from "./ports.ts";

/**
 * Watches what the engine does: metrics, statistics and logs implement the parts they need. Called synchronously, in
 * order of what happened; an observer must be quick, must not throw and must not keep payloads.
 */
export interface EngineObserver {
  arrived?(request: AcceptedRequest): void;
  /**
   * A batch executes from now on. What each request waited for is in its timings when it ends.
   *
   * @param chosenUs when it was handed to its lane: earlier where it had to wait there for another to end
   */
  started?(execution: Execution, nowUs: number, chosenUs: number): void;
  /**
   * A batch has ended, before its requests are answered.
   *
   * @param timings in the order of the batch's requests; null for a request that was cancelled meanwhile or could
   *   not be read, and for all where the execution failed
   */
  ended?(
    execution: Execution,
    result: ExecutionResult,
    timings: readonly (RequestTimings | null)[],
    nowUs: number,
  ): void;
  /** A batch of several requests failed: instead of `ended`. They are queued again, each to be executed by itself. */
  split?(execution: Execution, nowUs: number): void;
  shed?(request: AcceptedRequest, cause: ShedCause, detail: ShedDetail, nowUs: number): void;
  /** The request will miss the deadline it did not state, and goes on as best-effort work. */
  demoted?(request: AcceptedRequest, nowUs: number): void;
  /** @param executing whether its batch had started: then it runs to its end and the result is discarded */
  cancelled?(request: AcceptedRequest, executing: boolean, nowUs: number): void;
  laneUp?(lane: string, kind: LaneKind, nowUs: number): void;
  /** A lane was removed, or died: then what it executed is told by `lost`. */
  laneDown?(lane: string, reason: string, nowUs: number): void;
  /** The lane died while it executed this; its requests are about to be told. */
  lost?(execution: Execution, reason: string, nowUs: number): void;
}
