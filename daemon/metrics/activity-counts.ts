import type { EngineObserver } from "../engine/observer.ts";
import type { AcceptedRequest, Execution, ExecutionResult, RequestTimings } from "../engine/ports.ts";
import type { ShedCause, StartReason } from "../scheduler/types.ts";
import type { ModelCounts } from "../status.ts";

type ByReason = Record<StartReason, number>;

function byReason(): ByReason {
  return { deadline: 0, fill: 0, share: 0 };
}

/** A lane's executions and the wall time they took, by the reason for which they were started. */
export interface LaneActivity {
  readonly executions: Readonly<ByReason>;
  readonly busyUs: Readonly<ByReason>;
}

interface LaneCounters extends LaneActivity {
  readonly executions: ByReason;
  readonly busyUs: ByReason;
  startedUs: number | null;
}

class ModelCounters {
  requests = 0;
  onTime = 0;
  late = 0;
  bestEffort = 0;
  readonly shed: Record<string, number> = {};
  failed = 0;
  cancelled = 0;
  executions = 0;
  items = 0;
  slots = 0;
  readonly busyUs: ByReason = byReason();
}

/** Counts what `/status` tells of models and lanes. */
export class ActivityCounts implements EngineObserver {
  readonly #models = new Map<string, ModelCounters>();
  readonly #lanes = new Map<string, LaneCounters>();
  readonly #demoted = new WeakSet<AcceptedRequest>();
  readonly #cancelled = new WeakSet<AcceptedRequest>();

  arrived(request: AcceptedRequest): void {
    this.#model(request.model).requests++;
  }

  started(execution: Execution, nowUs: number): void {
    this.#lane(execution.plan.lane).startedUs = nowUs;
  }

  ended(
    execution: Execution,
    result: ExecutionResult,
    timings: readonly (RequestTimings | null)[],
    nowUs: number,
  ): void {
    const { plan, requests } = execution;
    const model = this.#model(plan.model);
    const us = this.#free(execution, nowUs);
    model.executions++;
    model.items += plan.items;
    model.slots += plan.bucket;
    model.busyUs[plan.reason] += us;
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i]!;
      const timing = timings[i] ?? null;
      if (this.#cancelled.has(request)) continue;
      if (!result.ok || timing === null) model.failed++;
      else if (request.deadlineUs === null || this.#demoted.has(request)) model.bestEffort++;
      else if (timing.lateUs > 0) model.late++;
      else model.onTime++;
    }
  }

  lost(execution: Execution, _reason: string, nowUs: number): void {
    this.#free(execution, nowUs);
    const model = this.#model(execution.plan.model);
    for (const request of execution.requests) if (!this.#cancelled.has(request)) model.failed++;
  }

  shed(request: AcceptedRequest, cause: ShedCause): void {
    const { shed } = this.#model(request.model);
    shed[cause] = (shed[cause] ?? 0) + 1;
  }

  demoted(request: AcceptedRequest): void {
    this.#demoted.add(request);
  }

  cancelled(request: AcceptedRequest): void {
    this.#cancelled.add(request);
    this.#model(request.model).cancelled++;
  }

  model(key: string): ModelCounts {
    const counters = this.#models.get(key) ?? new ModelCounters();
    return {
      requests: counters.requests,
      on_time: counters.onTime,
      late: counters.late,
      best_effort: counters.bestEffort,
      shed: { ...counters.shed },
      failed: counters.failed,
      cancelled: counters.cancelled,
      executions: counters.executions,
      items: counters.items,
      slots: counters.slots,
      busy_us: { ...counters.busyUs },
    };
  }

  lane(name: string): LaneActivity {
    const { executions, busyUs } = this.#lanes.get(name) ?? { executions: byReason(), busyUs: byReason() };
    return { executions: { ...executions }, busyUs: { ...busyUs } };
  }

  /** The lane has ended this execution; returns its wall time. */
  #free({ plan }: Execution, nowUs: number): number {
    const lane = this.#lane(plan.lane);
    const us = Math.max(0, nowUs - (lane.startedUs ?? nowUs));
    lane.executions[plan.reason]++;
    lane.busyUs[plan.reason] += us;
    return us;
  }

  #model(key: string): ModelCounters {
    let counters = this.#models.get(key);
    if (counters === undefined) {
      counters = new ModelCounters();
      this.#models.set(key, counters);
    }
    return counters;
  }

  #lane(name: string): LaneCounters {
    let counters = this.#lanes.get(name);
    if (counters === undefined) {
      counters = { executions: byReason(), busyUs: byReason(), startedUs: null };
      this.#lanes.set(name, counters);
    }
    return counters;
  }
}
