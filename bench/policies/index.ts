/** The schedulers that the simulator can run: slackline's own, and others to compare it with. */
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { Scheduler, SchedulerOptions } from "../../daemon/scheduler/types.ts";
import { EagerEdf } from "./eager-edf.ts";

export interface Policy {
  /** One line for `--policy list`. */
  readonly summary: string;
  create(options: SchedulerOptions): Scheduler;
}

export const POLICIES: Readonly<Record<string, Policy>> = {
  slackline: {
    summary: "the daemon's own scheduler",
    create: (options) => createScheduler(options),
  },
  "eager-edf": {
    summary: "earliest deadline first over all models, work-conserving, with expiry",
    create: () => new EagerEdf(),
  },
};
