import { MARGIN_DEVIATIONS } from "./profiles.ts";
import type { QueuedRequest } from "./request.ts";
import { ShareAccount } from "./shares.ts";
import type { BatchPlan, ExecutionId, LaneKind, ShapeProfiles } from "./types.ts";

/** Executions that a lane remembers. */
export const HISTORY_MAX = 128;

/**
 * The hand-over is taken to be what this share of those observed does not exceed: a device that waits costs several times what it
 * costs to choose its next batch that much too early.
 */
const HANDOVER_QUANTILE = 0.75;
/** How far one observation moves it, as a part of the longest one. */
const HANDOVER_STEP = 0.02;

/** A batch that was given to a lane. */
export interface StartedBatch {
  readonly plan: BatchPlan;
  readonly requests: readonly QueuedRequest[];
  readonly predictedUs: number;
  /** How far executions like it have been from what was predicted, on average. */
  readonly deviationUs: number;
}

/** An execution on a lane. */
export interface Running extends StartedBatch {
  readonly startUs: number;
  /** Whether the lane had nothing to do when it was given this. */
  readonly fromIdle: boolean;
  readonly predictedEndUs: number;
  /** When its successor is to be staged; Infinity once it has been, or where there is no staging. */
  stageAtUs: number;
  /** When its successor may be started behind it; Infinity where it may not. */
  readonly openAtUs: number;
}

/** What a lane did: kept for a while, to explain to requests what they waited for. */
export interface PastExecution {
  readonly model: string;
  readonly startUs: number;
  readonly endUs: number;
  readonly predictedUs: number;
}

export class Lane {
  readonly name: string;
  readonly kind: LaneKind;
  /** Index into `Group.plans`. */
  readonly slot: number;
  /** Time from the end of an execution until one that is started then executes, as observed; at most what the options say. */
  handoverUs: number;
  readonly #handoverMaxUs: number;
  readonly loaded: Map<string, ShapeProfiles> = new Map();
  running: Running | null = null;
  /** Given to the lane while it executes another; executes when that has ended. */
  following: StartedBatch | null = null;
  /** Whether it may be given a batch: it executes nothing, or is about to end what it executes. */
  open = true;
  /** Id given to a staged plan, for the start that follows. */
  reservedId: ExecutionId | null = null;
  /** When to look again at an open lane that was given nothing although work waits. */
  lookAgainUs: number = Number.POSITIVE_INFINITY;
  /** Device time that expected arrivals need in each unit of time. */
  load = 0;
  /** The same, as far as the survey has got. */
  loadCounted = 0;
  /** What best-effort work gets of a replica's own time. */
  readonly bestEffortShare: ShareAccount = new ShareAccount();
  /** A ring of what it executed. */
  readonly #history: PastExecution[] = [];
  #historyNext = 0;

  constructor(name: string, kind: LaneKind, slot: number, handoverMaxUs: number) {
    this.name = name;
    this.kind = kind;
    this.slot = slot;
    this.handoverUs = handoverMaxUs;
    this.#handoverMaxUs = handoverMaxUs;
  }

  /** When it can be given another batch, as predicted. */
  freeAtUs(nowUs: number): number {
    if (this.running === null) return nowUs;
    return Math.max(nowUs, this.running.predictedEndUs) + Math.round(this.following?.predictedUs ?? 0);
  }

  /** The same with a margin for how far off the prediction of what it executes may be. */
  surelyFreeAtUs(nowUs: number): number {
    const { running } = this;
    return this.freeAtUs(nowUs) + (running === null ? 0 : Math.round(MARGIN_DEVIATIONS * running.deviationUs));
  }

  /** An execution that found the lane idle took this much longer than the device needed for it. */
  observeHandover(us: number): void {
    const step = this.#handoverMaxUs * HANDOVER_STEP;
    const moved = this.handoverUs + step * (us > this.handoverUs ? HANDOVER_QUANTILE : HANDOVER_QUANTILE - 1);
    this.handoverUs = Math.round(Math.min(Math.max(moved, step), this.#handoverMaxUs));
  }

  remember(past: PastExecution): void {
    this.#history[this.#historyNext] = past;
    this.#historyNext = (this.#historyNext + 1) % HISTORY_MAX;
  }

  /** What it executed before its last `back` executions; undefined where it remembers none. */
  past(back: number): PastExecution | undefined {
    return back < HISTORY_MAX ? this.#history[(this.#historyNext - 1 - back + HISTORY_MAX) % HISTORY_MAX] : undefined;
  }
}
