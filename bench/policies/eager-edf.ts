import { BatchPolicy, type Choice, type Group, type PolicyLane } from "./batch-policy.ts";

/**
 * Earliest deadline first over all models, work-conserving: a free lane at once runs the model whose head is most
 * urgent, with the largest batch that still meets the head's deadline. What can no longer finish is dropped (the expiry
 * that makes EDF usable in overload). Best-effort work runs whenever nothing with a deadline is queued.
 */
export class EagerEdf extends BatchPolicy {
  protected override choose(lane: PolicyLane, nowUs: number): Choice | null {
    let first: Group | null = null;
    let oldestFill: Group | null = null;
    for (const group of this.groups.values()) {
      const profile = this.profileOn(lane, group);
      if (profile === null) continue;
      this.dropHopeless(group, profile, nowUs);
      const head = group.urgent[0];
      if (head !== undefined && (first === null || head.deadlineUs! < first.urgent[0]!.deadlineUs!)) first = group;
      const fill = group.fill[0];
      if (fill !== undefined && (oldestFill === null || fill.id < oldestFill.fill[0]!.id)) oldestFill = group;
    }
    if (first !== null) {
      const profile = this.profileOn(lane, first)!;
      const count = this.prefixByDeadline(first, profile, this.batchMax(first, profile), nowUs);
      return { group: first, from: "urgent", count };
    }
    if (oldestFill === null) return null;
    const max = this.batchMax(oldestFill, this.profileOn(lane, oldestFill)!);
    return { group: oldestFill, from: "fill", count: this.prefix(oldestFill.fill, max) };
  }
}
