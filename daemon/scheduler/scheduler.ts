import { explainWait } from "./explain.ts";
import type { Lane, StartedBatch } from "./lane.ts";
import { type Choice, Planner } from "./planner.ts";
import { Queues } from "./queues.ts";
import { Registry } from "./registry.ts";
import { QueuedRequest } from "./request.ts";
import { Tenants } from "./tenants.ts";
import { Triage } from "./triage.ts";
import type {
  BatchPlan,
  ExecutionId,
  RequestId,
  RequestMeta,
  Scheduler,
  SchedulerEffect,
  SchedulerEvent,
  SchedulerOptions,
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
  readonly #queues: Queues;
  readonly #triage: Triage;
  #effects: SchedulerEffect[] = [];
  #nextExecution: ExecutionId = 1;
  #openLanes = 0;
  #armedUs: number = NEVER;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#tenants = new Tenants(options);
    this.#planner = new Planner(this.#registry, this.#tenants, options);
    this.#queues = new Queues(this.#registry.urgency, this.#planner.bestEffortShare);
    this.#triage = new Triage(this.#registry, this.#queues, this.#planner.fill);
    this.#triage.effects = this.#effects;
  }

  step(event: SchedulerEvent, nowUs: number): readonly SchedulerEffect[] {
    this.#apply(event, nowUs);
    if (nowUs >= this.#armedUs) this.#armedUs = NEVER;
    if (nowUs >= this.#registry.urgency.firstKey()) this.#triage.sweep(nowUs, nowUs);
    this.#triage.expire(nowUs);
    if (this.#options.handoverUs > 0) this.#openDue(nowUs);
    if (this.#openLanes > 0 && this.#queues.count > 0) this.#dispatch(nowUs);
    if (this.#options.gatherUs > 0) this.#stageDue(nowUs);
    this.#arm(nowUs);
    if (this.#effects.length === 0) return NO_EFFECTS;
    const effects = this.#effects;
    this.#effects = [];
    this.#triage.effects = this.#effects;
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
        const request = this.#queues.get(event.id);
        if (request !== undefined) this.#queues.remove(request);
        break;
      }
      case "wake":
        break;
      case "lane-up":
        this.#laneDown(event.lane, nowUs);
        // A replica that waits for its next batch leaves its core to others; a device is idle then.
        this.#registry.addLane(event.lane, event.kind, event.kind === "device" ? this.#options.handoverUs : 0);
        this.#openLanes += 1;
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
    const refusal = this.#triage.refusal(meta, group, nowUs);
    if (refusal !== null) {
      this.#effects.push({ type: "shed", id: meta.id, ...refusal });
      if (meta.deadlineUs !== null) model.fairness.count(true);
      return;
    }
    const request = new QueuedRequest(meta, group, this.#tenants.of(meta.tenant), nowUs);
    this.#queues.admit(request);
    if (!request.bestEffort && meta.again !== true && request.isServable()) {
      this.#planner.fill.countArrival();
      group.observeArrival(request, request.deadlineUs - nowUs, nowUs);
    }
    group.refresh(nowUs);
    this.#triage.place(request, nowUs);
  }

  #end(laneName: string, execution: ExecutionId, us: number | null, ok: boolean, nowUs: number): void {
    const lane = this.#registry.lane(laneName);
    const running = lane?.running;
    if (lane === undefined || running === null || running === undefined || running.plan.execution !== execution) return;
    const { plan, requests, startUs, fromIdle, predictedUs } = running;
    const group = requests[0]!.group;
    if (ok && us !== null) {
      group.plans[lane.slot]?.table.observe(plan.bucket, us, nowUs);
      this.#queues.headChanged(group);
      if (fromIdle) lane.observeHandover(nowUs - startUs - us);
    }
    for (const request of requests) {
      if (request.deadlineUs === NEVER) continue;
      group.model.fairness.count(!ok || nowUs > request.deadlineUs);
      if (ok && !request.bestEffort && nowUs > request.deadlineUs) this.#planner.fill.countLoss();
    }
    lane.remember({ model: plan.model, startUs, endUs: nowUs, predictedUs: Math.round(predictedUs) });
    const { following } = lane;
    lane.running = null;
    lane.following = null;
    if (following !== null) this.#run(lane, following, nowUs, false);
    else this.#open(lane);
  }

  #laneDown(name: string, nowUs: number): void {
    const lane = this.#registry.lane(name);
    if (lane === undefined) return;
    if (lane.open) this.#openLanes -= 1;
    this.#registry.removeLane(lane);
    for (const model of lane.loaded.keys()) this.#settle(model, nowUs);
  }

  #removeModel(name: string, nowUs: number): void {
    const model = this.#registry.models.get(name);
    if (model === undefined) return;
    this.#triage.shedAll(model, nowUs);
    this.#registry.removeModel(model);
  }

  #settle(name: string, nowUs: number): void {
    const model = this.#registry.models.get(name);
    if (model !== undefined) this.#triage.settle(model, nowUs);
  }

  #open(lane: Lane): void {
    if (!lane.open) this.#openLanes += 1;
    lane.open = true;
  }

  /** Opens lanes that are about to end what they execute. */
  #openDue(nowUs: number): void {
    for (const lane of this.#registry.lanes) {
      if (lane.running !== null && lane.following === null && lane.running.openAtUs <= nowUs) this.#open(lane);
    }
  }

  /** Starts what should run on each open lane: first on those that are idle, which can run it sooner. */
  #dispatch(nowUs: number): void {
    for (const lane of this.#registry.lanes) if (lane.open && lane.running === null) this.#decide(lane, nowUs);
    for (const lane of this.#registry.lanes) if (lane.open && lane.running !== null) this.#decide(lane, nowUs);
  }

  #decide(lane: Lane, nowUs: number): void {
    lane.lookAgainUs = NEVER;
    const choice = this.#planner.choose(lane, nowUs, this.#queues.bestEffortCount > 0);
    if (choice === null) return;
    if (choice.type === "wait") lane.lookAgainUs = Math.max(choice.lookAgainUs, nowUs + 1);
    else this.#start(lane, choice, nowUs);
  }

  #start(lane: Lane, choice: Choice & { type: "start" }, nowUs: number): void {
    const plan = this.#batchPlan(lane, choice);
    lane.reservedId = null;
    for (const request of choice.sacrificed) this.#triage.giveUp(request, "sacrificed", plan.model, nowUs);
    for (const request of choice.members) this.#queues.remove(request);
    const { us, deviation } = choice.plan.table;
    const predictedUs = us[choice.items]!;
    const batch = { plan, requests: choice.members, predictedUs, deviationUs: deviation * predictedUs };
    if (lane.running === null) this.#run(lane, batch, nowUs, true);
    else lane.following = batch;
    lane.open = false;
    this.#openLanes -= 1;
    this.#charge(lane, choice, predictedUs);
    this.#effects.push({ type: "start", plan });
    let busyUntilUs = nowUs;
    for (const other of this.#registry.lanes) busyUntilUs = Math.max(busyUntilUs, other.freeAtUs(nowUs));
    this.#triage.sweep(busyUntilUs, nowUs);
  }

  #run(lane: Lane, batch: StartedBatch, nowUs: number, fromIdle: boolean): void {
    const { gatherUs } = this.#options;
    const predictedEndUs = nowUs + (fromIdle ? lane.handoverUs : 0) + Math.round(batch.predictedUs);
    // Half of all executions end before they are predicted to: most should find their successor there.
    const openAtUs = predictedEndUs - lane.handoverUs - Math.round(batch.deviationUs);
    const { plan, requests, predictedUs, deviationUs } = batch;
    lane.running = {
      plan,
      requests,
      predictedUs,
      deviationUs,
      startUs: nowUs,
      fromIdle,
      predictedEndUs,
      stageAtUs: gatherUs > 0 ? openAtUs - gatherUs : NEVER,
      openAtUs: lane.handoverUs > 0 ? openAtUs : NEVER,
    };
  }

  /** What a batch takes of guaranteed shares, which are of the devices' time. */
  #charge(lane: Lane, choice: Choice & { type: "start" }, predictedUs: number): void {
    if (choice.reason !== "deadline") {
      this.#planner.spendBestEffort(lane, predictedUs);
      return;
    }
    if (lane.kind !== "device") return;
    const lanes = this.#registry.deviceLaneCount;
    const { spec, share } = choice.group.model;
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
      if (lane.following !== null) continue;
      const choice = this.#planner.choose(lane, nowUs, this.#queues.bestEffortCount > 0);
      if (choice?.type === "start") this.#effects.push({ type: "stage", plan: this.#batchPlan(lane, choice) });
    }
  }

  /** Arms the timer for the earliest thing that no event will bring about. */
  #arm(nowUs: number): void {
    let atUs = Math.min(this.#registry.urgency.firstKey(), this.#queues.expiries.nextUs());
    for (const lane of this.#registry.lanes) {
      // An open lane looks again only while something is queued: nothing else would move that time on.
      if (lane.open && this.#queues.count > 0) atUs = Math.min(atUs, lane.lookAgainUs);
      if (lane.running === null || lane.following !== null) continue;
      atUs = Math.min(atUs, lane.running.stageAtUs, lane.open ? NEVER : lane.running.openAtUs);
    }
    if (atUs >= this.#armedUs) return;
    this.#armedUs = Math.max(Math.ceil(atUs), nowUs);
    this.#effects.push({ type: "wake-at", atUs: this.#armedUs });
  }
}
