import { ExpiryHeap } from "./expiry.ts";
import { explainWait } from "./explain.ts";
import type { Group, ModelState } from "./group.ts";
import type { Lane } from "./lane.ts";
import { type Choice, Planner } from "./planner.ts";
import { Registry } from "./registry.ts";
import { QueuedRequest } from "./request.ts";
import { Tenants } from "./tenants.ts";
import type {
  BatchPlan,
  ExecutionId,
  RequestId,
  RequestMeta,
  Scheduler,
  SchedulerEffect,
  SchedulerEvent,
  SchedulerOptions,
  ShedCause,
  ShedDetail,
  WaitExplanation,
} from "./types.ts";

const NO_EFFECTS: readonly SchedulerEffect[] = [];
const NEVER = Number.POSITIVE_INFINITY;

/**
 * The state machine: takes events, keeps queues and lanes, and has the planner choose whenever a lane is free. Every
 * step ends with the timer armed for whatever would otherwise be missed.
 */
export class CentralScheduler implements Scheduler {
  readonly #options: SchedulerOptions;
  readonly #registry = new Registry();
  readonly #tenants: Tenants;
  readonly #planner: Planner;
  readonly #requests: Map<RequestId, QueuedRequest> = new Map();
  readonly #expiries = new ExpiryHeap();
  #effects: SchedulerEffect[] = [];
  #nextExecution: ExecutionId = 1;
  #freeLanes = 0;
  #bestEffortQueued = 0;
  /** No queued deadline becomes hopeless before this; may be too early, never too late. */
  #sweepAtUs: number = NEVER;
  #armedUs: number = NEVER;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#tenants = new Tenants(options);
    this.#planner = new Planner(this.#registry, this.#tenants, options);
  }

  step(event: SchedulerEvent, nowUs: number): readonly SchedulerEffect[] {
    this.#apply(event, nowUs);
    if (nowUs >= this.#armedUs) this.#armedUs = NEVER;
    if (nowUs >= this.#sweepAtUs) this.#sweep(nowUs);
    this.#expire(nowUs);
    if (this.#freeLanes > 0 && this.#requests.size > 0) this.#dispatch(nowUs);
    if (this.#options.gatherUs > 0) this.#stageDue(nowUs);
    this.#arm(nowUs);
    if (this.#effects.length === 0) return NO_EFFECTS;
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  explain(execution: ExecutionId): ReadonlyMap<RequestId, WaitExplanation> {
    const waits = new Map<RequestId, WaitExplanation>();
    for (const lane of this.#registry.lanes) {
      if (lane.running?.plan.execution !== execution) continue;
      for (const request of lane.running.requests) {
        waits.set(request.id, explainWait(request, lane, lane.running.startUs));
      }
    }
    return waits;
  }

  #apply(event: SchedulerEvent, nowUs: number): void {
    switch (event.type) {
      case "arrive":
        this.#arrive(event.request, nowUs);
        break;
      case "end":
        this.#end(event.lane, event.execution, event.us, event.ok, nowUs);
        break;
      case "cancel": {
        const request = this.#requests.get(event.id);
        if (request !== undefined) this.#remove(request);
        break;
      }
      case "wake":
        break;
      case "lane-up":
        this.#laneDown(event.lane, nowUs);
        this.#registry.addLane(event.lane, event.kind);
        this.#freeLanes += 1;
        break;
      case "lane-down":
        this.#laneDown(event.lane, nowUs);
        break;
      case "model-add":
        this.#registry.addModel(event.spec);
        this.#settle(event.spec.model, nowUs);
        break;
      case "model-remove":
        this.#removeModel(event.model, nowUs);
        break;
      case "loaded": {
        const lane = this.#registry.lane(event.lane);
        if (lane !== undefined) this.#registry.load(lane, event.model, event.profiles);
        this.#settle(event.model, nowUs);
        break;
      }
      case "unloaded": {
        const lane = this.#registry.lane(event.lane);
        if (lane !== undefined) this.#registry.unload(lane, event.model);
        this.#settle(event.model, nowUs);
        break;
      }
    }
  }

  #arrive(meta: RequestMeta, nowUs: number): void {
    const model = this.#registry.models.get(meta.model);
    if (model === undefined) {
      this.#effects.push({ type: "shed", id: meta.id, cause: "unloaded", detail: {} });
      return;
    }
    const alone = meta.alone === true;
    const group = this.#registry.group(model, meta.shape, alone ? meta.id : null);
    this.#registry.activate(group);
    const refusal = this.#refusal(meta, model, group, nowUs);
    if (refusal !== null) {
      this.#effects.push({ type: "shed", id: meta.id, ...refusal });
      if (meta.deadlineUs !== null) model.fairness.count(true);
      return;
    }
    const request = new QueuedRequest(meta, group, this.#tenants.of(meta.tenant), nowUs);
    this.#requests.set(request.id, request);
    model.queuedItems += request.items;
    model.queuedBytes += request.bytes;
    if (!request.bestEffort && !alone) {
      this.#planner.fill.countArrival();
      group.observeArrival(request.items, request.deadlineUs - nowUs, nowUs);
    }
    group.refresh(nowUs);
    if (request.bestEffort) {
      this.#enqueueBestEffort(request, nowUs);
      return;
    }
    if (group.isFillOnly()) {
      this.#runAsFill(request, nowUs);
      return;
    }
    this.#enqueue(request, nowUs);
    if (request.deadlineUs < this.#earliestFinishUs(group, request.items, nowUs)) {
      this.#giveUp(request, "late", null, nowUs);
    }
  }

  #enqueue(request: QueuedRequest, nowUs: number): void {
    const { group, tenant } = request;
    const { model } = group;
    if (model.spec.minShare > 0 && group.queue.length === 0) model.share.open(nowUs);
    if (tenant.queued === 0) tenant.share.open(nowUs);
    tenant.queued += 1;
    request.key = request.deadlineUs;
    request.bestEffort = false;
    group.queue.push(request);
    this.#sweepAtUs = Math.min(this.#sweepAtUs, hopelessFromUs(request));
  }

  /** Why a request cannot even be queued. */
  #refusal(
    meta: RequestMeta,
    model: ModelState,
    group: Group,
    nowUs: number,
  ): { readonly cause: ShedCause; readonly detail: ShedDetail } | null {
    const { spec } = model;
    const endsUs =
      meta.deadlineUs === null ? meta.expiresUs : meta.explicit || spec.shedImplicit ? meta.deadlineUs : null;
    if (endsUs !== null && endsUs <= nowUs) return { cause: "expired", detail: {} };
    if (meta.alone === true) return null;
    const full =
      model.queuedItems + meta.items > spec.queueItemsMax
        ? ({ cause: "queue_items", limit: spec.queueItemsMax } as const)
        : model.queuedBytes + meta.bytes > spec.queueBytesMax
          ? ({ cause: "queue_bytes", limit: spec.queueBytesMax } as const)
          : null;
    if (full === null) return null;
    const retryAfterUs = this.#drainUs(group, nowUs);
    return { cause: full.cause, detail: { limit: full.limit, queuedItems: model.queuedItems, retryAfterUs } };
  }

  #end(laneName: string, execution: ExecutionId, us: number | null, ok: boolean, nowUs: number): void {
    const lane = this.#registry.lane(laneName);
    const running = lane?.running;
    if (lane === undefined || running === null || running === undefined || running.plan.execution !== execution) return;
    const { plan, requests, startUs, predictedEndUs } = running;
    const group = requests[0]!.group;
    if (ok && us !== null) {
      const lanePlan = group.plans[lane.slot];
      lanePlan?.table.observe(plan.bucket, us);
    }
    for (const request of requests) {
      if (request.deadlineUs !== NEVER) group.model.fairness.count(!ok || nowUs > request.deadlineUs);
    }
    lane.remember({ model: plan.model, startUs, endUs: nowUs, predictedUs: predictedEndUs - startUs });
    lane.running = null;
    this.#freeLanes += 1;
  }

  #laneDown(name: string, nowUs: number): void {
    const lane = this.#registry.lane(name);
    if (lane === undefined) return;
    if (lane.running === null) this.#freeLanes -= 1;
    this.#registry.removeLane(lane);
    for (const model of lane.loaded.keys()) this.#settle(model, nowUs);
    this.#sweepAtUs = nowUs;
  }

  #removeModel(name: string, nowUs: number): void {
    const model = this.#registry.models.get(name);
    if (model === undefined) return;
    for (const group of model.groups.values()) {
      for (const queue of [group.queue, group.bestEffort]) {
        while (queue.length > 0) this.#shed(queue.at(0), "unloaded", null, nowUs);
      }
    }
    this.#registry.removeModel(model);
  }

  /** After a change in how a model can run: what fits no batch any more is shed, what may only run as fill moves there, and back. */
  #settle(name: string, nowUs: number): void {
    for (const group of this.#registry.models.get(name)?.groups.values() ?? []) {
      for (let i = group.bestEffort.length - 1; i >= 0; i--) {
        const request = group.bestEffort.at(i);
        if (!group.fits(request.items)) this.#shed(request, "unloaded", null, nowUs);
      }
      if (group.isFillOnly()) {
        while (group.queue.length > 0) {
          const request = group.queue.at(0);
          this.#unlink(request);
          this.#runAsFill(request, nowUs);
        }
        continue;
      }
      for (let i = group.bestEffort.length - 1; i >= 0; i--) {
        const request = group.bestEffort.at(i);
        if (request.deadlineUs === NEVER || request.demoted) continue;
        this.#unlink(request);
        this.#enqueue(request, nowUs);
      }
    }
    this.#sweepAtUs = nowUs;
  }

  /** Starts what should run on each free lane, until none has anything to start. */
  #dispatch(nowUs: number): void {
    for (const lane of this.#registry.lanes) {
      if (lane.running !== null) continue;
      lane.lookAgainUs = NEVER;
      const choice = this.#planner.choose(lane, nowUs, this.#bestEffortQueued > 0);
      if (choice === null) continue;
      if (choice.type === "wait") lane.lookAgainUs = Math.max(choice.lookAgainUs, nowUs + 1);
      else this.#start(lane, choice, nowUs);
    }
  }

  #start(lane: Lane, choice: Choice & { type: "start" }, nowUs: number): void {
    const plan = this.#batchPlan(lane, choice);
    lane.reservedId = null;
    for (const request of choice.sacrificed) this.#giveUp(request, "sacrificed", plan.model, nowUs);
    for (const request of choice.members) this.#remove(request);
    const { us } = choice.plan.table;
    const predictedUs = us[choice.items]!;
    lane.running = {
      plan,
      requests: choice.members,
      startUs: nowUs,
      predictedEndUs: nowUs + Math.round(predictedUs),
      stageAtUs: this.#options.gatherUs > 0 ? nowUs + Math.round(predictedUs) - this.#options.gatherUs : NEVER,
    };
    this.#freeLanes -= 1;
    this.#charge(choice, predictedUs);
    this.#effects.push({ type: "start", plan });
    this.#sweep(nowUs);
  }

  #charge(choice: Choice & { type: "start" }, predictedUs: number): void {
    const lanes = Math.max(1, this.#registry.deviceLaneCount);
    const { spec, share } = choice.group.model;
    if (choice.reason !== "deadline") {
      this.#planner.bestEffortShare.spend(predictedUs, this.#options.bestEffortShareMin * lanes);
      return;
    }
    if (spec.minShare > 0) share.spend(predictedUs, spec.minShare * lanes);
    for (const { tenant, items } of choice.members) {
      if (tenant.minShare > 0) tenant.share.spend((predictedUs * items) / choice.items, tenant.minShare * lanes);
    }
  }

  #batchPlan(lane: Lane, choice: Choice & { type: "start" }): BatchPlan {
    lane.reservedId ??= this.#nextExecution++;
    const { table } = choice.plan;
    return {
      execution: lane.reservedId,
      lane: lane.name,
      model: choice.group.model.spec.model,
      shape: choice.group.shape,
      ids: choice.members.map((request) => request.id),
      items: choice.items,
      bucket: table.bucket[choice.items]!,
      steps: [{ predictedUs: Math.round(table.us[choice.items]!) }],
      reason: choice.reason,
    };
  }

  #stageDue(nowUs: number): void {
    for (const lane of this.#registry.lanes) {
      if (lane.running === null || lane.running.stageAtUs > nowUs) continue;
      lane.running.stageAtUs = NEVER;
      const choice = this.#planner.choose(
        lane,
        Math.max(nowUs, lane.running.predictedEndUs),
        this.#bestEffortQueued > 0,
      );
      if (choice?.type === "start") this.#effects.push({ type: "stage", plan: this.#batchPlan(lane, choice) });
    }
  }

  /** Gives up every request that can no longer finish in time on any lane, and notes when to look again. */
  #sweep(nowUs: number): void {
    this.#sweepAtUs = NEVER;
    for (const group of this.#registry.active) {
      while (group.queue.length > 0) {
        const request = group.queue.at(0);
        if (request.deadlineUs >= this.#earliestFinishUs(group, request.items, nowUs)) {
          this.#sweepAtUs = Math.min(this.#sweepAtUs, hopelessFromUs(request));
          break;
        }
        this.#giveUp(request, "late", null, nowUs);
      }
    }
  }

  #expire(nowUs: number): void {
    for (;;) {
      const request = this.#expiries.takeExpired(nowUs);
      if (request === null) return;
      this.#shed(request, request.explicit && request.deadlineUs !== NEVER ? "late" : "expired", null, nowUs);
    }
  }

  /** Earliest predicted end of a request that would be next on some lane; the present where no lane has the model. */
  #earliestFinishUs(group: Group, items: number, nowUs: number): number {
    let earliest = NEVER;
    let placed = false;
    for (const lane of this.#registry.lanes) {
      const plan = group.plans[lane.slot];
      if (plan === undefined || plan.fillOnly) continue;
      placed = true;
      if (items <= plan.table.cap) earliest = Math.min(earliest, lane.freeAtUs(nowUs) + plan.table.us[items]!);
    }
    return placed ? earliest : nowUs;
  }

  /** Ends a request that will miss its deadline, or lets it go on as best-effort work. */
  #giveUp(request: QueuedRequest, cause: ShedCause, chosen: string | null, nowUs: number): void {
    this.#planner.fill.countDrop();
    if (!this.#isDemotable(request)) {
      request.group.model.fairness.count(true);
      this.#shed(request, cause, chosen, nowUs);
      return;
    }
    this.#unlink(request);
    this.#demote(request, nowUs);
  }

  #isDemotable(request: QueuedRequest): boolean {
    return !request.explicit && !request.group.model.spec.shedImplicit;
  }

  /** No lane may run the request before deadlines: it runs beside them, until its own passes where it insists on that. */
  #runAsFill(request: QueuedRequest, nowUs: number): void {
    if (this.#isDemotable(request)) {
      this.#demote(request, nowUs);
      return;
    }
    request.key = request.id;
    request.bestEffort = true;
    request.expiresUs = request.deadlineUs;
    this.#enqueueBestEffort(request, nowUs);
  }

  #demote(request: QueuedRequest, nowUs: number): void {
    request.key = request.id;
    request.bestEffort = true;
    request.demoted = true;
    this.#effects.push({ type: "demote", id: request.id });
    this.#enqueueBestEffort(request, nowUs);
  }

  #enqueueBestEffort(request: QueuedRequest, nowUs: number): void {
    if (this.#bestEffortQueued === 0) this.#planner.bestEffortShare.open(nowUs);
    this.#bestEffortQueued += 1;
    request.group.bestEffort.push(request);
    if (request.expiresUs !== NEVER) this.#expiries.push(request);
    if (request.expiresUs <= nowUs) this.#shed(request, "expired", null, nowUs);
    else if (!request.group.fits(request.items)) this.#shed(request, "unloaded", null, nowUs);
  }

  #shed(request: QueuedRequest, cause: ShedCause, chosen: string | null, nowUs: number): void {
    const { group, id, items } = request;
    const blockedBy = chosen ?? this.#blockerOf(group);
    const predictedEndUs = Math.round(this.#earliestFinishUs(group, items, nowUs));
    this.#remove(request);
    const detail: ShedDetail =
      cause === "late" || cause === "sacrificed"
        ? {
            ...(blockedBy === undefined ? {} : { blockedBy }),
            ...(Number.isFinite(predictedEndUs) ? { predictedEndUs } : {}),
            retryAfterUs: this.#drainUs(group, nowUs),
          }
        : {};
    this.#effects.push({ type: "shed", id, cause, detail });
  }

  #blockerOf(group: Group): string | undefined {
    for (const lane of this.#registry.lanes) {
      if (lane.running !== null && group.plans[lane.slot] !== undefined) return lane.running.plan.model;
    }
    return undefined;
  }

  /** Time until what is queued in a group should be done with. */
  #drainUs(group: Group, nowUs: number): number {
    let soonestUs = NEVER;
    for (const lane of this.#registry.lanes) {
      const plan = group.plans[lane.slot];
      if (plan === undefined) continue;
      soonestUs = Math.min(soonestUs, lane.freeAtUs(nowUs) - nowUs + plan.perItemUs * group.queue.items);
    }
    return Math.round(soonestUs === NEVER ? group.sloUs : soonestUs);
  }

  /** Takes a request out of its queue and out of the books. */
  #remove(request: QueuedRequest): void {
    this.#unlink(request);
    this.#requests.delete(request.id);
    request.queued = false;
    request.group.model.queuedItems -= request.items;
    request.group.model.queuedBytes -= request.bytes;
  }

  #unlink(request: QueuedRequest): void {
    if (request.bestEffort) {
      request.group.bestEffort.remove(request);
      this.#bestEffortQueued -= 1;
    } else {
      request.group.queue.remove(request);
      request.tenant.queued -= 1;
    }
  }

  /** Arms the timer for the earliest thing that no event will bring about. */
  #arm(nowUs: number): void {
    let atUs = Math.min(this.#sweepAtUs, this.#expiries.nextUs());
    for (const lane of this.#registry.lanes) {
      // A free lane looks again only while something is queued: nothing else would move that time on.
      const idleUs = this.#requests.size > 0 ? lane.lookAgainUs : NEVER;
      const laneUs = lane.running === null ? idleUs : lane.running.stageAtUs;
      if (laneUs < atUs) atUs = laneUs;
    }
    if (atUs >= this.#armedUs) return;
    this.#armedUs = Math.max(Math.ceil(atUs), nowUs);
    this.#effects.push({ type: "wake-at", atUs: this.#armedUs });
  }
}

/** When waiting alone makes a request hopeless: the moment from which on no lane could finish it in time. */
function hopelessFromUs(request: QueuedRequest): number {
  return Math.floor(request.deadlineUs - request.group.aloneUs(request.items)) + 1;
}
