import { Group, ModelState } from "./group.ts";
import { Lane } from "./lane.ts";
import { Survey } from "./survey.ts";
import type { LaneKind, ModelSpec, ShapeProfiles } from "./types.ts";
import { UrgencyHeap } from "./urgency.ts";

/** Which models and lanes exist, what is loaded where, and which groups have work or expect some. */
export class Registry {
  readonly models: Map<string, ModelState> = new Map();
  /** Device lanes first, each kind in the order in which they came up. */
  readonly lanes: Lane[] = [];
  /** Groups that have work queued or expect some; the others need no look. */
  readonly active: Group[] = [];
  /** Groups with queued deadlines, by when the first one becomes hopeless. */
  readonly urgency: UrgencyHeap = new UrgencyHeap();
  readonly survey: Survey = new Survey();
  /** Models with a guaranteed share. */
  readonly guaranteed: ModelState[] = [];
  deviceLaneCount = 0;
  readonly #lanesByName: Map<string, Lane> = new Map();
  readonly #retireIdle = (group: Group): void => this.#retire(group);

  lane(name: string): Lane | undefined {
    return this.#lanesByName.get(name);
  }

  addLane(name: string, kind: LaneKind, handoverMaxUs: number): void {
    let slot = 0;
    while (this.lanes.some((lane) => lane.slot === slot)) slot += 1;
    const lane = new Lane(name, kind, slot, handoverMaxUs);
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
    for (const group of model.groups.values()) {
      this.#deactivate(group);
      this.survey.forget(group);
    }
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
    this.survey.refresh(this.active, this.lanes, nowUs, this.#retireIdle);
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
