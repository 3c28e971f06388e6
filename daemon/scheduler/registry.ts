import { Group, ModelState, REFRESH_US } from "./group.ts";
import { Lane } from "./lane.ts";
import type { LaneKind, ModelSpec, ShapeProfiles } from "./types.ts";
import { UrgencyHeap } from "./urgency.ts";
import { isOrdinaryWork } from "./view.ts";

/** A group that is empty matters if at least this many items arrive within its SLO. */
const EXPECTED_MIN = 0.02;
/** Empty groups that decisions consider. */
const EXPECTING_MAX = 128;

/** Which models and lanes exist, what is loaded where, and which groups have work or expect some. */
export class Registry {
  readonly models: Map<string, ModelState> = new Map();
  /** Device lanes first, each kind in the order in which they came up. */
  readonly lanes: Lane[] = [];
  /** Groups that have work queued or expect some; the others need no look. */
  readonly active: Group[] = [];
  /** Groups with queued deadlines, by when the first one becomes hopeless. */
  readonly urgency: UrgencyHeap = new UrgencyHeap();
  /** Groups in which work with deadlines is likely to arrive soon, the tightest SLO first; the first few. */
  readonly expecting: Group[] = [];
  /** Models with a guaranteed share. */
  readonly guaranteed: ModelState[] = [];
  deviceLaneCount = 0;
  readonly #lanesByName: Map<string, Lane> = new Map();
  #refreshedUs: number = Number.NEGATIVE_INFINITY;

  lane(name: string): Lane | undefined {
    return this.#lanesByName.get(name);
  }

  addLane(name: string, kind: LaneKind): void {
    let slot = 0;
    while (this.lanes.some((lane) => lane.slot === slot)) slot += 1;
    const lane = new Lane(name, kind, slot);
    this.#lanesByName.set(name, lane);
    if (kind === "device") this.lanes.splice(this.deviceLaneCount++, 0, lane);
    else this.lanes.push(lane);
  }

  removeLane(lane: Lane): void {
    for (const model of lane.loaded.keys()) this.#unplace(lane, model);
    this.#lanesByName.delete(lane.name);
    this.lanes.splice(this.lanes.indexOf(lane), 1);
    if (lane.kind === "device") this.deviceLaneCount -= 1;
  }

  addModel(spec: ModelSpec): void {
    const existing = this.models.get(spec.model);
    if (existing === undefined) {
      this.models.set(spec.model, new ModelState(spec));
    } else {
      const { maxBatch } = existing.spec;
      existing.spec = spec;
      if (maxBatch !== spec.maxBatch) this.#placeAll(existing);
    }
    this.#listGuaranteed();
  }

  removeModel(model: ModelState): void {
    this.models.delete(model.spec.model);
    for (const group of model.groups.values()) this.#deactivate(group);
    this.#listGuaranteed();
  }

  load(lane: Lane, model: string, profiles: ShapeProfiles): void {
    lane.loaded.set(model, profiles);
    for (const group of this.models.get(model)?.groups.values() ?? []) group.place(lane, profiles);
  }

  unload(lane: Lane, model: string): void {
    lane.loaded.delete(model);
    this.#unplace(lane, model);
  }

  #unplace(lane: Lane, model: string): void {
    for (const group of this.models.get(model)?.groups.values() ?? []) group.unplace(lane);
  }

  /** The group of a model's requests of one shape, or of one request that is to run alone; made when first asked for. */
  group(model: ModelState, shape: string, aloneId: number | null = null): Group {
    const key = aloneId === null ? shape : `${shape}\0${aloneId}`;
    let group = model.groups.get(key);
    if (group === undefined) {
      group = new Group(model, shape, key);
      model.groups.set(key, group);
      for (const lane of this.lanes) {
        const profiles = lane.loaded.get(model.spec.model);
        if (profiles !== undefined) group.place(lane, profiles);
      }
    }
    return group;
  }

  activate(group: Group): void {
    if (group.activeIndex >= 0) return;
    group.activeIndex = this.active.length;
    this.active.push(group);
  }

  /** Reads rates anew where that is due, and with them what each lane has to carry. */
  refresh(nowUs: number): void {
    if (nowUs - this.#refreshedUs < REFRESH_US) return;
    this.#refreshedUs = nowUs;
    let missRates = 0;
    for (let i = this.active.length - 1; i >= 0; i--) {
      const group = this.active[i]!;
      group.refresh(nowUs);
      missRates += group.model.fairness.missRate;
      if (group.isIdle()) this.#retire(group);
    }
    for (const group of this.active) group.model.fairness.refresh(missRates / this.active.length, nowUs);
    this.#listExpecting();
    for (const lane of this.lanes) lane.load = this.#loadOf(lane);
  }

  /** Device time that arrivals need in each unit of time, where lanes share what they share evenly. */
  #loadOf(lane: Lane): number {
    let load = 0;
    for (const group of this.active) {
      if (!isOrdinaryWork(group, lane)) continue;
      load += (group.rate * group.plans[lane.slot]!.perItemUs) / Math.max(1, group.deviceLanes);
    }
    return load;
  }

  #listExpecting(): void {
    this.expecting.length = 0;
    for (const group of this.active) if (group.rate * group.sloUs > EXPECTED_MIN) this.expecting.push(group);
    this.expecting.sort((a, b) => a.sloUs - b.sloUs);
    if (this.expecting.length > EXPECTING_MAX) this.expecting.length = EXPECTING_MAX;
  }

  #retire(group: Group): void {
    this.#deactivate(group);
    // Shapes that callers made up are forgotten with what was learnt of them; those with profiles of their own stay.
    const known = this.lanes.some((lane) => lane.loaded.get(group.model.spec.model)?.[group.key] !== undefined);
    if (!known) group.model.groups.delete(group.key);
  }

  #deactivate(group: Group): void {
    if (group.activeIndex < 0) return;
    const last = this.active.pop()!;
    if (last !== group) {
      this.active[group.activeIndex] = last;
      last.activeIndex = group.activeIndex;
    }
    group.activeIndex = -1;
  }

  #placeAll(model: ModelState): void {
    for (const lane of this.lanes) {
      const profiles = lane.loaded.get(model.spec.model);
      if (profiles === undefined) continue;
      for (const group of model.groups.values()) group.place(lane, profiles);
    }
  }

  #listGuaranteed(): void {
    this.guaranteed.length = 0;
    for (const model of this.models.values()) if (model.spec.minShare > 0) this.guaranteed.push(model);
  }
}
