import type { FallbackEnd } from "../engine/fallback.ts";
import type { EngineObserver } from "../engine/observer.ts";
import type { AcceptedRequest, Execution, ExecutionResult, InferenceRequest, RequestTimings } from "../engine/ports.ts";
import type { FallenBack } from "../rpc/ports.ts";
import type { LaneKind, ShedCause, ShedDetail } from "../scheduler/types.ts";
import { SlidingShare } from "./sliding-share.ts";
import { count, LaneTally, type MissCause, ModelTally } from "./tally.ts";

/** Takes single measurements whose distribution matters; times in microseconds. */
export interface Distributions {
  /** A batch of so many items started. */
  batchItems(model: ModelTally, items: number): void;
  /** Time that a request had left beyond its batch's predicted execution when that started. */
  slack(model: ModelTally, us: number): void;
  /** Actual over predicted time of an execution. */
  executionRatio(model: ModelTally, ratio: number): void;
  /** From arrival to the end of its batch, or to the find in the cache. */
  latency(model: ModelTally, us: number): void;
}

export interface TalliesOptions {
  readonly distributions?: Distributions;
  /** Unix time, milliseconds. */
  readonly unixMs?: () => number;
}

/** Counts what the engine and the cache before it do, by model version and by lane. Statistics, status and metrics are read from here. */
export class EngineTallies implements EngineObserver {
  readonly models: Map<string, ModelTally> = new Map();
  readonly lanes: Map<string, LaneTally> = new Map();
  /** Refusals of requests that named no model that is known, by code and cause. */
  readonly refusals: Map<string, { readonly code: string; readonly cause: string; count: number }> = new Map();
  readonly #distributions: Distributions | null;
  readonly #unixMs: () => number;
  readonly #startedUs = new Map<number, number>();
  readonly #demoted = new WeakSet<AcceptedRequest>();
  /** A request that is cancelled may be in a batch all the same: what becomes of that is not its any more. */
  readonly #cancelled = new WeakSet<AcceptedRequest>();
  readonly #shares = new Map<string, SlidingShare>();

  constructor(options: TalliesOptions = {}) {
    this.#distributions = options.distributions ?? null;
    this.#unixMs = options.unixMs ?? Date.now;
  }

  /** The tally of a model version, made where there is none yet: then it shows in the metrics with zeros. */
  model(key: string): ModelTally {
    let tally = this.models.get(key);
    if (tally === undefined) {
      tally = new ModelTally(key);
      this.models.set(key, tally);
    }
    return tally;
  }

  /** Fill as a share of the time that deadline work left over on the lane in the last minute, 0..1. */
  idleFillShare(lane: string, nowUs: number): number {
    return this.#shares.get(lane)?.idleFillShare(nowUs) ?? 0;
  }

  /** A request was answered with an error before it reached the engine. */
  refused(model: string | null, code: string, cause: string): void {
    if (model !== null) {
      const tally = this.models.get(model);
      if (tally !== undefined) tally.refused++;
    }
    const key = `${code} ${cause}`;
    const refusal = this.refusals.get(key);
    if (refusal === undefined) this.refusals.set(key, { code, cause, count: 1 });
    else refusal.count++;
  }

  fellBack({ model, cause, shed }: FallenBack, end: FallbackEnd): void {
    const tally = this.model(model);
    if (end === "answered") count(tally.fallbacks, cause);
    else if (end !== "cancelled") count(tally.fallbackFailures, cause);
    if (end === "refused" && cause !== "not_ready") count(tally.misses, shed?.cause ?? "lost");
    if (shed === null || end === "late") return;
    count(tally.shed, shed.cause);
    tally.failUs += shed.afterUs;
  }

  arrived(request: AcceptedRequest): void {
    // One that comes back from its fallback has been counted.
    const tally = request.fallback === "behind" ? this.model(request.model) : this.#accepted(request);
    tally.pending++;
  }

  /** A request was answered from the cache: the engine never hears of it. */
  cacheHit(request: AcceptedRequest, timings: RequestTimings, us: number, nowUs: number): void {
    const tally = this.#accepted(request);
    tally.cacheHits++;
    tally.cacheHitUs += us;
    this.#answered(tally, request, timings, nowUs);
  }

  cacheMiss({ model }: InferenceRequest, us: number): void {
    const tally = this.model(model);
    tally.cacheMisses++;
    tally.cacheMissUs += us;
  }

  cacheKept({ model }: InferenceRequest, us: number): void {
    this.model(model).cacheMissUs += us;
  }

  demoted(request: AcceptedRequest): void {
    this.model(request.model).demoted++;
    this.#demoted.add(request);
  }

