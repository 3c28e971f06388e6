/**
 * A world for a scheduler to act in: lanes that take as long as they are told, a clock that jumps from event to event,
 * and checks of every effect and of the state after every step. Whatever is wrong throws.
 */
import assert from "node:assert/strict";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import type {
  BatchPlan,
  LaneKind,
  ModelSpec,
  RequestId,
  RequestMeta,
  Scheduler,
  SchedulerEffect,
  SchedulerEvent,
  SchedulerOptions,
  ShapeProfiles,
  ShedCause,
  ShedDetail,
} from "../../daemon/scheduler/types.ts";

export interface WorldRequest extends RequestMeta {
  readonly arrivedUs: number;
  state: "queued" | "executing" | "answered" | "shed" | "cancelled" | "lost";
  bestEffort: boolean;
  demoted: boolean;
  cause: ShedCause | null;
  detail: ShedDetail | null;
  startUs: number;
  endUs: number;
  plan: BatchPlan | null;
}

export interface WorldLane {
  readonly name: string;
  readonly kind: LaneKind;
  readonly loaded: Map<string, ShapeProfiles>;
  executing: BatchPlan | null;
  /** Started while another executes. */
  following: BatchPlan | null;
  startUs: number;
  /** When the execution began: after the start where the device was idle. */
  executesUs: number;
  predictedUs: number;
  predictedEndUs: number;
  endUs: number;
  busyUs: number;
}

export interface WorldOptions extends Partial<SchedulerOptions> {
  /** How long a batch really takes; as predicted by default. */
  readonly durationUs?: (plan: BatchPlan) => number;
  /** How long a device that was idle really waits before it executes; `handoverUs` by default. */
  readonly idleUs?: number;
  /** Off where tenants with guaranteed shares may overtake. */
  readonly checkOrder?: boolean;
}

const NEVER = Number.POSITIVE_INFINITY;
/** A free lane that leaves work waiting looks again this soon. */
const LOOK_AGAIN_US_MAX = 10_000;
const WAKES_AT_ONCE_MAX = 50;

/** A profile in which every size is its own bucket. */
export function linear(alphaUs: number, betaUs: number, max: number): ShapeProfiles {
  return { "": Array.from({ length: max }, (_, i) => ({ bucket: i + 1, us: Math.round(alphaUs * (i + 1) + betaUs) })) };
}

export function staircase(...points: readonly (readonly [bucket: number, us: number])[]): ShapeProfiles {
  return { "": points.map(([bucket, us]) => ({ bucket, us })) };
}

export class World {
  readonly scheduler: Scheduler;
  readonly requests: Map<RequestId, WorldRequest> = new Map();
  readonly lanes: Map<string, WorldLane> = new Map();
  readonly specs: Map<string, ModelSpec> = new Map();
  /** Every plan that was started, in order. */
  readonly started: BatchPlan[] = [];
  readonly staged: BatchPlan[] = [];
  nowUs = 0;
  wakeAtUs: number = NEVER;
  #options: WorldOptions;
  #queued: Set<WorldRequest> = new Set();
  #lastId = 0;
  #wakesAtOnce = 0;

  constructor(options: WorldOptions = {}) {
    const { durationUs: _, idleUs: __, checkOrder: ___, ...rest } = options;
    this.#options = options;
    this.scheduler = createScheduler(rest);
  }

  // What happens.

  lane(name: string, kind: LaneKind = "device"): void {
    this.lanes.set(name, {
      name,
      kind,
      loaded: new Map(),
      executing: null,
      following: null,
      startUs: 0,
      executesUs: 0,
      predictedUs: 0,
      predictedEndUs: NEVER,
      endUs: NEVER,
      busyUs: 0,
    });
    this.step({ type: "lane-up", lane: name, kind });
  }

  laneDown(name: string): void {
    const lane = this.lanes.get(name)!;
    this.lanes.delete(name);
    for (const plan of [lane.executing, lane.following]) {
      for (const id of plan?.ids ?? []) this.requests.get(id)!.state = "lost";
    }
    this.step({ type: "lane-down", lane: name });
  }

