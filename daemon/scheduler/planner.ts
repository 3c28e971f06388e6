import { FillTest } from "./fill.ts";
import type { Group, LanePlan, ModelState } from "./group.ts";
import type { Lane } from "./lane.ts";
import { Lookahead } from "./lookahead.ts";
import { largestWithin } from "./profiles.ts";
import type { Registry } from "./registry.ts";
import type { QueuedRequest } from "./request.ts";
import { ShareAccount } from "./shares.ts";
import { Spill } from "./spill.ts";
import type { Tenant, Tenants } from "./tenants.ts";
import type { SchedulerOptions, StartReason } from "./types.ts";
import { ITEMS_MAX, isOrdinaryWork, View } from "./view.ts";

/** How soon work that does not fit now is looked at again. */
const LOOK_AGAIN_US = 2_000;
/** A share batch takes at most this part of the tightest SLO, where smaller batches can. */
const SHARE_BATCH_PART = 0.5;
/** Shares earn at most one batch and this long; more would let a long wait block others in one piece. */
const SHARE_MEMORY_US = 250_000;
/** Best-effort groups that the fill test is tried for: so many that have waited longest, and as many of the others in turn. */
const FILL_GROUPS_MAX = 4;
/** Requests of one group among which a tenant's are looked for. */
const TENANT_SCAN_MAX = 512;

/** What a free lane should do now. */
export type Choice =
  | {
      readonly type: "start";
      readonly group: Group;
      readonly plan: LanePlan;
      readonly members: readonly QueuedRequest[];
      /** Requests given up for this batch. */
      readonly sacrificed: readonly QueuedRequest[];
      readonly items: number;
      readonly reason: StartReason;
    }
  /** Work waits that should not run now: look again then, or at the next event. */
  | { readonly type: "wait"; readonly lookAgainUs: number };

const NONE: readonly QueuedRequest[] = [];
const NEVER = Number.POSITIVE_INFINITY;

/** Decides what a lane does next. Reads the queues, changes nothing but its own accounts. */
export class Planner {
  readonly fill: FillTest = new FillTest();
  readonly bestEffortShare: ShareAccount = new ShareAccount();
  readonly #registry: Registry;
  readonly #options: SchedulerOptions;
  readonly #tenants: Tenants;
  readonly #view = new View();
  readonly #lookahead = new Lookahead();
  readonly #spill = new Spill();
  readonly #others: Group[] = [];
  #turn = 0;
  readonly #weightOf = (group: Group): number => this.#weight(group);

  constructor(registry: Registry, tenants: Tenants, options: SchedulerOptions) {
    this.#registry = registry;
    this.#tenants = tenants;
    this.#options = options;
  }

  /** What comes next on a lane that is idle, or that executes something still. Null where nothing waits that it could run. */
  choose(lane: Lane, nowUs: number, bestEffortQueued: boolean): Choice | null {
    const registry = this.#registry;
    // There may be hundreds of replicas, which mostly have nothing to do.
    if (lane.kind === "replica") {
      const spillAtUs = this.#spillAtUs(lane);
      if (spillAtUs > nowUs && !this.#hasOwnWork(lane)) return this.#pauseUntil(spillAtUs);
    }
    const atUs = lane.surelyFreeAtUs(nowUs);
    registry.refresh(atUs);
    const view = this.#view;
    view.build(lane, registry, atUs, lane.freeAtUs(nowUs), this.#weightOf);

    // What replicas do is beside the devices, whose time shares are of.
    const guaranteed = lane.kind === "device" ? this.#guaranteed(lane, atUs) : null;
    if (guaranteed !== null) return guaranteed;

    const backlog = bestEffortQueued ? this.#bestEffortGroups(lane) : [];
    for (const group of backlog) {
      const plan = group.plans[lane.slot]!;
      const size = this.fill.size(view, plan, group.bestEffort.items);
      if (size > 0) return this.#startBestEffort(group, plan, size, "fill");
    }
    if (backlog.length > 0) {
      const share = this.#shareOfBestEffort(lane, backlog[0]!, atUs);
      if (share !== null) return share;
    }

    const move = this.#lookahead.choose(view, {
      load: lane.load,
      fair: this.#options.fairness,
      fillWaits: backlog.length > 0,
    });
    if (move !== null && "start" in move) {
      const { group: index, skip, size } = move.start;
      const group = view.groups[index]!;
      return this.#startQueued(lane, group, view.hopeless[index]!, skip, filled(view, index, skip, size));
    }
    if (move !== null) return { type: "wait", lookAgainUs: move.idleUntilUs };
    if (lane.kind === "replica") {
      const spilled = this.#spillOver(lane, atUs);
      if (spilled !== null) return spilled;
    }
    return backlog.length > 0 ? { type: "wait", lookAgainUs: atUs + LOOK_AGAIN_US } : null;
  }

