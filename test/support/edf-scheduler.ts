import type {
  ModelSpec,
  Profile,
  RequestMeta,
  Scheduler,
  SchedulerEffect,
  SchedulerEvent,
  ShapeProfiles,
} from "../../daemon/scheduler/types.ts";

interface TestLane {
  readonly name: string;
  readonly profiles: Map<string, ShapeProfiles>;
  busy: boolean;
}

/**
 * A scheduler that is plain enough to foresee: earliest deadline first, at once, with as many requests of the same model
 * and shape as fit the largest batch. What would end late alone is shed, or demoted where nobody stated the deadline.
 */
export class EdfScheduler implements Scheduler {
  readonly #specs = new Map<string, ModelSpec>();
  readonly #lanes = new Map<string, TestLane>();
  /** In deadline order, those without one last. */
  #queue: RequestMeta[] = [];
  #effects: SchedulerEffect[] = [];
  #lastExecution = 0;

  step(event: SchedulerEvent, nowUs: number): readonly SchedulerEffect[] {
    this.#effects = [];
    this.#take(event);
    for (const lane of this.#lanes.values()) if (!lane.busy) this.#dispatch(lane, nowUs);
    return this.#effects;
  }

  #take(event: SchedulerEvent): void {
    switch (event.type) {
      case "lane-up":
        this.#lanes.set(event.lane, { name: event.lane, profiles: new Map(), busy: false });
        return;
      case "lane-down":
        this.#lanes.delete(event.lane);
        return;
      case "model-add":
        this.#specs.set(event.spec.model, event.spec);
        return;
      case "model-remove":
        this.#specs.delete(event.model);
        for (const { id, model } of this.#queue) {
          if (model === event.model) this.#effects.push({ type: "shed", id, cause: "unloaded", detail: {} });
        }
        this.#queue = this.#queue.filter(({ model }) => model !== event.model);
        return;
      case "loaded":
        this.#lanes.get(event.lane)?.profiles.set(event.model, event.profiles);
        return;
      case "unloaded":
        this.#lanes.get(event.lane)?.profiles.delete(event.model);
        return;
      case "arrive":
        this.#insert(event.request);
        return;
      case "cancel":
        this.#queue = this.#queue.filter(({ id }) => id !== event.id);
        return;
      case "end":
        this.#lanes.get(event.lane)!.busy = false;
        return;
      case "wake":
        return;
    }
  }

  #insert(request: RequestMeta): void {
    const key = (r: RequestMeta): number => r.deadlineUs ?? Number.POSITIVE_INFINITY;
    const at = this.#queue.findIndex((queued) => key(queued) > key(request));
    this.#queue.splice(at < 0 ? this.#queue.length : at, 0, request);
  }

  #dispatch(lane: TestLane, nowUs: number): void {
    for (;;) {
      const head = this.#queue.find(({ model, shape }) => lane.profiles.get(model)?.[shape] !== undefined);
      if (head === undefined) return;
      const profile = lane.profiles.get(head.model)![head.shape]!;
      if (head.deadlineUs === null || nowUs + timeUs(profile, head.items) <= head.deadlineUs) {
        this.#start(lane, head, profile);
        return;
      }
      this.#giveUp(head);
    }
  }

  #giveUp(request: RequestMeta): void {
    this.#queue.splice(this.#queue.indexOf(request), 1);
    if (request.explicit || this.#specs.get(request.model)!.shedImplicit) {
      this.#effects.push({ type: "shed", id: request.id, cause: "late", detail: {} });
    } else {
      this.#effects.push({ type: "demote", id: request.id });
      this.#insert({ ...request, deadlineUs: null });
    }
  }

  #start(lane: TestLane, head: RequestMeta, profile: Profile): void {
    const max = Math.min(this.#specs.get(head.model)!.maxBatch, profile.at(-1)!.bucket);
    const members: RequestMeta[] = [];
    let items = 0;
    for (const request of this.#queue) {
      if (request.model !== head.model || request.shape !== head.shape || items + request.items > max) continue;
      members.push(request);
      items += request.items;
    }
    this.#queue = this.#queue.filter((request) => !members.includes(request));
    lane.busy = true;
    const plan = {
      execution: ++this.#lastExecution,
      lane: lane.name,
      model: head.model,
      shape: head.shape,
      ids: members.map(({ id }) => id),
      items,
      bucket: profile.find(({ bucket }) => bucket >= items)!.bucket,
      steps: [{ predictedUs: timeUs(profile, items) }],
      reason: head.deadlineUs === null ? "fill" : "deadline",
    } as const;
    this.#effects.push({ type: "start", plan });
  }
}

function timeUs(profile: Profile, items: number): number {
  return profile.find(({ bucket }) => bucket >= items)?.us ?? Number.POSITIVE_INFINITY;
}