  /** Adds a model, and loads it on the lanes given (all by default) where there are profiles. */
  model(spec: Partial<ModelSpec> & { model: string }, profiles: ShapeProfiles | null, lanes?: readonly string[]): void {
    const full: ModelSpec = {
      maxBatch: Math.max(1, ...Object.values(profiles ?? {}).flatMap((profile) => profile.map(({ bucket }) => bucket))),
      sloUs: 100_000,
      weight: 1,
      minShare: 0,
      shedImplicit: false,
      queueItemsMax: 100_000,
      queueBytesMax: 1e12,
      ...spec,
    };
    this.specs.set(spec.model, full);
    this.step({ type: "model-add", spec: full });
    if (profiles === null) return;
    for (const lane of lanes ?? [...this.lanes.keys()]) this.load(lane, spec.model, profiles);
  }

  removeModel(model: string): void {
    this.specs.delete(model);
    this.step({ type: "model-remove", model });
    for (const request of this.#queued) assert.notEqual(request.model, model, "a removed model has nothing queued");
  }

  load(lane: string, model: string, profiles: ShapeProfiles): void {
    this.lanes.get(lane)!.loaded.set(model, profiles);
    this.step({ type: "loaded", lane, model, profiles });
  }

  unload(lane: string, model: string): void {
    this.lanes.get(lane)!.loaded.delete(model);
    this.step({ type: "unloaded", lane, model });
  }

  /** A request arrives now; its deadline is `inUs` from now (null: best effort), else the model's SLO, implicitly. */
  arrive(model: string, request: Partial<RequestMeta> & { inUs?: number | null } = {}): WorldRequest {
    const { inUs, ...rest } = request;
    const explicit = inUs !== undefined && inUs !== null;
    const deadlineUs = inUs === null ? null : this.nowUs + (inUs ?? this.specs.get(model)?.sloUs ?? 0);
    const id = ++this.#lastId;
    const meta = { model, items: 1, bytes: 100, shape: "", expiresUs: null, tenant: "", ...rest, id, deadlineUs };
    const known: WorldRequest = {
      explicit,
      ...meta,
      arrivedUs: this.nowUs,
      state: "queued",
      bestEffort: deadlineUs === null,
      demoted: false,
      cause: null,
      detail: null,
      startUs: -1,
      endUs: -1,
      plan: null,
    };
    this.requests.set(id, known);
    this.#queued.add(known);
    this.step({ type: "arrive", request: { explicit, ...meta } });
    return known;
  }

  cancel(request: WorldRequest): void {
    if (request.state === "queued") {
      request.state = "cancelled";
      this.#queued.delete(request);
    }
    this.step({ type: "cancel", id: request.id });
  }

  /** Lets time pass until `atUs`, with ends and wake-ups in their order. */
  runUntil(atUs: number): void {
    for (;;) {
      let next: WorldLane | null = null;
      for (const lane of this.lanes.values()) {
        if (lane.executing !== null && lane.endUs < (next?.endUs ?? NEVER)) next = lane;
      }
      const dueUs = Math.min(next?.endUs ?? NEVER, this.wakeAtUs);
      if (dueUs > atUs) break;
      this.#wakesAtOnce = dueUs === this.nowUs ? this.#wakesAtOnce + 1 : 0;
      assert.ok(this.#wakesAtOnce < WAKES_AT_ONCE_MAX, "time stands still");
      this.nowUs = Math.max(this.nowUs, dueUs);
      if (next !== null && next.endUs <= dueUs) {
        this.#end(next);
      } else {
        this.wakeAtUs = NEVER;
        this.step({ type: "wake" });
      }
    }
    this.nowUs = Math.max(this.nowUs, atUs);
  }

  runFor(us: number): void {
    this.runUntil(this.nowUs + us);
  }

  step(event: SchedulerEvent): readonly SchedulerEffect[] {
    const effects = this.scheduler.step(event, this.nowUs);
    for (const effect of effects) this.#carryOut(effect);
    this.#checkNothingForgotten();
    return effects;
  }

  #end(lane: WorldLane): void {
    const plan = lane.executing!;
    lane.executing = null;
    lane.busyUs += this.nowUs - lane.startUs;
    for (const id of plan.ids) {
      const request = this.requests.get(id)!;
      assert.equal(request.state, "executing");
      request.state = "answered";
      request.endUs = this.nowUs;
    }
    const us = this.nowUs - lane.executesUs;
    const { following } = lane;
    lane.following = null;
    if (following !== null) this.#execute(lane, following, 0);
    this.step({ type: "end", lane: lane.name, execution: plan.execution, us, ok: true });
  }

  // What the scheduler asks for.

  #carryOut(effect: SchedulerEffect): void {
    switch (effect.type) {
      case "start":
        this.#start(effect.plan);
        break;
      case "stage":
        this.#checkPlan(effect.plan);
        this.staged.push(effect.plan);
        break;
      case "shed": {
        const request = this.requests.get(effect.id)!;
        assert.equal(request.state, "queued", `request ${effect.id} is shed while ${request.state}`);
        if (effect.cause === "late" || effect.cause === "sacrificed") {
          assert.ok(request.deadlineUs !== null);
          assert.ok(request.explicit || this.specs.get(request.model)!.shedImplicit, "implicit deadlines are not shed");
        }
        request.state = "shed";
        request.cause = effect.cause;
        request.detail = effect.detail;
        request.endUs = this.nowUs;
        this.#queued.delete(request);
        break;
      }
      case "demote": {
        const request = this.requests.get(effect.id)!;
        assert.equal(request.state, "queued");
        assert.equal(request.demoted, false, "demoted once");
        assert.ok(!request.explicit && request.deadlineUs !== null, "only implicit deadlines are demoted");
        request.demoted = true;
        request.bestEffort = true;
        break;
      }
      case "wake-at":
        assert.ok(effect.atUs === null || effect.atUs >= this.nowUs, "wakes in the past");
        this.wakeAtUs = effect.atUs ?? NEVER;
        break;
    }
  }

