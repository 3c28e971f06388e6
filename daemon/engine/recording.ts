import { isDeepStrictEqual } from "node:util";
import type { Scheduler, SchedulerEffect, SchedulerEvent } from "../scheduler/types.ts";

/** One step of a live run: what the scheduler was told, when, and what it asked for. */
export interface RecordedStep {
  readonly nowUs: number;
  readonly event: SchedulerEvent;
  readonly effects: readonly SchedulerEffect[];
}

/** Called by the engine after each step of its scheduler; must copy what it keeps of the effects' list. */
export type Recorder = (event: SchedulerEvent, nowUs: number, effects: readonly SchedulerEffect[]) => void;

/** Where a replay did something else than the run it replays. */
export interface Divergence {
  /** Index of the step. */
  readonly step: number;
  readonly recorded: RecordedStep;
  readonly replayed: readonly SchedulerEffect[];
}

/** Keeps a run's steps in memory. */
export class Recording {
  readonly steps: RecordedStep[] = [];
  readonly record: Recorder = (event, nowUs, effects) => {
    this.steps.push({ nowUs, event, effects: [...effects] });
  };
}

/**
 * Feeds recorded events to a fresh scheduler of the same options and compares what it asks for.
 *
 * @returns the first step whose effects differ; null where the whole run is reproduced
 */
export function replay(steps: Iterable<RecordedStep>, scheduler: Scheduler): Divergence | null {
  let step = 0;
  for (const recorded of steps) {
    const replayed = scheduler.step(recorded.event, recorded.nowUs);
    if (!isDeepStrictEqual([...replayed], [...recorded.effects])) return { step, recorded, replayed };
    step++;
  }
  return null;
}
