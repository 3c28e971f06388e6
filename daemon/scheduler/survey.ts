import { type Group, REFRESH_US } from "./group.ts";
import type { Lane } from "./lane.ts";
import { isOrdinaryWork } from "./view.ts";

/** Groups that one call looks at; with more, a round takes several calls. */
const GROUPS_A_CALL = 64;
/** A group that is empty matters if at least this many items arrive within its SLO. */
const EXPECTED_MIN = 0.02;
/** Empty groups that decisions consider. */
const EXPECTING_MAX = 64;

/**
 * What is known of all active groups together: the load of each lane, the mean miss rate, and which groups expect work.
 * Read anew in rounds, a bounded number of groups at a time.
 */
export class Survey {
  /** Groups in which work with deadlines is likely to arrive soon, the tightest SLO first; the first few. */
  expecting: Group[] = [];
  #found: Group[] = [];
  #cursor = -1;
  #counted = 0;
  #missRates = 0;
  #missRateMean = 0;
  #dueUs: number = Number.NEGATIVE_INFINITY;

  /** Goes on with the round where that is due. `retire` takes an idle group out of `active`. */
  refresh(active: readonly Group[], lanes: readonly Lane[], nowUs: number, retire: (group: Group) => void): void {
    if (nowUs < this.#dueUs) return;
    this.#dueUs = nowUs + REFRESH_US;
    if (this.#cursor < 0) this.#begin(active, lanes);
    // Downwards, since a group that retires is replaced by the last one, which has been seen.
    for (let left = GROUPS_A_CALL; left > 0 && this.#cursor >= 0; left--, this.#cursor--) {
      const group = active[this.#cursor];
      if (group === undefined) continue;
      this.#look(group, lanes, nowUs);
      if (group.isIdle()) retire(group);
    }
    if (this.#cursor < 0) this.#publish(lanes);
  }

  /** The group's model is gone. */
  forget(group: Group): void {
    this.expecting = this.expecting.filter((other) => other !== group);
    this.#found = this.#found.filter((other) => other !== group);
  }

  #begin(active: readonly Group[], lanes: readonly Lane[]): void {
    this.#cursor = active.length - 1;
    this.#counted = 0;
    this.#missRates = 0;
    for (const lane of lanes) lane.loadCounted = 0;
  }

  #look(group: Group, lanes: readonly Lane[], nowUs: number): void {
    group.refresh(nowUs);
    const { fairness } = group.model;
    fairness.refresh(this.#missRateMean, nowUs);
    this.#missRates += fairness.missRate;
    this.#counted += 1;
    for (const lane of lanes) {
      if (!isOrdinaryWork(group, lane)) continue;
      // Lanes that share a group share its work evenly.
      const lanesOfGroup = group.deviceLanes > 0 ? group.deviceLanes : group.replicaLanes;
      lane.loadCounted += (group.rate * group.plans[lane.slot]!.perItemUs) / lanesOfGroup;
    }
    if (group.rate * group.sloUs > EXPECTED_MIN) this.#list(group);
  }

  #list(group: Group): void {
    const found = this.#found;
    if (found.length === EXPECTING_MAX && found[EXPECTING_MAX - 1]!.sloUs <= group.sloUs) return;
    let at = found.length < EXPECTING_MAX ? found.length : EXPECTING_MAX - 1;
    for (; at > 0 && found[at - 1]!.sloUs > group.sloUs; at--) found[at] = found[at - 1]!;
    found[at] = group;
  }

  #publish(lanes: readonly Lane[]): void {
    this.expecting = this.#found;
    this.#found = [];
    this.#missRateMean = this.#missRates / Math.max(1, this.#counted);
    for (const lane of lanes) lane.load = lane.loadCounted;
  }
}