  #start(plan: BatchPlan): void {
    this.#checkPlan(plan);
    const lane = this.lanes.get(plan.lane)!;
    for (const id of plan.ids) {
      const request = this.requests.get(id)!;
      request.state = "executing";
      request.plan = plan;
      this.#queued.delete(request);
    }
    if (this.#options.checkOrder ?? true) this.#checkOrder(plan);
    this.started.push(plan);
    if (lane.executing === null) {
      this.#execute(lane, plan, lane.kind === "device" ? (this.#options.idleUs ?? this.#options.handoverUs ?? 0) : 0);
      return;
    }
    assert.ok((this.#options.handoverUs ?? 0) > 0 && lane.kind === "device", `lane ${plan.lane} is busy`);
    assert.equal(lane.following, null, `lane ${plan.lane} has its next batch`);
    // As much earlier as its predictions are off, which is less than the longest noise of these worlds.
    const earliestUs = lane.predictedEndUs - this.#options.handoverUs! - 0.5 * lane.predictedUs;
    assert.ok(this.nowUs >= earliestUs, `lane ${plan.lane} is far from its end`);
    lane.following = plan;
  }

  /** A device that was idle executes what it is given only after the hand-over. */
  #execute(lane: WorldLane, plan: BatchPlan, handoverUs: number): void {
    for (const id of plan.ids) this.requests.get(id)!.startUs = this.nowUs;
    lane.executing = plan;
    lane.startUs = this.nowUs;
    lane.executesUs = this.nowUs + handoverUs;
    lane.predictedUs = plan.steps.reduce((sum, step) => sum + step.predictedUs, 0);
    lane.predictedEndUs = this.nowUs + handoverUs + lane.predictedUs;
    const us = this.#options.durationUs?.(plan) ?? lane.predictedUs;
    lane.endUs = this.nowUs + handoverUs + Math.max(1, Math.round(us));
  }

  #checkPlan(plan: BatchPlan): void {
    const lane = this.lanes.get(plan.lane);
    assert.ok(lane !== undefined, `lane ${plan.lane} is gone`);
    const profiles = lane.loaded.get(plan.model);
    assert.ok(profiles !== undefined, `${plan.model} is not loaded on ${plan.lane}`);
    let items = 0;
    for (const id of plan.ids) {
      const request = this.requests.get(id)!;
      assert.equal(request.state, "queued", `request ${id} starts while ${request.state}`);
      assert.equal(request.model, plan.model);
      assert.equal(request.shape, plan.shape, "one shape a batch");
      assert.ok(request.arrivedUs <= this.nowUs);
      items += request.items;
    }
    assert.ok(plan.ids.length > 0 && new Set(plan.ids).size === plan.ids.length, "members, each once");
    assert.equal(plan.items, items);
    assert.ok(items <= plan.bucket, "items fit the bucket");
    const maxBatch = this.specs.get(plan.model)?.maxBatch;
    assert.ok(maxBatch === undefined || items <= maxBatch, "at most the largest batch");
    const profile = profiles[plan.shape] ?? profiles["*"];
    if (profile !== undefined)
      assert.ok(
        profile.some(({ bucket }) => bucket === plan.bucket),
        "a bucket of the profile",
      );
  }

