/**
 * What every comparison policy shares: queues, lanes, profiles, executions, expiry of hopeless requests, best-effort
 * work and the wake-up timer. A policy is what remains: the choice of the next batch for a free lane.
 *
 * Comparison policies see one lane per device and one shape per model; they are opponents, not products.
 */
import type {
  BatchPlan,
  ExecutionId,
  ModelSpec,
  Profile,
  RequestId,
  RequestMeta,
  Scheduler,
  SchedulerEffect,
  SchedulerEvent,
  ShedCause,
  StartReason,
} from "../../daemon/scheduler/types.ts";

export interface Queued {
  readonly id: RequestId;
  readonly items: number;
  readonly deadlineUs: number;
  readonly arrivedUs: number;
}

/** A model as a policy sees it. */
export interface PolicyModel {
  readonly spec: ModelSpec;
  /** Requests with deadlines in arrival order, or in deadline order where the policy asks for that. */
  readonly queue: Queued[];
  readonly bestEffort: Queued[];
  /** When the model's last batch started. */
  lastStartUs: number;
  /** Expected execution time by items, 1..maxBatch. */
  latencyUs(items: number): number;
  /** Arrivals a microsecond over the last seconds, for policies that plan by rate. */
  ratePerUs(nowUs: number): number;
}

/** What to do with a free lane. `drop` is carried out first. */
export type Decision =
  | { readonly type: "start"; readonly model: PolicyModel; readonly batch: readonly Queued[]; readonly drop?: Drop[] }
  /** Nothing now; look again at `untilUs` at the latest (null: when something arrives). */
  | { readonly type: "wait"; readonly untilUs: number | null; readonly drop?: Drop[] };

export interface Drop {
  readonly model: PolicyModel;
  readonly request: Queued;
}

export interface Policy {
  /** How the queues are kept. */
  readonly order: "arrival" | "deadline";
  /** How the told profile is corrected by the model's last executions: by their mean (where absent), or their longest. */
  readonly estimate?: "mean" | "longest";
  decide(models: readonly PolicyModel[], nowUs: number): Decision;
  arrived?(model: PolicyModel, nowUs: number): void;
  started?(model: PolicyModel, batch: readonly Queued[], nowUs: number): void;
}

/** Executions whose times correct the profile that was told. */
const OBSERVED_MAX = 10;
/** Memory of the arrival rate. */
const RATE_WINDOW_US = 3_000_000;

class ModelEntry implements PolicyModel {
  readonly spec: ModelSpec;
  readonly queue: Queued[] = [];
  readonly bestEffort: Queued[] = [];
  lastStartUs: number = Number.NEGATIVE_INFINITY;
  readonly #tableUs: number[];
  readonly #estimate: "mean" | "longest";
  /** Actual by told execution times of the last executions. */
  readonly #observed: number[] = [];
  #correction = 1;
  #firstArrivalUs = -1;
  #lastArrivalUs = 0;
  /** Arrivals, each weighing less with its age. */
  #recent = 0;

