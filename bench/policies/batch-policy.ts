/** What all comparison policies share: queues in deadline order, lanes and profiles, and the scheduler's port. */
import type {
  ExecutionId,
  ModelSpec,
  Profile,
  RequestId,
  RequestMeta,
  Scheduler,
  SchedulerEffect,
  SchedulerEvent,
  ShapeProfiles,
  ShedCause,
} from "../../daemon/scheduler/types.ts";

/** Requests of one model and shape that can share a batch. */
export interface Group {
  readonly spec: ModelSpec;
  readonly shape: string;
  /** With a deadline, the most urgent first. */
  readonly urgent: RequestMeta[];
  /** Without one, or demoted, the oldest first. */
  readonly fill: RequestMeta[];
}

export interface PolicyLane {
  readonly name: string;
  /** Models loaded on it, with their profiles. */
  readonly profiles: Map<string, ShapeProfiles>;
  busyUntilUs: number | null;
}

/** The batch a policy wants to run: the first `count` requests of one of a group's queues. */
export interface Choice {
  readonly group: Group;
  readonly from: "urgent" | "fill";
  readonly count: number;
}

/** Predicted time of a batch; Infinity where it is larger than the largest bucket. */
export function executionUs(profile: Profile, items: number): number {
  return pointFor(profile, items)?.us ?? Number.POSITIVE_INFINITY;
}

function pointFor(profile: Profile, items: number): { bucket: number; us: number } | undefined {
  // With every size its own bucket the point is where it is expected; elsewhere the table is short.
  const direct = profile[items - 1];
  if (direct?.bucket === items) return direct;
  return profile.find((point) => point.bucket >= items);
}

/** Base of the comparison policies: a subclass chooses what an idle lane runs, and when to look again. */
export abstract class BatchPolicy implements Scheduler {
  protected readonly groups: Map<string, Group> = new Map();
  protected readonly lanes: Map<string, PolicyLane> = new Map();
  readonly #specs = new Map<string, ModelSpec>();
  #effects: SchedulerEffect[] = [];
  #lastExecution: ExecutionId = 0;
  #wakeAtUs: number | null = null;

  /** What the idle lane runs now; null leaves it idle until the next event or `wakeBy`. */
  protected abstract choose(lane: PolicyLane, nowUs: number): Choice | null;

  /** For policies that keep statistics of arrivals. */
  protected onArrive(_group: Group, _request: RequestMeta, _nowUs: number): void {}

