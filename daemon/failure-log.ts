import type { EngineObserver } from "./engine/observer.ts";
import type { Execution, ExecutionResult } from "./engine/ports.ts";

/** A model that fails again and again has one line for so long. */
const LINE_EVERY_US = 10_000_000;

export interface FailureLogger {
  warn(details: object, message: string): void;
}

/** Says in the log that executions fail: callers are told by their answers, operators by this. */
export class FailureLog implements EngineObserver {
  readonly #logger: FailureLogger;
  /** By model: when its last line was written, and how many requests failed since. */
  readonly #told = new Map<string, { readonly atUs: number; untold: number }>();

  constructor(logger: FailureLogger) {
    this.#logger = logger;
  }

  ended({ plan, requests }: Execution, result: ExecutionResult, _timings: unknown, nowUs: number): void {
    if (result.ok) return;
    // Those that could not be read are their callers' fault alone.
    const failed = requests.length - (result.unreadable?.size ?? 0);
    if (failed === 0) return;
    const last = this.#told.get(plan.model);
    if (last !== undefined && nowUs - last.atUs < LINE_EVERY_US) {
      last.untold += failed;
      return;
    }
    this.#told.set(plan.model, { atUs: nowUs, untold: 0 });
    const more =
      last === undefined || last.untold === 0 ? "" : ` (so did ${last.untold} more since this was last said)`;
    const { message } = result;
    this.#logger.warn(
      { model: plan.model, lane: plan.lane, shape: plan.shape, requests: failed, reason: message },
      `${plan.model} failed while running${more}: ${message}`,
    );
  }
}