  shed(request: AcceptedRequest, cause: ShedCause, _detail: ShedDetail, nowUs: number): void {
    const tally = this.model(request.model);
    tally.pending--;
    // What becomes of it is told by `fellBack`.
    if (request.fallback === "ahead") return;
    count(tally.shed, cause);
    tally.failUs += nowUs - request.arrivedUs;
    if (this.#hasDeadline(request)) count(tally.misses, cause);
  }

  cancelled(request: AcceptedRequest, executing: boolean): void {
    const tally = this.model(request.model);
    this.#cancelled.add(request);
    if (executing) tally.cancelledExecuting++;
    else {
      tally.cancelledQueued++;
      tally.pending--;
    }
  }

  started(execution: Execution, nowUs: number): void {
    const { plan, requests } = execution;
    const tally = this.model(plan.model);
    this.#startedUs.set(plan.execution, nowUs);
    for (const request of requests) if (!this.#cancelled.has(request)) tally.pending--;
    if (this.#distributions === null) return;
    this.#distributions.batchItems(tally, plan.items);
    const endUs = nowUs + predictedUs(execution);
    for (const { deadlineUs } of requests) {
      if (deadlineUs !== null) this.#distributions.slack(tally, deadlineUs - endUs);
    }
  }

  ended(
    execution: Execution,
    result: ExecutionResult,
    timings: readonly (RequestTimings | null)[],
    nowUs: number,
  ): void {
    const { plan, requests } = execution;
    const tally = this.model(plan.model);
    this.#executed(execution, tally, nowUs);
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i]!;
      const own = timings[i] ?? null;
      if (own !== null) {
        tally.inferredItems += request.items;
        this.#answered(tally, request, own, nowUs);
      } else if (!this.#cancelled.has(request)) {
        tally.failed++;
        this.#notAnswered(tally, request, "failed", nowUs);
      }
    }
    if (!result.ok) return;
    const { gatherUs, executeUs, collectUs } = result.timings;
    tally.succeededExecutions++;
    tally.lastInferenceMs = this.#unixMs();
    let size = tally.batchSizes.get(plan.items);
    if (size === undefined) {
      size = { executions: 0, gatherUs: 0, executeUs: 0, collectUs: 0 };
      tally.batchSizes.set(plan.items, size);
    }
    size.executions++;
    size.gatherUs += gatherUs;
    size.executeUs += executeUs;
    size.collectUs += collectUs;
    const predicted = predictedUs(execution);
    if (predicted > 0) this.#distributions?.executionRatio(tally, executeUs / predicted);
  }

  split(execution: Execution, nowUs: number): void {
    const tally = this.model(execution.plan.model);
    this.#executed(execution, tally, nowUs);
    for (const request of execution.requests) if (!this.#cancelled.has(request)) tally.pending++;
  }

  lost(execution: Execution, _reason: string, nowUs: number): void {
    const tally = this.model(execution.plan.model);
    this.#startedUs.delete(execution.plan.execution);
    for (const request of execution.requests) {
      if (this.#cancelled.has(request)) continue;
      tally.lost++;
      this.#notAnswered(tally, request, "lost", nowUs);
    }
  }

  laneUp(lane: string, kind: LaneKind, nowUs: number): void {
    let tally = this.lanes.get(lane);
    if (tally === undefined) {
      tally = new LaneTally(lane, kind);
      this.lanes.set(lane, tally);
      this.#shares.set(lane, new SlidingShare(nowUs));
    }
    tally.kind = kind;
    tally.up = true;
    tally.removed = false;
    tally.starts++;
  }

  laneDown(lane: string, reason: string): void {
    const tally = this.lanes.get(lane);
    if (tally === undefined) return;
    tally.up = false;
    if (reason === "removed") tally.removed = true;
    else tally.losses++;
  }

  #accepted({ model, deadlineUs }: AcceptedRequest): ModelTally {
    const tally = this.model(model);
    tally.requests++;
    if (deadlineUs === null) tally.bestEffortRequests++;
    return tally;
  }

  #executed({ plan, requests }: Execution, model: ModelTally, nowUs: number): void {
    const startedUs = this.#startedUs.get(plan.execution) ?? nowUs;
    this.#startedUs.delete(plan.execution);
    const us = nowUs - startedUs;
    let paddingItems = plan.bucket - plan.items;
    for (const { items, padding } of requests) {
      if (padding) paddingItems += items * (1 - padding.length / padding.paddedLength);
    }
    const lane = this.lanes.get(plan.lane);
    for (const tally of lane === undefined ? [model] : [model, lane]) {
      tally.executions[plan.reason]++;
      tally.busyUs[plan.reason] += us;
      tally.items += plan.items;
      tally.slots += plan.bucket;
      tally.paddingItems += paddingItems;
    }
    this.#shares.get(plan.lane)?.add(nowUs, us, plan.reason === "fill");
  }

  #answered(tally: ModelTally, request: AcceptedRequest, timings: RequestTimings, nowUs: number): void {
    const us = nowUs - request.arrivedUs;
    tally.successUs += us;
    tally.queueUs += timings.queueUs;
    tally.gatherUs += timings.gatherUs;
    tally.executeUs += timings.executeUs;
    tally.collectUs += timings.collectUs;
    if (!this.#hasDeadline(request)) tally.bestEffort++;
    else if (timings.lateUs > 0) {
      tally.late++;
      count(tally.misses, lateCause(timings));
    } else tally.onTime++;
    this.#distributions?.latency(tally, us);
  }

  #notAnswered(tally: ModelTally, request: AcceptedRequest, cause: "failed" | "lost", nowUs: number): void {
    tally.failUs += nowUs - request.arrivedUs;
    // Whether one that was lost is missed is told by `fellBack`.
    if (cause === "lost" && request.fallback === "ahead") return;
    if (this.#hasDeadline(request)) count(tally.misses, cause);
  }

  #hasDeadline(request: AcceptedRequest): boolean {
    return request.deadlineUs !== null && !this.#demoted.has(request);
  }
}

function predictedUs({ plan }: Execution): number {
  let us = 0;
  for (const step of plan.steps) us += step.predictedUs;
  return us;
}

/** The largest part of a late request's wait, where it exceeds what the execution itself took. */
function lateCause({ waited, executeUs }: RequestTimings): MissCause {
  if (waited === null) return "execution";
  const parts: [MissCause, number][] = [
    ["mispredicted", waited.mispredictedUs],
    ["blocked", waited.blockedUs],
    ["own_batches", waited.ownBatchesUs],
    ["held", waited.heldUs],
  ];
  const [cause, us] = parts.reduce((largest, part) => (part[1] > largest[1] ? part : largest));
  return us > executeUs ? cause : "execution";
}
