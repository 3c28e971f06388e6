import type { Group } from "./group.ts";
import type { Lane } from "./lane.ts";
import type { Registry } from "./registry.ts";

/** Groups that one decision looks at. */
export const GROUPS_MAX = 48;
/** Groups with work among them, the most urgent; what is left is for groups that expect some, which must not crowd out work. */
const WITH_WORK_MAX = 32;
/** Items of one group's queue that one decision looks at. */
export const ITEMS_MAX = 512;
/** Lanes that roll-outs simulate side by side. */
export const LANES_MAX = 8;

/** What an answer may take to be written and read, and the part of an SLO that this is at most. */
const WAY_US = 1_000;
const WAY_PART_MAX = 0.05;

/**
 * How long before its deadline work is to be ready that waits for the sake of other work: an answer that is ready at its deadline is late for its
 * caller. Work that nothing goes ahead of may take all of its time.
 */
export function wayUs(sloUs: number): number {
  return Math.min(WAY_US, WAY_PART_MAX * sloUs);
}

const EMPTY = new Float64Array(1);
const EMPTY_INDEX = new Int32Array(1);

/**
 * What a decision for one lane at one time looks at, copied into flat arrays that are used again each time: groups
 * that the lane can run, their queued items (a request of n items is n entries), what is expected to arrive, and
 * when the lanes that share these groups are free. Lane 0 is the one that decides.
 */
export class View {
  /** The time for which the decision is planned. */
  nowUs = 0;
  /** The earliest time that it may turn out to be. */
  earliestUs = 0;
  count = 0;
  laneCount = 0;
  readonly groups: Group[] = [];
  readonly laneFreeUs: Float64Array = new Float64Array(LANES_MAX);
  /** Requests at the head that can't finish in time on this lane even from `earliestUs`, and are not looked at. */
  readonly hopeless: Int32Array = new Int32Array(GROUPS_MAX);
  /** Items in the copy. */
  readonly items: Int32Array = new Int32Array(GROUPS_MAX);
  readonly deadlines: Float64Array = new Float64Array(GROUPS_MAX * ITEMS_MAX);
  /** What losing each item costs: the request's weight over its items, times the model's. */
  readonly costs: Float64Array = new Float64Array(GROUPS_MAX * ITEMS_MAX);
  /** The same for an item that is yet to arrive. */
  readonly costAhead: Float64Array = new Float64Array(GROUPS_MAX);
  readonly rate: Float64Array = new Float64Array(GROUPS_MAX);
  readonly gapUs: Float64Array = new Float64Array(GROUPS_MAX);
  readonly awaitedRate: Float64Array = new Float64Array(GROUPS_MAX);
  readonly sloUs: Float64Array = new Float64Array(GROUPS_MAX);
  readonly hurryUs: Float64Array = new Float64Array(GROUPS_MAX);
  readonly target: Int32Array = new Int32Array(GROUPS_MAX);
  readonly perItemUs: Float64Array = new Float64Array(GROUPS_MAX);
  readonly overheadUs: Float64Array = new Float64Array(GROUPS_MAX);
  /** By lane · GROUPS_MAX + group; a cap of 0 where the lane cannot run the group. */
  readonly cap: Int32Array = new Int32Array(LANES_MAX * GROUPS_MAX);
  readonly us: Float64Array[] = new Array(LANES_MAX * GROUPS_MAX).fill(EMPTY);
  readonly safeUs: Float64Array[] = new Array(LANES_MAX * GROUPS_MAX).fill(EMPTY);
  readonly best: Int32Array[] = new Array(LANES_MAX * GROUPS_MAX).fill(EMPTY_INDEX);
  readonly bucket: Int32Array[] = new Array(LANES_MAX * GROUPS_MAX).fill(EMPTY_INDEX);
  /** Smallest SLO of the groups, and the mean device time of an item. */
  sloMinUs = 0;
  perItemMeanUs = 0;
  readonly #urgency: Float64Array = new Float64Array(GROUPS_MAX);
  readonly #found: Group[] = [];

