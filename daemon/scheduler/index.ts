import { CentralScheduler } from "./scheduler.ts";
import type { Scheduler, SchedulerOptions } from "./types.ts";

export type * from "./types.ts";

/** What holds where nothing else is said. */
export const DEFAULT_SCHEDULER_OPTIONS: SchedulerOptions = {
  fairness: false,
  bestEffortShareMin: 0.02,
  tenantWeights: {},
  tenantMinShares: {},
  gatherUs: 0,
  handoverUs: 0,
};

/** The daemon's scheduler: a pure state machine, driven by events that carry the time. */
export function createScheduler(options: Partial<SchedulerOptions> = {}): Scheduler {
  return new CentralScheduler({ ...DEFAULT_SCHEDULER_OPTIONS, ...options });
}