  constructor(spec: ModelSpec, profile: Profile, estimate: "mean" | "longest") {
    this.spec = spec;
    this.#estimate = estimate;
    this.#tableUs = [0];
    for (const point of profile) {
      while (this.#tableUs.length <= Math.min(point.bucket, spec.maxBatch)) this.#tableUs.push(point.us);
    }
  }

  latencyUs(items: number): number {
    const us = this.#tableUs[items];
    if (us === undefined) throw new RangeError(`no bucket for a batch of ${items} of ${this.spec.model}`);
    return us * this.#correction;
  }

  executed(toldUs: number, us: number): void {
    this.#observed.push(us / toldUs);
    if (this.#observed.length > OBSERVED_MAX) this.#observed.shift();
    const sum = this.#observed.reduce((total, ratio) => total + ratio, 0);
    this.#correction = this.#estimate === "mean" ? sum / this.#observed.length : Math.max(...this.#observed);
  }

  arrived(nowUs: number): void {
    if (this.#firstArrivalUs < 0) this.#firstArrivalUs = nowUs;
    this.#recent = this.#recent * Math.exp((this.#lastArrivalUs - nowUs) / RATE_WINDOW_US) + 1;
    this.#lastArrivalUs = nowUs;
  }

  ratePerUs(nowUs: number): number {
    if (this.#firstArrivalUs < 0 || nowUs <= this.#firstArrivalUs) return 0;
    const weight = 1 - Math.exp((this.#firstArrivalUs - nowUs) / RATE_WINDOW_US);
    const recent = this.#recent * Math.exp((this.#lastArrivalUs - nowUs) / RATE_WINDOW_US);
    return recent / (RATE_WINDOW_US * weight);
  }
}

interface Started {
  readonly model: ModelEntry;
  readonly toldUs: number;
  readonly expectedUs: number;
}

interface Lane {
  running: Started | null;
  /** When what runs is expected to end. */
  expectedEndUs: number;
  /** Sent while the other runs. */
  following: Started | null;
}

export class PolicyScheduler implements Scheduler {
  readonly #policy: Policy;
  readonly #specs = new Map<string, ModelSpec>();
  readonly #models = new Map<string, ModelEntry>();
  readonly #buckets = new Map<string, Profile>();
  readonly #lanes = new Map<string, Lane>();
  readonly #handoverUs: number;
  #order: ModelEntry[] = [];
  #nextExecution: ExecutionId = 1;
  #effects: SchedulerEffect[] = [];
  #wakeAtUs: number | null = null;

  /** @param handoverUs how long before the expected end of a batch the next one is chosen and sent; 0: when it has ended */
  constructor(policy: Policy, handoverUs = 0) {
    this.#policy = policy;
    this.#handoverUs = handoverUs;
  }

  step(event: SchedulerEvent, nowUs: number): readonly SchedulerEffect[] {
    this.#effects = [];
    this.#take(event, nowUs);
    this.#dispatch(nowUs);
    return this.#effects;
  }

  #take(event: SchedulerEvent, nowUs: number): void {
    switch (event.type) {
      case "lane-up":
        if (event.kind === "device") {
          this.#lanes.set(event.lane, { running: null, expectedEndUs: nowUs, following: null });
        }
        break;
      case "lane-down":
        this.#lanes.delete(event.lane);
        break;
      case "model-add":
        this.#specs.set(event.spec.model, event.spec);
        break;
      case "model-remove":
        this.#specs.delete(event.model);
        this.#models.delete(event.model);
        this.#order = [...this.#models.values()];
        break;
      case "loaded":
        this.#load(event.model, event.profiles[""] ?? []);
        break;
      case "unloaded":
        break;
      case "arrive":
        this.#arrive(event.request, nowUs);
        break;
      case "cancel":
        this.#remove(event.id);
        break;
      case "end": {
        const lane = this.#lanes.get(event.lane);
        if (lane === undefined) break;
        const { running, following } = lane;
        if (event.ok && event.us !== null) running?.model.executed(running.toldUs, event.us);
        lane.running = following;
        lane.following = null;
        lane.expectedEndUs = nowUs + (following?.expectedUs ?? 0);
        break;
      }
      case "wake":
        this.#wakeAtUs = null;
        break;
    }
  }

  #load(model: string, profile: Profile): void {
    const spec = this.#specs.get(model);
    if (spec === undefined || this.#models.has(model)) return;
    this.#models.set(model, new ModelEntry(spec, profile, this.#policy.estimate ?? "mean"));
    this.#buckets.set(model, profile);
    this.#order = [...this.#models.values()];
  }

  #arrive(request: RequestMeta, nowUs: number): void {
    const model = this.#models.get(request.model);
    if (model === undefined) {
      this.#shed(request.id, "unloaded");
      return;
    }
    const bestEffort = request.deadlineUs === null;
    const queued: Queued = {
      id: request.id,
      items: request.items,
      deadlineUs: request.deadlineUs ?? Number.POSITIVE_INFINITY,
      arrivedUs: nowUs,
    };
    const queue = bestEffort ? model.bestEffort : model.queue;
    let at = queue.length;
    if (this.#policy.order === "deadline") while (at > 0 && queue[at - 1]!.deadlineUs > queued.deadlineUs) at--;
    queue.splice(at, 0, queued);
    if (bestEffort) return;
    model.arrived(nowUs);
    this.#policy.arrived?.(model, nowUs);
  }

  #remove(id: RequestId): void {
    for (const { queue, bestEffort } of this.#order) {
      for (const list of [queue, bestEffort]) {
        const at = list.findIndex((request) => request.id === id);
        if (at >= 0) list.splice(at, 1);
      }
    }
  }

  #dispatch(nowUs: number): void {
    let wakeAtUs: number | null = null;
    for (const [name, lane] of this.#lanes) {
      const openAtUs = this.#openAtUs(lane);
      if (openAtUs <= nowUs) {
        const atUs = lane.running === null ? nowUs : Math.max(nowUs, lane.expectedEndUs);
        wakeAtUs = earliest(wakeAtUs, this.#decide(name, atUs, nowUs));
      }
      // What was just given to an idle lane has a successor, too.
      const nextUs = this.#openAtUs(lane);
      if (nextUs > nowUs && nextUs !== Number.POSITIVE_INFINITY) wakeAtUs = earliest(wakeAtUs, Math.ceil(nextUs));
    }
    if (wakeAtUs !== this.#wakeAtUs) {
      this.#wakeAtUs = wakeAtUs;
      this.#effects.push({ type: "wake-at", atUs: wakeAtUs });
    }
  }

  /** From when on the lane may be given a batch; Infinity where that needs an end first. */
  #openAtUs({ running, following, expectedEndUs }: Lane): number {
    if (running === null) return Number.NEGATIVE_INFINITY;
    return this.#handoverUs === 0 || following !== null ? Number.POSITIVE_INFINITY : expectedEndUs - this.#handoverUs;
  }

  /** Lets the policy choose for a lane that is free at `atUs`; when to look again, where nothing was started. */
  #decide(lane: string, atUs: number, nowUs: number): number | null {
    this.#dropHopeless(atUs);
    const decision = this.#policy.decide(this.#order, atUs);
    for (const { model, request } of decision.drop ?? []) this.#drop(model, request);
    if (decision.type === "start") {
      this.#start(lane, decision.model as ModelEntry, decision.batch, "deadline", atUs);
      return null;
    }
    if (this.#fill(lane, decision.untilUs, atUs)) return null;
    // A wake-up at the present instant would only find what this one found.
    return decision.untilUs === null ? null : Math.max(nowUs + 1, Math.ceil(decision.untilUs));
  }

  /** Best-effort work runs when nothing with a deadline is queued, or in a wait that is long enough for it. */
  #fill(lane: string, untilUs: number | null, nowUs: number): boolean {
    const queued = this.#order.some((model) => model.queue.length > 0);
    const roomUs = queued ? (untilUs ?? nowUs) - nowUs : Number.POSITIVE_INFINITY;
    for (const model of this.#order) {
      const batch = largestBatch(model, model.bestEffort, roomUs);
      if (batch.length === 0) continue;
      this.#start(lane, model, batch, "fill", nowUs);
      return true;
    }
    return false;
  }

  #dropHopeless(nowUs: number): void {
    for (const model of this.#order) {
      for (let i = model.queue.length - 1; i >= 0; i--) {
        const request = model.queue[i]!;
        if (request.deadlineUs < nowUs + model.latencyUs(request.items)) this.#drop(model, request);
      }
    }
  }

  #drop(model: PolicyModel, request: Queued): void {
    const at = model.queue.indexOf(request);
    if (at < 0) return;
    model.queue.splice(at, 1);
    this.#shed(request.id, "late");
  }

