import type {
  BatchPlan,
  LaneKind,
  ModelSpec,
  RequestId,
  Scheduler,
  SchedulerEffect,
  SchedulerEvent,
  ShapeProfiles,
  ShedCause,
  ShedDetail,
} from "../scheduler/types.ts";
import { outcomeOf, timingsOf } from "./answers.ts";
import type { EngineObserver } from "./observer.ts";
import { ModelQueue, PendingRequest } from "./pending.ts";
import type {
  Clock,
  Device,
  Execution,
  ExecutionResult,
  Inference,
  InferenceRequest,
  Outcome,
  Reply,
} from "./ports.ts";
import type { Recorder } from "./recording.ts";

export interface EngineOptions {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly observers?: readonly EngineObserver[];
  /** Told of every step of the scheduler, so that the run can be replayed. */
  readonly recorder?: Recorder;
  /** Whether to ask the scheduler what each request waited for; true by default. */
  readonly explain?: boolean;
}

/** What is queued and what executes at one moment. */
export interface EngineSnapshot {
  /** Requests that have neither been answered nor cancelled. */
  readonly accepted: number;
  readonly models: readonly {
    readonly model: string;
    readonly queuedRequests: number;
    readonly queuedItems: number;
    readonly queuedBytes: number;
    readonly queuedBestEffortItems: number;
  }[];
  readonly lanes: readonly {
    readonly lane: string;
    readonly kind: LaneKind;
    readonly executing: BatchPlan | null;
    /** Given to the lane already, to execute after that. */
    readonly following: BatchPlan | null;
    /** When a batch that was no fill last started or ended there; null where none has. */
    readonly deadlineWorkUs: number | null;
  }[];
}

/** A lane and what it executes. */
interface Lane {
  readonly device: Device;
  executing: RunningExecution | null;
  /** Given to the device while it executes another; executes when that has ended. */
  following: RunningExecution | null;
  deadlineWorkUs: number | null;
  /** Whether the scheduler has been told of it: a start that names it before that meant an earlier lane of its name. */
  known: boolean;
  /** Whether it is out of service. */
  gone: boolean;
  /** Called when a lane that was removed has nothing left to do. */
  idle: (() => void) | null;
}

interface RunningExecution extends Execution {
  readonly requests: readonly PendingRequest[];
  /** When the scheduler decided on it. */
  readonly chosenUs: number;
}

/**
 * An execution that ended or was lost with its lane; its callers' answers are still to come. What was to follow it on the lane
 * executes now, or waits again where the lane was lost.
 */
type Finished =
  | {
      readonly lane: Lane;
      readonly execution: RunningExecution;
      readonly following: RunningExecution | null;
      readonly result: ExecutionResult;
      readonly endedUs: number;
    }
  | {
      readonly lane: null;
      readonly execution: RunningExecution;
      readonly following: RunningExecution | null;
      readonly reason: string;
      readonly endedUs: number;
    };

const NO_EFFECTS: readonly SchedulerEffect[] = [];

/**
 * Carries out what the scheduler decides: keeps payloads, hands batches to lanes, answers callers, arms the timer.
 *
 * One event is processed at a time. What happens while its effects are carried out (a reply that submits again, a lane
 * that dies when told to start) is queued and processed after it, so the scheduler never sees a half-done step.
 */
export class Engine implements Inference {
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  readonly #observers: readonly EngineObserver[];
  readonly #recorder: Recorder | null;
  readonly #explain: boolean;
  readonly #requests = new Map<RequestId, PendingRequest>();
  readonly #models = new Map<string, ModelQueue>();
  readonly #lanes = new Map<string, Lane>();
  readonly #wake = (): void => this.#post({ type: "wake" }, null);
  #lastId = 0;
  #stepping = false;
  /** Events that came during a step, in order; each with the execution that it ended, if any. */
  #events: (SchedulerEvent | null)[] = [];
  #finished: (Finished | null)[] = [];
  /** Executions started in this step, which observers have not been told of yet. */
  #started: RunningExecution[] = [];
  #drained: (() => void)[] = [];