  step(event: SchedulerEvent, nowUs: number): readonly SchedulerEffect[] {
    this.#effects = [];
    this.#take(event, nowUs);
    const armed = this.#wakeAtUs;
    this.#wakeAtUs = null;
    for (const lane of this.lanes.values()) if (lane.busyUntilUs === null) this.#dispatch(lane, nowUs);
    if (this.#wakeAtUs !== armed) this.#effects.push({ type: "wake-at", atUs: this.#wakeAtUs });
    return this.#effects;
  }

  /** Asks to be woken at that time or earlier; asked anew in every step in which it still holds. */
  protected wakeBy(atUs: number): void {
    if (this.#wakeAtUs === null || atUs < this.#wakeAtUs) this.#wakeAtUs = atUs;
  }

  protected profileOn(lane: PolicyLane, group: Group): Profile | null {
    return lane.profiles.get(group.spec.model)?.[group.shape] ?? null;
  }

  /** Items of a batch that the lane can take. */
  protected batchMax(group: Group, profile: Profile): number {
    return Math.min(group.spec.maxBatch, profile.at(-1)!.bucket);
  }

  /** Drops the most urgent requests of a group (or demotes those that may be answered late). */
  protected drop(group: Group, count: number, cause: ShedCause): void {
    for (const request of group.urgent.splice(0, count)) {
      if (request.explicit || group.spec.shedImplicit) {
        this.#effects.push({ type: "shed", id: request.id, cause, detail: {} });
      } else {
        this.#effects.push({ type: "demote", id: request.id });
        group.fill.push(request);
      }
    }
  }

  /** Drops what can't finish by its deadline even if it ran alone now. */
  protected dropHopeless(group: Group, profile: Profile, nowUs: number): void {
    let hopeless = 0;
    for (const request of group.urgent) {
      if (request.deadlineUs! >= nowUs + executionUs(profile, request.items)) break;
      hopeless++;
    }
    if (hopeless > 0) this.drop(group, hopeless, "late");
  }

  /** How many of the most urgent requests fit into a batch of `max` items that ends by the head's deadline. */
  protected prefixByDeadline(group: Group, profile: Profile, max: number, nowUs: number): number {
    const { urgent } = group;
    const limitUs = urgent[0]!.deadlineUs! - nowUs;
    let items = 0;
    let count = 0;
    for (; count < urgent.length; count++) {
      const grown = items + urgent[count]!.items;
      if (grown > max || executionUs(profile, grown) > limitUs) break;
      items = grown;
    }
    return count;
  }

  /** How many of a queue's first requests fit into `max` items. */
  protected prefix(queue: readonly RequestMeta[], max: number): number {
    let items = 0;
    let count = 0;
    for (; count < queue.length; count++) {
      items += queue[count]!.items;
      if (items > max) break;
    }
    return count;
  }

  #take(event: SchedulerEvent, nowUs: number): void {
    switch (event.type) {
      case "lane-up":
        this.lanes.set(event.lane, { name: event.lane, profiles: new Map(), busyUntilUs: null });
        return;
      case "lane-down":
        this.lanes.delete(event.lane);
        return;
      case "model-add":
        this.#specs.set(event.spec.model, event.spec);
        return;
      case "model-remove":
        this.#removeModel(event.model);
        return;
      case "loaded":
        this.lanes.get(event.lane)?.profiles.set(event.model, event.profiles);
        return;
      case "unloaded":
        this.lanes.get(event.lane)?.profiles.delete(event.model);
        return;
      case "arrive":
        this.#arrive(event.request, nowUs);
        return;
      case "cancel":
        this.#cancel(event.id);
        return;
      case "end": {
        const lane = this.lanes.get(event.lane);
        if (lane !== undefined) lane.busyUntilUs = null;
        return;
      }
      case "wake":
        this.#wakeAtUs = null;
        return;
    }
  }

  #removeModel(model: string): void {
    this.#specs.delete(model);
    for (const [key, group] of this.groups) {
      if (group.spec.model !== model) continue;
      this.groups.delete(key);
      for (const { id } of [...group.urgent, ...group.fill]) {
        this.#effects.push({ type: "shed", id, cause: "unloaded", detail: {} });
      }
    }
  }

  #arrive(request: RequestMeta, nowUs: number): void {
    const key = request.shape === "" ? request.model : `${request.model}\n${request.shape}`;
    let group = this.groups.get(key);
    if (group === undefined) {
      group = { spec: this.#specs.get(request.model)!, shape: request.shape, urgent: [], fill: [] };
      this.groups.set(key, group);
    }
    const queue = request.deadlineUs === null ? group.fill : group.urgent;
    let at = queue.length;
    if (request.deadlineUs !== null) {
      while (at > 0 && queue[at - 1]!.deadlineUs! > request.deadlineUs) at--;
    }
    if (at === queue.length) queue.push(request);
    else queue.splice(at, 0, request);
    this.onArrive(group, request, nowUs);
  }

  #cancel(id: RequestId): void {
    for (const { urgent, fill } of this.groups.values()) {
      for (const queue of [urgent, fill]) {
        const at = queue.findIndex((request) => request.id === id);
        if (at >= 0) queue.splice(at, 1);
      }
    }
  }

  #dispatch(lane: PolicyLane, nowUs: number): void {
    const choice = this.choose(lane, nowUs);
    if (choice === null) return;
    const { group, from, count } = choice;
    const requests = group[from].splice(0, count);
    const items = requests.reduce((sum, request) => sum + request.items, 0);
    const profile = this.profileOn(lane, group);
    const point = profile === null ? undefined : pointFor(profile, items);
    if (point === undefined || count === 0) {
      throw new Error(
        `${this.constructor.name} chose ${items} items of ${group.spec.model}, which ${lane.name} can't run`,
      );
    }
    lane.busyUntilUs = nowUs + point.us;
    const plan = {
      execution: ++this.#lastExecution,
      lane: lane.name,
      model: group.spec.model,
      shape: group.shape,
      ids: requests.map((request) => request.id),
      items,
      bucket: point.bucket,
      steps: [{ predictedUs: point.us }],
      reason: from === "urgent" ? "deadline" : "fill",
    } as const;
    this.#effects.push({ type: "start", plan });
  }
}
