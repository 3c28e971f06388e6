/** How long a lane may be silent before it counts as hung, and the timers that tell. */

export interface Timer {
  /** The time begins anew. */
  restart(): void;
  cancel(): void;
}

/** Calls `fn` once `ms` have passed without a restart; tests exchange it for one that they move by hand. */
export type StartTimer = (ms: number, fn: () => void) => Timer;

export interface HangLimits {
  /** An execution may take this long, and longer where a multiple of its prediction is. */
  readonly executionMs: number;
  /** A load may be silent this long: it tells of each trial run. */
  readonly loadMs: number;
  readonly startTimer: StartTimer;
}

/** Predictions are seldom wrong by a factor of two. */
const PREDICTIONS_MAX = 20;

export function executionLimitMs({ executionMs }: HangLimits, predictedUs: number): number {
  return Math.max(executionMs, Math.ceil((PREDICTIONS_MAX * predictedUs) / 1000));
}

export const startLiveTimer: StartTimer = (ms, fn) => {
  let due = false;
  const timeout = setTimeout(() => {
    due = true;
    // Where this process was what stood still, the answer lies in a socket that is read before this comes to run.
    setImmediate(() => {
      if (due) fn();
    });
  }, ms);
  timeout.unref();
  return {
    restart() {
      due = false;
      timeout.refresh();
    },
    cancel() {
      due = false;
      clearTimeout(timeout);
    },
  };
};

export const HANG_LIMITS: HangLimits = { executionMs: 10_000, loadMs: 600_000, startTimer: startLiveTimer };