  constructor(options: EngineOptions) {
    this.#clock = options.clock;
    this.#scheduler = options.scheduler;
    this.#observers = options.observers ?? [];
    this.#recorder = options.recorder ?? null;
    this.#explain = (options.explain ?? true) && options.scheduler.explain !== undefined;
  }

  nowUs(): number {
    return this.#clock.nowUs();
  }

  // Lanes and models.

  /**
   * Takes a lane into service; models are executed on it once they are `loaded` there.
   *
   * @throws where a lane of that name is in service
   */
  addLane(device: Device): void {
    if (this.#lanes.has(device.lane)) throw new Error(`a lane named '${device.lane}' is already in service`);
    const lane: Lane = {
      device,
      executing: null,
      following: null,
      deadlineWorkUs: null,
      known: false,
      gone: false,
      idle: null,
    };
    this.#lanes.set(device.lane, lane);
    device.attach({
      ended: (_name, execution, result) => this.#laneEnded(lane, execution, result),
      lost: (_name, reason) => this.#laneLost(lane, reason),
    });
    const nowUs = this.#clock.nowUs();
    for (const observer of this.#observers) observer.laneUp?.(device.lane, device.kind, nowUs);
    this.#post({ type: "lane-up", lane: device.lane, kind: device.kind }, null);
  }

  /** Takes a lane out of service; what it executes is still answered. Resolves when it is idle. Unknown names are ignored. */
  removeLane(name: string): Promise<void> {
    const lane = this.#lanes.get(name);
    if (lane === undefined) return Promise.resolve();
    this.#retire(lane, "removed");
    this.#post({ type: "lane-down", lane: name }, null);
    if (lane.executing === null) return Promise.resolve();
    return new Promise((resolve) => {
      lane.idle = resolve;
    });
  }

  /** Accepts requests for the model; they wait until it is loaded on some lane. Replaces an earlier spec. */
  addModel(spec: ModelSpec): void {
    if (!this.#models.has(spec.model)) this.#models.set(spec.model, new ModelQueue(spec.model));
    this.#post({ type: "model-add", spec }, null);
  }

  /** Accepts no more requests for the model and sheds those that wait with cause `unloaded`. */
  removeModel(model: string): void {
    if (this.#models.delete(model)) this.#post({ type: "model-remove", model }, null);
  }

  /** The model can execute on the lane, with these profiles; also when they were measured anew. */
  loaded(lane: string, model: string, profiles: ShapeProfiles): void {
    this.#post({ type: "loaded", lane, model, profiles }, null);
  }

  unloaded(lane: string, model: string): void {
    this.#post({ type: "unloaded", lane, model }, null);
  }

  // Requests.

  submit(request: InferenceRequest, reply: Reply): RequestId {
    const id = ++this.#lastId;
    const queue = this.#models.get(request.model);
    const nowUs = this.#clock.nowUs();
    const pending = new PendingRequest(id, nowUs, request, queue ?? new ModelQueue(request.model), reply);
    this.#requests.set(id, pending);
    pending.queue.add(pending);
    for (const observer of this.#observers) observer.arrived?.(pending);
    if (queue === undefined) {
      this.#shed(pending, "unloaded", {}, nowUs);
      return id;
    }
    this.#arrive(pending);
    return id;
  }

  #arrive(request: PendingRequest): void {
    const { id, model, items, bytes, shape, expiresUs, tenant, again, alone } = request;
    // Demoted before its batch failed, it stays best-effort work.
    const deadlineUs = request.bestEffort ? null : request.planByUs;
    const explicit = request.explicit;
    const meta = { id, model, items, bytes, shape, deadlineUs, explicit, expiresUs, tenant };
    this.#post({ type: "arrive", request: again ? { ...meta, again, alone } : meta }, null);
  }

  cancel(id: RequestId): void {
    const request = this.#requests.get(id);
    if (request === undefined || request.reply === null) return;
    // It stays known until the scheduler has heard of it: by then it may be in a batch.
    request.reply = null;
    this.#post({ type: "cancel", id }, null);
  }

  /** Resolves when every accepted request has ended. It does not refuse new ones: that is for those who accept them. */
  drain(): Promise<void> {
    if (this.#requests.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained.push(resolve);
    });
  }

  snapshot(): EngineSnapshot {
    return {
      accepted: this.#requests.size,
      models: [...this.#models.values()].map((queue) => ({
        model: queue.model,
        queuedRequests: queue.requests,
        queuedItems: queue.items,
        queuedBytes: queue.bytes,
        queuedBestEffortItems: queue.bestEffortItems,
      })),
      lanes: [...this.#lanes.values()].map(({ device, executing, following, deadlineWorkUs }) => ({
        lane: device.lane,
        kind: device.kind,
        executing: executing?.plan ?? null,
        following: following?.plan ?? null,
        deadlineWorkUs,
      })),
    };
  }

  // Events, one at a time.

  /** @param event null where the scheduler no longer knows the lane and only callers are to be answered */
  #post(event: SchedulerEvent | null, finished: Finished | null): void {
    if (this.#stepping) {
      this.#events.push(event);
      this.#finished.push(finished);
      return;
    }
    this.#stepping = true;
    try {
      this.#process(event, finished);
      for (let i = 0; i < this.#events.length; i++) this.#process(this.#events[i]!, this.#finished[i]!);
    } finally {
      this.#stepping = false;
      if (this.#events.length > 0) {
        this.#events = [];
        this.#finished = [];
      }
    }
  }

  #process(event: SchedulerEvent | null, finished: Finished | null): void {
    const nowUs = this.#clock.nowUs();
    let effects = NO_EFFECTS;
    if (event !== null) {
      if (event.type === "lane-up") this.#markKnown(event.lane);
      effects = this.#scheduler.step(event, nowUs);
      this.#recorder?.(event, nowUs, effects);
    }
    if (finished !== null && finished.lane !== null && finished.following !== null) {
      this.#begin(finished.following, finished.lane, nowUs);
    }
    // The lane that became free gets its next batch before anybody is answered, so that it does not wait for callers.
    for (const effect of effects) if (effect.type === "start") this.#start(effect.plan, nowUs);
    if (finished !== null) this.#finish(finished);
    if (this.#started.length > 0) {
      const started = this.#started;
      this.#started = [];
      for (const execution of started) {
        for (const observer of this.#observers) observer.started?.(execution, nowUs, execution.chosenUs);
      }
    }
    for (const effect of effects) if (effect.type !== "start") this.#carryOut(effect, nowUs);
    if (event?.type === "cancel") {
      const request = this.#requests.get(event.id);
      // One whose batch is to follow another is told of when that has ended: observers do not know yet that it was started.
      if (request !== undefined && (request.executing || !request.started)) this.#withdraw(request, nowUs);
    }
  }

  #carryOut(effect: Exclude<SchedulerEffect, { type: "start" }>, nowUs: number): void {
    switch (effect.type) {
      case "stage":
        this.#stage(effect.plan);
        return;
      case "shed": {
        const request = this.#requests.get(effect.id);
        if (request === undefined) throw new Error(`the scheduler shed request ${effect.id}, which is not queued`);
        this.#shed(request, effect.cause, effect.detail, nowUs);
        return;
      }
      case "demote":
        this.#demote(effect.id, nowUs);
        return;
      case "wake-at":
        this.#clock.wakeAt(effect.atUs, this.#wake);
        return;
    }
  }

  // Batches.

  #start(plan: BatchPlan, nowUs: number): void {
    const lane = this.#lanes.get(plan.lane);
    const requests = plan.ids.map((id) => this.#queued(id));
    const execution: RunningExecution = { plan, requests, chosenUs: nowUs };
    for (const request of requests) {
      request.started = true;
      request.queue.remove(request);
    }
    if (lane === undefined || !lane.known) {
      // The lane has gone, and the scheduler will hear of it next.
      this.#begin(execution, null, nowUs);
      this.#post(null, {
        lane: null,
        execution,
        following: null,
        reason: `lane '${plan.lane}' is no longer in service`,
        endedUs: nowUs,
      });
      return;
    }
    if (lane.following !== null) throw new Error(`the scheduler started a third batch on lane '${plan.lane}'`);
    if (lane.executing !== null) {
      lane.following = execution;
    } else {
      lane.executing = execution;
      this.#begin(execution, lane, nowUs);
    }
    lane.device.start(execution);
  }

  /** A batch executes from now on. */
  #begin(execution: RunningExecution, lane: Lane | null, nowUs: number): void {
    const { plan, requests } = execution;
    const explanations = this.#explain ? this.#scheduler.explain!(plan.execution) : null;
    for (const request of requests) {
      request.executing = true;
      request.startedUs = nowUs;
      if (explanations !== null) request.waited = explanations.get(request.id) ?? null;
    }
    if (lane !== null && plan.reason !== "fill") lane.deadlineWorkUs = nowUs;
    this.#started.push(execution);
  }

  #queued(id: RequestId): PendingRequest {
    const request = this.#requests.get(id);
    if (request === undefined || request.started) {
      throw new Error(`the scheduler put request ${id} into a batch, but it is not queued`);
    }
    return request;
  }

  #stage(plan: BatchPlan): void {
    const requests: PendingRequest[] = [];
    for (const id of plan.ids) {
      const request = this.#requests.get(id);
      // A request that ended since only makes the guess worse; the start will tell what really runs.
      if (request === undefined || request.started) return;
      requests.push(request);
    }
    this.#lanes.get(plan.lane)?.device.stage({ plan, requests });
  }

  #laneEnded(lane: Lane, ended: Execution, result: ExecutionResult): void {
    const execution = lane.executing;
    if (execution !== ended) {
      if (lane.gone) return;
      throw new Error(`lane '${lane.device.lane}' ended an execution that it was not given`);
    }
    const { following } = lane;
    lane.executing = following;
    lane.following = null;
    const finished = { lane, execution, following, result, endedUs: this.#clock.nowUs() };
    if (ended.plan.reason !== "fill") lane.deadlineWorkUs = finished.endedUs;
    if (lane.gone) {
      this.#post(null, finished);
      if (following === null) lane.idle?.();
      return;
    }
    const us = result.timings?.executeUs ?? null;
    const { execution: id, lane: name } = ended.plan;
    this.#post({ type: "end", lane: name, execution: id, us, ok: result.ok }, finished);
  }

  #laneLost(lane: Lane, reason: string): void {
    const { executing: execution, following } = lane;
    const removed = lane.gone;
    lane.executing = null;
    lane.following = null;
    if (!removed) this.#retire(lane, reason);
    const finished =
      execution === null ? null : { lane: null, execution, following, reason, endedUs: this.#clock.nowUs() };
    this.#post(removed ? null : { type: "lane-down", lane: lane.device.lane }, finished);
    lane.idle?.();
  }

  #markKnown(name: string): void {
    const lane = this.#lanes.get(name);
    if (lane !== undefined) lane.known = true;
  }

  #retire(lane: Lane, reason: string): void {
    lane.gone = true;
    this.#lanes.delete(lane.device.lane);
    const nowUs = this.#clock.nowUs();
    for (const observer of this.#observers) observer.laneDown?.(lane.device.lane, reason, nowUs);
  }

  /** Answers the callers of a batch. */
  #finish(finished: Finished): void {
    const { execution, endedUs } = finished;
    const { plan, requests } = execution;
    for (const request of requests) if (request.reply === null) this.#withdraw(request, endedUs);
    if (finished.lane === null) {
      const { reason } = finished;
      for (const observer of this.#observers) observer.lost?.(execution, reason, endedUs);
      for (const request of requests) {
        if (request.reply === null) this.#forget(request);
        else this.#answer(request, { type: "lost", reason });
      }
      for (const request of finished.following?.requests ?? []) this.#queueAgain(request, endedUs);
      return;
    }
    const { lane, result } = finished;
    // One bad request must not fail its neighbours: each is tried once more, by itself.
    if (!result.ok && requests.length > 1 && !requests.every(({ alone }) => alone)) {
      for (const observer of this.#observers) observer.split?.(execution, endedUs);
      for (const request of requests) {
        request.alone = true;
        if (request.reply === null) this.#forget(request);
        else this.#queueAgain(request, endedUs);
      }
      lane.device.release(execution);
      return;
    }
    const timings = requests.map((request) =>
      request.reply === null || !result.ok || result.unreadable?.has(request.id)
        ? null
        : timingsOf(request, plan, result.timings, endedUs),
    );
    for (const observer of this.#observers) observer.ended?.(execution, result, timings, endedUs);
    let offset = 0;
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i]!;
      // One that a neighbour's reply cancelled just now has been told as ended, and gets no answer.
      if (request.reply === null) this.#forget(request);
      else this.#answer(request, outcomeOf(request, plan, result, offset, timings[i]!));
      offset += request.items;
    }
    lane.device.release(execution);
  }

  /** Queues a request whose batch failed as a whole, or was to follow another on a lane that was lost. */
  #queueAgain(request: PendingRequest, nowUs: number): void {
    request.started = false;
    request.executing = false;
    request.again = true;
    request.waited = null;
    request.queue.add(request);
    if (request.reply === null) this.#withdraw(request, nowUs);
    else if (this.#models.get(request.model) === request.queue) this.#arrive(request);
    else this.#shed(request, "unloaded", {}, nowUs);
  }

  // Ends of requests.

  #shed(request: PendingRequest, cause: ShedCause, detail: ShedDetail, nowUs: number): void {
    if (request.reply === null) {
      this.#withdraw(request, nowUs);
      return;
    }
    for (const observer of this.#observers) observer.shed?.(request, cause, detail, nowUs);
    request.queue.remove(request);
    this.#answer(request, { type: "shed", cause, detail });
  }

  #demote(id: RequestId, nowUs: number): void {
    const request = this.#requests.get(id);
    if (request === undefined || request.bestEffort) return;
    request.bestEffort = true;
    if (!request.started) request.queue.bestEffortItems += request.items;
    for (const observer of this.#observers) observer.demoted?.(request, nowUs);
  }

  /** Takes out a cancelled request, once; if it has been started it stays in its batch. */
  #withdraw(request: PendingRequest, nowUs: number): void {
    if (!this.#requests.has(request.id)) return;
    if (!request.started) request.queue.remove(request);
    for (const observer of this.#observers) observer.cancelled?.(request, request.started, nowUs);
    this.#forget(request);
  }

  /** Gives the one outcome to a caller that still waits for it. */
  #answer(request: PendingRequest, outcome: Outcome): void {
    const reply = request.reply!;
    request.reply = null;
    try {
      reply(outcome, request);
    } catch (error) {
      // A caller's mistake must not leave the rest of the batch unanswered; it still stops the process, like any other.
      queueMicrotask(() => {
        throw error;
      });
    }
    this.#forget(request);
  }

  #forget(request: PendingRequest): void {
    if (!this.#requests.delete(request.id) || this.#requests.size > 0) return;
    const drained = this.#drained;
    this.#drained = [];
    for (const resolve of drained) resolve();
  }
}
