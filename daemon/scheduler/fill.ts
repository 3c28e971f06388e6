import type { LanePlan } from "./group.ts";
import { GROUPS_MAX, ITEMS_MAX, type View, wayUs } from "./view.ts";

/** Batch sizes that are tried, as parts of the largest. */
const SIZE_PARTS = [1, 0.75, 0.5, 0.375, 0.25] as const;
/** Room that is left over, as a part of the tightest SLO. */
const MARGIN_PART = 0.08;
const GUARD_MAX = 1.2;
const GUARD_PER_LOSS = 0.1;
const GUARD_PER_ARRIVAL = 0.00007;
/** Expected items within the SLO from which on an empty group claims room. */
const EXPECTED_MIN = 0.02;

/**
 * Whether best-effort work fits into slack that no deadline needs: it runs if every group's work, those expected to
 * arrive meanwhile included, could still be served behind it. A guard makes the test stricter while requests are given up or answered late.
 */
export class FillTest {
  #guard = 0;
  /** Parts of groups, the first due first: group `g` as a whole or what it expects, and as `GROUPS_MAX + g` what it has queued beside that. */
  readonly #order: Int32Array = new Int32Array(2 * GROUPS_MAX);
  readonly #due: Float64Array = new Float64Array(2 * GROUPS_MAX);
  #parts = 0;

  countArrival(): void {
    this.#guard = Math.max(0, this.#guard - GUARD_PER_ARRIVAL);
  }

  countLoss(): void {
    this.#guard = Math.min(GUARD_MAX, this.#guard + GUARD_PER_LOSS);
  }

  /** Items of a backlog of `items` to run now in the slack that `view` leaves; 0 for none. */
  size(view: View, plan: LanePlan, items: number): number {
    const { table } = plan;
    const limit = Math.min(items, table.cap);
    this.#sortByDue(view);
    let tried = 0;
    for (const part of SIZE_PARTS) {
      const size = table.best[Math.max(1, Math.floor(part * limit))]!;
      if (size === tried) continue;
      tried = size;
      if (this.#fits(view, table.safeUs[size]!)) return size;
    }
    // Where even a quarter of a batch takes most of the tightest SLO, small batches are all that ever fits.
    if (tried > 1 && table.us[tried]! > 0.5 * view.sloMinUs) {
      for (let size = tried >> 1; size >= 1; size >>= 1) {
        const take = table.best[size]!;
        if (this.#fits(view, table.safeUs[take]!)) return take;
      }
    }
    return 0;
  }

  #sortByDue(view: View): void {
    this.#parts = 0;
    for (let g = 0; g < view.count; g++) {
      const headUs = view.items[g]! > 0 ? view.deadlines[g * ITEMS_MAX]! : Number.POSITIVE_INFINITY;
      const isExpecting = view.awaitedRate[g]! * view.hurryUs[g]! > EXPECTED_MIN;
      const expectedUs = isExpecting ? view.nowUs + view.hurryUs[g]! : Number.POSITIVE_INFINITY;
      this.#insert(g, Math.min(headUs, expectedUs));
      // Where all that is queued has more time than what usually comes: that has to be served before it.
      if (expectedUs < headUs && headUs < Number.POSITIVE_INFINITY) this.#insert(GROUPS_MAX + g, headUs);
    }
  }

  #insert(part: number, due: number): void {
    this.#due[part] = due;
    let at = this.#parts++;
    for (; at > 0 && this.#due[this.#order[at - 1]!]! > due; at--) this.#order[at] = this.#order[at - 1]!;
    this.#order[at] = part;
  }

  #fits(view: View, fillUs: number): boolean {
    const guard = this.#guard;
    const needUs = fillUs * (1 + 0.3 * guard) + MARGIN_PART * view.sloMinUs;
    let workUs = 0;
    for (let at = 0; at < this.#parts; at++) {
      const part = this.#order[at]!;
      const g = part % GROUPS_MAX;
      const dueUs = this.#due[part]! - view.nowUs;
      if (dueUs === Number.POSITIVE_INFINITY) return true;
      workUs += this.#workUs(view, part, fillUs);
      const roomUs = dueUs - wayUs(view.hurryUs[g]!) - workUs;
      if (roomUs < needUs) return false;
      if (roomUs - (1 + 0.3 * guard) * this.#arrivingUs(view, dueUs) < needUs) return false;
    }
    return true;
  }

  /** Time to serve what a part has queued, and what arrives for it during the fill and as long again. */
  #workUs(view: View, part: number, fillUs: number): number {
    const g = part % GROUPS_MAX;
    const isLater = part >= GROUPS_MAX;
    const expected = isLater ? 0 : 2 * view.rate[g]! * fillUs;
    const queued = isLater || this.#due[g]! === view.deadlines[g * ITEMS_MAX]! ? view.items[g]! : 0;
    const us = view.us[g]!;
    const cap = view.cap[g]!;
    const items = queued > 0 ? Math.ceil(queued + expected) : Math.max(1, Math.ceil(expected));
    const full = Math.floor(items / cap);
    const workUs = full * us[cap]! + us[items - full * cap]!;
    return queued > 0 ? workUs : workUs * (1 - Math.exp(-2.5 * expected));
  }

  /** Time to serve arrivals that must be served before `dueUs` from now although they are yet to come. */
  #arrivingUs(view: View, dueUs: number): number {
    let sumUs = 0;
    for (let g = 0; g < view.count; g++) {
      const y = dueUs - view.hurryUs[g]!;
      if (y <= 0) continue;
      const overheadUs = view.overheadUs[g]!;
      const items = view.rate[g]! * y;
      const batches = Math.min(items, y / (0.5 * view.hurryUs[g]!));
      sumUs += (view.us[g]![1]! - overheadUs) * items + overheadUs * batches;
    }
    return sumUs;
  }
}