  /** `weightOf` is what losing a request of the group's model costs. */
  build(lane: Lane, registry: Registry, nowUs: number, earliestUs: number, weightOf: (g: Group) => number): void {
    this.nowUs = nowUs;
    this.earliestUs = earliestUs;
    this.#select(lane, registry);
    this.laneFreeUs[0] = nowUs;
    this.laneCount = 1;
    this.#copyLane(lane, 0);
    // Of hundreds of replicas none has a part in it where devices have all of the groups.
    const peers = this.#isOnReplicasAlone() ? registry.lanes.length : registry.deviceLaneCount;
    for (let i = 0; i < peers && this.laneCount < LANES_MAX; i++) {
      const peer = registry.lanes[i]!;
      if (peer === lane || !this.#shares(peer)) continue;
      this.laneFreeUs[this.laneCount] = peer.freeAtUs(nowUs);
      this.#copyLane(peer, this.laneCount);
      this.laneCount += 1;
    }
    this.sloMinUs = Number.POSITIVE_INFINITY;
    let perItemSum = 0;
    for (let g = 0; g < this.count; g++) {
      const group = this.groups[g]!;
      const plan = group.plans[lane.slot]!;
      const weight = weightOf(group);
      this.rate[g] = group.rate;
      this.awaitedRate[g] = group.awaitedRate;
      this.gapUs[g] = group.rate > 0 ? 1 / group.rate : Number.POSITIVE_INFINITY;
      this.sloUs[g] = group.sloUs;
      this.hurryUs[g] = group.hurryUs;
      this.target[g] = plan.target;
      this.perItemUs[g] = plan.perItemUs;
      this.overheadUs[g] = plan.overheadUs;
      this.costAhead[g] = (weight * group.weightMean) / group.itemsMean;
      this.sloMinUs = Math.min(this.sloMinUs, group.sloUs);
      perItemSum += plan.perItemUs;
      this.#copyQueue(g, plan.table.us, weight);
    }
    this.perItemMeanUs = this.count > 0 ? perItemSum / this.count : 1;
  }

  /** The most urgent groups with work, and those with the tightest SLOs that expect some; in order of deadlines. */
  #select(lane: Lane, registry: Registry): void {
    this.count = 0;
    const found = this.#found;
    found.length = 0;
    registry.urgency.listMostUrgent(WITH_WORK_MAX, (group) => isOrdinaryWork(group, lane), found);
    for (const group of found) this.#insert(group, group.queue.headKey(), WITH_WORK_MAX);
    for (const group of registry.survey.expecting) {
      if (this.count === GROUPS_MAX) break;
      if (group.queue.length > 0 || !isOrdinaryWork(group, lane)) continue;
      this.#insert(group, this.nowUs + group.sloUs, GROUPS_MAX);
    }
  }

  /** Puts a group in its place; the last one gives way where there are `most` already. */
  #insert(group: Group, key: number, most: number): void {
    const urgency = this.#urgency;
    if (this.count === most && key >= urgency[most - 1]!) return;
    let at = this.count === most ? most - 1 : this.count++;
    for (; at > 0 && urgency[at - 1]! > key; at--) {
      urgency[at] = urgency[at - 1]!;
      this.groups[at] = this.groups[at - 1]!;
    }
    urgency[at] = key;
    this.groups[at] = group;
  }

  #isOnReplicasAlone(): boolean {
    for (let g = 0; g < this.count; g++) if (this.groups[g]!.deviceLanes === 0) return true;
    return false;
  }

  #shares(lane: Lane): boolean {
    for (let g = 0; g < this.count; g++) {
      if (isOrdinaryWork(this.groups[g]!, lane)) return true;
    }
    return false;
  }

  #copyLane(lane: Lane, index: number): void {
    for (let g = 0; g < this.count; g++) {
      const plan = this.groups[g]!.plans[lane.slot];
      const at = index * GROUPS_MAX + g;
      if (plan === undefined || !isOrdinaryWork(this.groups[g]!, lane)) {
        this.cap[at] = 0;
        continue;
      }
      this.cap[at] = plan.table.cap;
      this.us[at] = plan.table.us;
      this.safeUs[at] = plan.table.safeUs;
      this.best[at] = plan.table.best;
      this.bucket[at] = plan.table.bucket;
    }
  }

  #copyQueue(g: number, us: Float64Array, weight: number): void {
    const { queue } = this.groups[g]!;
    const base = g * ITEMS_MAX;
    let skip = 0;
    while (skip < queue.length && queue.keyAt(skip) < this.earliestUs + aloneUs(queue.at(skip).items, us)) skip += 1;
    this.hopeless[g] = skip;
    let items = 0;
    if (queue.unusual === 0) {
      items = Math.min(queue.length - skip, ITEMS_MAX);
      queue.copyKeys(skip, items, this.deadlines, base);
      this.costs.fill(weight, base, base + items);
    } else {
      for (let i = skip; i < queue.length && items < ITEMS_MAX; i++) {
        const request = queue.at(i);
        // Too large for any batch of this lane: it, and who comes after it, wait for another.
        if (request.items >= us.length) break;
        const cost = (weight * request.weight) / request.items;
        for (let k = 0; k < request.items && items < ITEMS_MAX; k++, items++) {
          this.deadlines[base + items] = request.deadlineUs;
          this.costs[base + items] = cost;
        }
      }
    }
    this.items[g] = items;
  }
}

/** A request larger than any batch of this lane never finishes there. */
function aloneUs(items: number, us: Float64Array): number {
  return items < us.length ? us[items]! : Number.POSITIVE_INFINITY;
}

/**
 * Whether a lane serves a group as a matter of course: a device what is warm on it, a replica what no device has. (What
 * a device has too is only spilled over to replicas.)
 */
export function isOrdinaryWork(group: Group, lane: Lane): boolean {
  const plan = group.plans[lane.slot];
  return plan !== undefined && !plan.fillOnly && (lane.kind === "device" || group.deviceLanes === 0);
}