  /** Whether a replica has work that is not only there to help devices. */
  #hasOwnWork(replica: Lane): boolean {
    for (const model of this.#modelsOn(replica)) {
      for (const group of model.groups.values()) {
        if (group.bestEffort.length > 0 || isOrdinaryWork(group, replica)) return true;
      }
    }
    return false;
  }

  /** When a replica is to look next whether devices need its help; never while nothing waits that it could take. */
  #spillAtUs(replica: Lane): number {
    let atUs = NEVER;
    for (const model of this.#modelsOn(replica)) {
      if (model.queuedDeadlines > 0) atUs = Math.min(atUs, model.spillAtUs);
    }
    return atUs;
  }

  *#modelsOn(lane: Lane): Iterable<ModelState> {
    for (const name of lane.loaded.keys()) {
      const model = this.#registry.models.get(name);
      if (model !== undefined) yield model;
    }
  }

  #weight(group: Group): number {
    const { spec, fairness } = group.model;
    return this.#options.fairness ? spec.weight * fairness.weight : spec.weight;
  }

  /** A best-effort batch has been started. */
  spendBestEffort(lane: Lane, us: number): void {
    const { account, share } = this.#bestEffortAccount(lane);
    account.spend(us, share);
  }

  /** On devices one account for all; a replica's time is its own. */
  #bestEffortAccount(lane: Lane): { readonly account: ShareAccount; readonly share: number } {
    const { bestEffortShareMin } = this.#options;
    return lane.kind === "device"
      ? { account: this.bestEffortShare, share: bestEffortShareMin * this.#registry.deviceLaneCount }
      : { account: lane.bestEffortShare, share: bestEffortShareMin };
  }

  /** Groups with best-effort work that the lane can run: the longest-waiting first, then some of the others, which those may keep from being looked at for ever. */
  #bestEffortGroups(lane: Lane): Group[] {
    const groups: Group[] = [];
    const others = this.#others;
    others.length = 0;
    for (const group of this.#registry.active) {
      const plan = group.plans[lane.slot];
      if (plan === undefined || group.bestEffort.length === 0) continue;
      if (group.bestEffort.at(0).items > plan.table.cap) continue;
      const key = group.bestEffort.headKey();
      let at = groups.length;
      for (; at > 0 && groups[at - 1]!.bestEffort.headKey() > key; at--) groups[at] = groups[at - 1]!;
      groups[at] = group;
      if (groups.length > FILL_GROUPS_MAX) others.push(groups.pop()!);
    }
    for (let i = Math.min(others.length, FILL_GROUPS_MAX); i > 0; i--) {
      this.#turn = (this.#turn + 1) % others.length;
      groups.push(others[this.#turn]!);
    }
    return groups;
  }

  #shareOfBestEffort(lane: Lane, group: Group, atUs: number): Choice | null {
    const { account, share } = this.#bestEffortAccount(lane);
    if (share <= 0) return null;
    const plan = group.plans[lane.slot]!;
    const { us, cap, best } = plan.table;
    const limit = Math.min(cap, group.bestEffort.items);
    const size = best[Math.max(1, largestWithin(us, limit, SHARE_BATCH_PART * this.#view.sloMinUs))]!;
    account.earn(share, us[size]! + share * SHARE_MEMORY_US, atUs);
    return account.creditUs >= us[size]! ? this.#startBestEffort(group, plan, size, "share") : null;
  }

  #startBestEffort(group: Group, plan: LanePlan, size: number, reason: StartReason): Choice {
    const limit = Math.max(size, group.bestEffort.at(0).items);
    const members: QueuedRequest[] = [];
    let items = 0;
    for (let i = 0; i < group.bestEffort.length; i++) {
      const request = group.bestEffort.at(i);
      if (items + request.items > limit) break;
      members.push(request);
      items += request.items;
    }
    return { type: "start", group, plan, members, sacrificed: NONE, items, reason };
  }

  /** A batch from the queue: `skip` and `size` count items, and end at whole requests. */
  #startQueued(lane: Lane, group: Group, hopeless: number, skip: number, size: number): Choice {
    const plan = group.plans[lane.slot]!;
    const { queue } = group;
    let at = hopeless;
    let sacrificed = NONE;
    if (skip > 0) {
      const given: QueuedRequest[] = [];
      // A request is given up as a whole; one that is too large for this lane can't be what is started in its place.
      for (let items = 0; items < skip && at < queue.length - 1; at++) {
        if (queue.at(at + 1).items > plan.table.cap) break;
        given.push(queue.at(at));
        items += queue.at(at).items;
      }
      sacrificed = given;
    }
    const members: QueuedRequest[] = [queue.at(at)];
    let items = queue.at(at).items;
    for (at += 1; at < queue.length && items + queue.at(at).items <= size; at++) {
      members.push(queue.at(at));
      items += queue.at(at).items;
    }
    return { type: "start", group, plan, members, sacrificed, items, reason: "deadline" };
  }

  /** Work of models and tenants whose guaranteed share is due. */
  #guaranteed(lane: Lane, atUs: number): Choice | null {
    for (const model of this.#registry.guaranteed) {
      const index = this.#mostUrgent((group) => group.model === model);
      if (index < 0) continue;
      const group = this.#view.groups[index]!;
      const { size, skip } = this.#efficientBatch(index);
      const us = group.plans[lane.slot]!.table.us[size]!;
      const share = model.spec.minShare * Math.max(1, this.#registry.deviceLaneCount);
      model.share.earn(share, us + share * SHARE_MEMORY_US, atUs);
      if (model.share.creditUs >= us) return this.#startQueued(lane, group, this.#view.hopeless[index]!, skip, size);
    }
    for (const tenant of this.#tenants.guaranteed) {
      if (tenant.queued === 0) continue;
      const choice = this.#guaranteedTenant(lane, tenant, atUs);
      if (choice !== null) return choice;
    }
    return null;
  }

  #mostUrgent(matches: (group: Group) => boolean): number {
    for (let g = 0; g < this.#view.count; g++) {
      if (this.#view.items[g]! > 0 && matches(this.#view.groups[g]!)) return g;
    }
    return -1;
  }

  /** Gives up the oldest until the target fits, then takes what the head allows. */
  #efficientBatch(index: number): { size: number; skip: number } {
    const { items, deadlines, safeUs, cap, target, best, nowUs } = this.#view;
    const base = index * ITEMS_MAX;
    const queued = items[index]!;
    const safe = safeUs[index]!;
    let skip = 0;
    while (skip < queued - 1 && deadlines[base + skip]! - nowUs < safe[Math.min(target[index]!, queued - skip)]!)
      skip += 1;
    const most = largestWithin(safe, Math.min(queued - skip, cap[index]!), deadlines[base + skip]! - nowUs);
    return { skip, size: best[index]![Math.max(1, most)]! };
  }

  /** The tenant's own requests of its most urgent group, filled up with others that share the batch for free. */
  #guaranteedTenant(lane: Lane, tenant: Tenant, atUs: number): Choice | null {
    let group: Group | null = null;
    let deadlineUs = Number.POSITIVE_INFINITY;
    for (const candidate of this.#registry.active) {
      if (!isOrdinaryWork(candidate, lane)) continue;
      const request = firstOf(candidate, tenant, this.#view.earliestUs, candidate.plans[lane.slot]!);
      if (request !== null && request.deadlineUs < deadlineUs) {
        group = candidate;
        deadlineUs = request.deadlineUs;
      }
    }
    if (group === null) return null;
    const plan = group.plans[lane.slot]!;
    const { table } = plan;
    const most = Math.max(1, largestWithin(table.safeUs, table.cap, deadlineUs - atUs));
    const own: QueuedRequest[] = [];
    const others: QueuedRequest[] = [];
    for (let i = 0; i < Math.min(group.queue.length, TENANT_SCAN_MAX); i++) {
      const request = group.queue.at(i);
      if (request.deadlineUs >= deadlineUs) (request.tenant === tenant ? own : others).push(request);
    }
    const members: QueuedRequest[] = [];
    let items = 0;
    for (const request of [...own, ...others]) {
      if (items > 0 && items + request.items > most) continue;
      members.push(request);
      items += request.items;
    }
    const share = tenant.minShare * Math.max(1, this.#registry.deviceLaneCount);
    tenant.share.earn(share, table.us[items]! + share * SHARE_MEMORY_US, atUs);
    if (tenant.share.creditUs < table.us[items]!) return null;
    return { type: "start", group, plan, members, sacrificed: NONE, items, reason: "deadline" };
  }

  #pauseUntil(atUs: number): Choice | null {
    return atUs === NEVER ? null : { type: "wait", lookAgainUs: atUs };
  }

  /** What a replica takes over from devices that will not get to it in time. */
  #spillOver(lane: Lane, atUs: number): Choice | null {
    const spillAtUs = this.#spillAtUs(lane);
    if (atUs < spillAtUs) return this.#pauseUntil(spillAtUs);
    const found = this.#spill.find(lane, this.#registry, atUs, this.#weightOf);
    if (found === null) return null;
    if ("lookAgainUs" in found) {
      for (const model of this.#modelsOn(lane)) model.spillAtUs = found.lookAgainUs;
      return { type: "wait", lookAgainUs: found.lookAgainUs };
    }
    return { type: "start", sacrificed: NONE, reason: "deadline", ...found };
  }
}

/** Where the view has not all of the queue, the rest of it fills what the batch is padded to. */
function filled({ items, bucket, cap }: View, index: number, skip: number, size: number): number {
  return items[index] === ITEMS_MAX && skip + size >= ITEMS_MAX ? Math.min(bucket[index]![size]!, cap[index]!) : size;
}

function firstOf(group: Group, tenant: Tenant, atUs: number, plan: LanePlan): QueuedRequest | null {
  for (let i = 0; i < Math.min(group.queue.length, TENANT_SCAN_MAX); i++) {
    const request = group.queue.at(i);
    if (request.tenant !== tenant || request.items > plan.table.cap) continue;
    if (request.deadlineUs >= atUs + plan.table.us[request.items]!) return request;
  }
  return null;
}