  #shed(id: RequestId, cause: ShedCause): void {
    this.#effects.push({ type: "shed", id, cause, detail: {} });
  }

  #start(name: string, model: ModelEntry, batch: readonly Queued[], reason: StartReason, atUs: number): void {
    const queue = reason === "fill" ? model.bestEffort : model.queue;
    const members = new Set(batch);
    const rest = queue.filter((request) => !members.has(request));
    queue.length = 0;
    queue.push(...rest);
    const items = itemsOf(batch);
    const bucket = this.#buckets.get(model.spec.model)!.find((point) => point.bucket >= items)!;
    const plan: BatchPlan = {
      execution: this.#nextExecution++,
      lane: name,
      model: model.spec.model,
      shape: "",
      ids: batch.map((request) => request.id),
      items,
      bucket: bucket.bucket,
      steps: [{ predictedUs: bucket.us }],
      reason,
    };
    model.lastStartUs = atUs;
    const lane = this.#lanes.get(name)!;
    const started: Started = { model, toldUs: bucket.us, expectedUs: model.latencyUs(items) };
    if (lane.running === null) {
      lane.running = started;
      lane.expectedEndUs = atUs + started.expectedUs;
    } else {
      lane.following = started;
    }
    this.#policy.started?.(model, batch, atUs);
    this.#effects.push({ type: "start", plan });
  }
}

function earliest(a: number | null, b: number | null): number | null {
  return a === null || (b !== null && b < a) ? b : a;
}

export function itemsOf(batch: readonly Queued[]): number {
  let items = 0;
  for (const request of batch) items += request.items;
  return items;
}

/** The longest prefix of `queue` that fits the model's largest batch and executes within `roomUs`. */
export function largestBatch(model: PolicyModel, queue: readonly Queued[], roomUs: number): Queued[] {
  let items = 0;
  let count = 0;
  for (const request of queue) {
    const grown = items + request.items;
    if (grown > model.spec.maxBatch || model.latencyUs(grown) > roomUs) break;
    items = grown;
    count++;
  }
  return queue.slice(0, count);
}

/** The longest prefix of the queue, in its order, that would end by the earliest deadline in it. */
export function batchToHeadDeadline(model: PolicyModel, nowUs: number, from = 0): Queued[] {
  const head = model.queue[from];
  if (head === undefined) return [];
  return largestBatch(model, model.queue.slice(from, from + model.spec.maxBatch), head.deadlineUs - nowUs);
}

/** Largest batch b with 2·l(b) ≤ SLO: what a model can sustain when it waits for at most one batch of its own. */
export function steadyBatch(model: PolicyModel): number {
  let items = 1;
  while (items < model.spec.maxBatch && 2 * model.latencyUs(items + 1) <= model.spec.sloUs) items++;
  return items;
}
