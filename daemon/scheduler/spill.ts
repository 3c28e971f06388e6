import type { Group, LanePlan } from "./group.ts";
import type { Lane } from "./lane.ts";
import { largestWithin } from "./profiles.ts";
import type { Registry } from "./registry.ts";
import type { QueuedRequest } from "./request.ts";
import { Rollout } from "./rollout.ts";
import { isOrdinaryWork, View } from "./view.ts";

/** How often an idle replica looks whether the devices need help. */
const INTERVAL_US = 1_000;
const STEPS_MAX = 40;

export interface Spilled {
  readonly group: Group;
  readonly plan: LanePlan;
  readonly members: readonly QueuedRequest[];
  readonly items: number;
}

/** Finds requests that devices, rolled out, would lose, and that a slower replica can still answer in time. */
export class Spill {
  readonly #view = new View();
  readonly #rollout = new Rollout();
  /** What the roll-out is of. Replicas look one after the other, and it is the same for all until one of them takes something. */
  #rolledOut: { readonly device: Lane; readonly atUs: number } | null = null;

  /** Null where nothing that this replica could take waits for a device. */
  find(
    replica: Lane,
    registry: Registry,
    nowUs: number,
    weightOf: (group: Group) => number,
  ): Spilled | { readonly lookAgainUs: number } | null {
    let waits = false;
    for (const lane of registry.lanes) {
      if (lane.kind !== "device" || !spillable(lane, replica, registry)) continue;
      waits = true;
      this.#rollOut(lane, registry, nowUs, weightOf);
      const spilled = this.#mostUrgent(replica, nowUs);
      if (spilled === null) continue;
      this.#rolledOut = null;
      return spilled;
    }
    return waits ? { lookAgainUs: nowUs + INTERVAL_US } : null;
  }

  #rollOut(device: Lane, registry: Registry, nowUs: number, weightOf: (group: Group) => number): void {
    if (this.#rolledOut?.device === device && this.#rolledOut.atUs === nowUs) return;
    this.#rolledOut = { device, atUs: nowUs };
    const startUs = expectedFreeUs(device, nowUs);
    this.#view.build(device, registry, startUs, startUs, weightOf);
    const first = { group: -1, skip: 0, size: 0, idleUntilUs: startUs };
    const endUs = startUs + 4 * this.#view.sloMinUs;
    this.#rollout.run(this.#view, first, endUs, "deadline", STEPS_MAX, Number.POSITIVE_INFINITY, -1);
  }

  #mostUrgent(replica: Lane, nowUs: number): Spilled | null {
    for (let g = 0; g < this.#view.count; g++) {
      const group = this.#view.groups[g]!;
      const plan = group.plans[replica.slot];
      const lost = this.#view.hopeless[g]! + this.#rollout.dropped[g]!;
      if (plan === undefined || lost === 0) continue;
      const spilled = batchFor(group, plan, lost, nowUs);
      if (spilled !== null) return spilled;
    }
    return null;
  }
}

/** When a device can take the next batch: one that runs longer than predicted is taken to need as long again. */
function expectedFreeUs(lane: Lane, nowUs: number): number {
  const overrunUs = lane.running === null ? 0 : Math.max(0, nowUs - lane.running.predictedEndUs);
  return lane.freeAtUs(nowUs) + overrunUs;
}

function spillable(device: Lane, replica: Lane, registry: Registry): boolean {
  for (const group of registry.active) {
    if (group.queue.length > 0 && group.plans[replica.slot] !== undefined && isOrdinaryWork(group, device)) return true;
  }
  return false;
}

/** The first requests in the queue that a replica answers in time, at most `lost` items. */
function batchFor(group: Group, plan: LanePlan, lost: number, nowUs: number): Spilled | null {
  const { queue } = group;
  const { safeUs, cap } = plan.table;
  let at = 0;
  while (at < queue.length && queue.at(at).items <= cap && queue.keyAt(at) < nowUs + safeUs[queue.at(at).items]!)
    at += 1;
  if (at === queue.length || queue.at(at).items > cap) return null;
  const size = plan.table.best[Math.max(1, largestWithin(safeUs, Math.min(cap, lost), queue.keyAt(at) - nowUs))]!;
  const members = [queue.at(at)];
  let items = members[0]!.items;
  for (at += 1; at < queue.length && items + queue.at(at).items <= size; at++) {
    members.push(queue.at(at));
    items += queue.at(at).items;
  }
  return { group, plan, members, items };
}
