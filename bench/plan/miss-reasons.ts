import type { EngineObserver } from "../../daemon/engine/observer.ts";
import type { AcceptedRequest, Execution } from "../../daemon/engine/ports.ts";

/** What a model's requests that were not answered in time had before them. */
export interface MissReasons {
  readonly missed: number;
  /** Mean time from arrival until their batch started or, for those that were dropped, until their deadline. */
  readonly had_ms: number;
  /** Shares of that time in which lanes ran batches, by model, the largest first. The rest they were free, or held. */
  readonly before: readonly { readonly model: string; readonly share: number; readonly batch_ms: number }[];
  readonly free_share: number;
}

interface Past {
  readonly model: string;
  readonly startUs: number;
  endUs: number;
}

interface Blockers {
  missed: number;
  hadUs: number;
  readonly byModel: Map<string, { us: number; batches: number; batchUs: number }>;
}

/** Executions of each lane that are remembered: more than a request can wait for. */
const REMEMBERED_MAX = 512;

/** Follows a run and finds out what stood before the requests that missed their deadlines. */
export class MissWatch implements EngineObserver {
  readonly #lanes = new Map<string, Past[]>();
  readonly #blockers = new Map<string, Blockers>();
  readonly #busyUs = new Map<string, number>();
  readonly #started = new Map<Execution, number>();
  /** Dropped ones whose deadline is still to come: what runs until then is why they were. */
  #dropped: AcceptedRequest[] = [];

  started(execution: Execution, nowUs: number): void {
    const { lane, model } = execution.plan;
    let past = this.#lanes.get(lane);
    if (past === undefined) {
      past = [];
      this.#lanes.set(lane, past);
    }
    past.push({ model, startUs: nowUs, endUs: Number.POSITIVE_INFINITY });
    if (past.length > REMEMBERED_MAX) past.splice(0, past.length - REMEMBERED_MAX / 2);
    this.#started.set(execution, nowUs);
  }

  ended(execution: Execution, _result: unknown, _timings: unknown, nowUs: number): void {
    const { lane, model } = execution.plan;
    this.#lanes.get(lane)!.at(-1)!.endUs = nowUs;
    const startUs = this.#started.get(execution)!;
    this.#started.delete(execution);
    this.#busyUs.set(model, (this.#busyUs.get(model) ?? 0) + nowUs - startUs);
    for (const request of execution.requests) {
      if (request.deadlineUs !== null && nowUs > request.deadlineUs) this.#missed(request, startUs);
    }
    this.#judgeDropped(nowUs);
  }

  shed(request: AcceptedRequest): void {
    // What a fallback can't answer either has been dropped by the model that was asked for, and counts there.
    if (request.deadlineUs !== null && request.fallback !== "instead") this.#dropped.push(request);
  }

  #judgeDropped(nowUs: number): void {
    const due = this.#dropped.filter(({ deadlineUs }) => deadlineUs! <= nowUs);
    if (due.length === 0) return;
    this.#dropped = this.#dropped.filter(({ deadlineUs }) => deadlineUs! > nowUs);
    for (const request of due) this.#missed(request, request.deadlineUs!);
  }

  #missed(request: AcceptedRequest, untilUs: number): void {
    let blockers = this.#blockers.get(request.model);
    if (blockers === undefined) {
      blockers = { missed: 0, hadUs: 0, byModel: new Map() };
      this.#blockers.set(request.model, blockers);
    }
    blockers.missed++;
    blockers.hadUs += untilUs - request.arrivedUs;
    for (const past of this.#lanes.values()) {
      for (let i = past.length - 1; i >= 0 && past[i]!.endUs > request.arrivedUs; i--) {
        const { model, startUs, endUs } = past[i]!;
        const us = Math.min(endUs, untilUs) - Math.max(startUs, request.arrivedUs);
        if (us <= 0) continue;
        const sum = blockers.byModel.get(model) ?? { us: 0, batches: 0, batchUs: 0 };
        blockers.byModel.set(model, sum);
        sum.us += us;
        sum.batches++;
        sum.batchUs += Math.min(endUs, untilUs) - startUs;
      }
    }
  }

  /** Time that lanes executed each model's batches, in microseconds. */
  busyUs(model: string): number {
    return this.#busyUs.get(model) ?? 0;
  }

  /** Null where the model missed none. */
  reasons(model: string): MissReasons | null {
    this.#judgeDropped(Number.POSITIVE_INFINITY);
    const blockers = this.#blockers.get(model);
    if (blockers === undefined) return null;
    const { missed, hadUs, byModel } = blockers;
    // With several lanes the time that one request waits is waited for on each of them.
    const laneUs = Math.max(1, hadUs * this.#lanes.size);
    const before = [...byModel]
      .map(([name, { us, batches, batchUs }]) => ({
        model: name,
        share: us / laneUs,
        batch_ms: batchUs / batches / 1000,
      }))
      .sort((a, b) => b.share - a.share);
    const busy = before.reduce((sum, { share }) => sum + share, 0);
    return { missed, had_ms: hadUs / missed / 1000, before, free_share: Math.max(0, 1 - busy) };
  }
}