  /** Nothing that was left in the queue stood between the members. */
  #checkOrder(plan: BatchPlan): void {
    const members = plan.ids.map((id) => this.requests.get(id)!);
    const asFill = plan.reason !== "deadline";
    const key = (request: WorldRequest): number => (asFill ? request.id : request.deadlineUs!);
    const first = members[0]!;
    const last = members.at(-1)!;
    for (let i = 1; i < members.length; i++) assert.ok(key(members[i - 1]!) <= key(members[i]!), "members in order");
    for (const other of this.#queued) {
      if (other.model !== plan.model || other.shape !== plan.shape || other.alone || first.alone) continue;
      if (asFill !== (other.bestEffort || this.#onlyFill(other))) continue;
      const overtaken = key(other) < key(last) && (asFill || key(other) > key(first));
      assert.ok(!overtaken, `request ${other.id} was passed over`);
    }
  }

  /** Whether lanes have the model, but all of them are devices that never warmed the shape. */
  #onlyFill({ model, shape }: WorldRequest): boolean {
    let any = false;
    for (const { kind, loaded } of this.lanes.values()) {
      const profiles = loaded.get(model);
      if (profiles === undefined) continue;
      if (kind === "replica" || profiles[shape] !== undefined || profiles["*"] !== undefined) return false;
      any = true;
    }
    return any;
  }

  /** With work queued and a lane free that could run it, or a time at which it ends unserved, a wake-up is armed. */
  #checkNothingForgotten(): void {
    for (const request of this.#queued) {
      const endsUs = request.bestEffort ? request.expiresUs : request.deadlineUs;
      if (endsUs !== null) assert.ok(this.wakeAtUs <= endsUs + 1, `nothing will end request ${request.id}`);
      if (this.wakeAtUs <= this.nowUs + LOOK_AGAIN_US_MAX) continue;
      for (const lane of this.lanes.values()) {
        if (lane.executing !== null || !this.#couldRun(lane, request)) continue;
        assert.fail(`request ${request.id} waits, lane ${lane.name} is free, and no wake-up is armed soon`);
      }
    }
  }

  #couldRun(lane: WorldLane, request: WorldRequest): boolean {
    const profiles = lane.loaded.get(request.model) ?? {};
    const own = profiles[request.shape] ?? profiles["*"];
    // A device leaves a shape that it never warmed to lanes that did.
    const guess = lane.kind === "replica" || request.bestEffort ? Object.values(profiles)[0] : undefined;
    const profile = own ?? guess ?? [];
    const point = profile.find(({ bucket }) => bucket >= request.items);
    if (point === undefined || request.items > (this.specs.get(request.model)?.maxBatch ?? 0)) return false;
    // A lane on which it would be late may leave it to another. What is predicted drifts away from the profile a little.
    return request.bestEffort || request.deadlineUs! > this.nowUs + 1.4 * point.us;
  }

  /** Requests that have not ended. */
  openCount(): number {
    let executing = 0;
    for (const lane of this.lanes.values()) {
      executing += (lane.executing?.ids.length ?? 0) + (lane.following?.ids.length ?? 0);
    }
    return this.#queued.size + executing;
  }
}
