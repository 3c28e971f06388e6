import type { FillTest } from "./fill.ts";
import type { Group, ModelState } from "./group.ts";
import type { Queues } from "./queues.ts";
import type { Registry } from "./registry.ts";
import type { QueuedRequest } from "./request.ts";
import type { RequestMeta, SchedulerEffect, ShedCause, ShedDetail } from "./types.ts";

const NEVER = Number.POSITIVE_INFINITY;
/** Requests at the end of a best-effort queue among which one without a deadline is looked for. */
const LAST_SCAN_MAX = 64;

/** Decides who cannot be served: refuses on arrival, sheds or demotes what has become hopeless, and says why. */
export class Triage {
  /** Where sheds and demotions are reported; set anew for each step. */
  effects: SchedulerEffect[] = [];
  readonly #registry: Registry;
  readonly #queues: Queues;
  readonly #fill: FillTest;
  readonly #listed: Group[] = [];

  constructor(registry: Registry, queues: Queues, fill: FillTest) {
    this.#registry = registry;
    this.#queues = queues;
    this.#fill = fill;
  }

  /** Why a request cannot even be queued; null where it can. */
  refusal(
    meta: RequestMeta,
    group: Group,
    nowUs: number,
  ): { readonly cause: ShedCause; readonly detail: ShedDetail } | null {
    const { model } = group;
    const { spec } = model;
    const endsUs = meta.deadlineUs === null || !(meta.explicit || spec.shedImplicit) ? meta.expiresUs : meta.deadlineUs;
    if (endsUs !== null && endsUs <= nowUs) return { cause: "expired", detail: {} };
    if (meta.again === true) return null;
    const full = this.#fullAfterMakingRoom(meta, group, nowUs);
    return full === null ? null : { cause: full.cause, detail: this.#fullDetail(group, full, nowUs) };
  }

  #fullDetail(group: Group, { limit, own }: Full, nowUs: number): ShedDetail {
    const { queuedItems } = group.model;
    // There is no time at which it would fit.
    if (own > limit) return { limit, queuedItems };
    // What fills the queue need not wait in this group: it may have another shape, or no deadline.
    return { limit, queuedItems, retryAfterUs: this.#drainUs(group, queuedItems, nowUs) };
  }

  /** In a full queue work without a deadline gives its place to work that can meet one, the last to come first. */
  #fullAfterMakingRoom(meta: RequestMeta, group: Group, nowUs: number): Full | null {
    const { queueItemsMax, queueBytesMax } = group.model.spec;
    let full = fullFor(group.model, meta);
    if (full === null || meta.deadlineUs === null) return full;
    if (meta.items > queueItemsMax || meta.bytes > queueBytesMax) return full;
    if (meta.deadlineUs < this.#earliestFinishUs(group, meta.items, nowUs)) return full;
    for (; full !== null; full = fullFor(group.model, meta)) {
      const last = lastBestEffort(group.model);
      if (last === null) return full;
      this.#end(last, full.cause, this.#fullDetail(last.group, full, nowUs));
    }
    return null;
  }

  /** Puts an admitted request where it belongs, unless it ends right away. */
  place(request: QueuedRequest, nowUs: number): void {
    if (request.bestEffort) this.#runAsBestEffort(request, nowUs);
    else if (request.group.isFillOnly()) this.#runAsFill(request, nowUs);
    else {
      this.#queues.enqueue(request, nowUs);
      if (this.#isHopeless(request, nowUs) && !this.#isServableAfterAll(request, nowUs)) {
        this.giveUp(request, "late", null, nowUs);
      }
    }
  }

  /** Whether it is what was learnt of the model's times that makes the request hopeless, and that is too old to go by. */
  #isServableAfterAll(request: QueuedRequest, nowUs: number): boolean {
    const { group, items, deadlineUs } = request;
    let isDoubted = false;
    for (const plan of group.plans) {
      if (plan?.fillOnly === false && plan.table.doubt(items, deadlineUs - nowUs, nowUs)) isDoubted = true;
    }
    if (!isDoubted) return false;
    this.#queues.headChanged(group);
    return !this.#isHopeless(request, nowUs);
  }

  /** Gives up every request that can no longer finish in time on any lane, if it gets hopeless by `untilUs`. */
  sweep(untilUs: number, nowUs: number): void {
    const groups = this.#listed;
    groups.length = 0;
    this.#registry.urgency.listUpTo(untilUs, groups);
    for (const { queue } of groups) {
      while (queue.length > 0 && this.#isHopeless(queue.at(0), nowUs)) this.giveUp(queue.at(0), "late", null, nowUs);
    }
  }

  /** Ends best-effort work that nobody waits for any more. */
  expire(nowUs: number): void {
    for (;;) {
      const request = this.#queues.expiries.takeExpired(nowUs);
      if (request === null) return;
      this.#shed(request, request.explicit && request.deadlineUs !== NEVER ? "late" : "expired", null, nowUs);
    }
  }

  /** Ends a request that will miss its deadline, or lets it go on as best-effort work. */
  giveUp(request: QueuedRequest, cause: ShedCause, chosen: string | null, nowUs: number): void {
    if (request.isServable()) this.#fill.countLoss();
    if (isDemotable(request)) {
      this.#queues.unlink(request);
      this.#demote(request, nowUs);
    } else {
      request.group.model.fairness.count(true);
      this.#shed(request, cause, chosen, nowUs);
    }
  }

  /** Sheds all that a model has queued. */
  shedAll(model: ModelState, nowUs: number): void {
    for (const { queue, bestEffort } of model.groups.values()) {
      while (queue.length > 0) this.#shed(queue.at(0), "unloaded", null, nowUs);
      while (bestEffort.length > 0) this.#shed(bestEffort.at(0), "unloaded", null, nowUs);
    }
  }

  /**
   * After a change in how a model can run: what fits no batch any more is shed, what may only run as fill moves there,
   * and back once it may run like other work.
   */
  settle(model: ModelState, nowUs: number): void {
    for (const group of model.groups.values()) {
      const { queue, bestEffort } = group;
      this.#queues.headChanged(group);
      for (let i = bestEffort.length - 1; i >= 0; i--) {
        if (!group.fits(bestEffort.at(i).items)) this.#shed(bestEffort.at(i), "unloaded", null, nowUs);
      }
      const fillOnly = group.isFillOnly();
      while (fillOnly && queue.length > 0) {
        const request = queue.at(0);
        this.#queues.unlink(request);
        this.#runAsFill(request, nowUs);
      }
      for (let i = bestEffort.length - 1; i >= 0 && !fillOnly; i--) {
        const request = bestEffort.at(i);
        if (request.deadlineUs === NEVER || request.demoted) continue;
        this.#queues.unlink(request);
        this.#queues.enqueue(request, nowUs);
      }
    }
    this.sweep(NEVER, nowUs);
  }

  #isHopeless(request: QueuedRequest, nowUs: number): boolean {
    return request.deadlineUs < this.#earliestFinishUs(request.group, request.items, nowUs);
  }

  /** No lane may run the request before deadlines: it runs beside them, until its own passes where it insists on that. */
  #runAsFill(request: QueuedRequest, nowUs: number): void {
    if (isDemotable(request)) {
      this.#demote(request, nowUs);
    } else {
      request.expiresUs = request.deadlineUs;
      this.#runAsBestEffort(request, nowUs);
    }
  }

  #demote(request: QueuedRequest, nowUs: number): void {
    request.demoted = true;
    this.effects.push({ type: "demote", id: request.id });
    this.#runAsBestEffort(request, nowUs);
  }

  #runAsBestEffort(request: QueuedRequest, nowUs: number): void {
    this.#queues.enqueueBestEffort(request, nowUs);
    if (request.expiresUs <= nowUs) this.#shed(request, "expired", null, nowUs);
    else if (!request.group.fits(request.items)) this.#shed(request, "unloaded", null, nowUs);
  }

  /** `chosen` names the model that was served in its place, where that was decided now. */
  #shed(request: QueuedRequest, cause: ShedCause, chosen: string | null, nowUs: number): void {
    const missed = cause === "late" || cause === "sacrificed";
    this.#end(request, cause, missed ? this.#missDetail(request, chosen, nowUs) : {});
  }

  #end(request: QueuedRequest, cause: ShedCause, detail: ShedDetail): void {
    this.#queues.remove(request);
    this.effects.push({ type: "shed", id: request.id, cause, detail });
  }

  #missDetail({ group, items }: QueuedRequest, chosen: string | null, nowUs: number): ShedDetail {
    const blockedBy = chosen ?? this.#blockerOf(group);
    const predictedEndUs = Math.round(this.#earliestFinishUs(group, items, nowUs));
    return {
      ...(blockedBy === undefined ? {} : { blockedBy }),
      ...(Number.isFinite(predictedEndUs) ? { predictedEndUs } : {}),
      retryAfterUs: this.#drainUs(group, group.queue.items, nowUs),
    };
  }

  #blockerOf(group: Group): string | undefined {
    for (const lane of this.#registry.lanes) {
      if (lane.running !== null && group.plans[lane.slot] !== undefined) return lane.running.plan.model;
    }
    return undefined;
  }

  /** Earliest predicted end of a request that would be next on some lane; the present where no lane has the model. */
  #earliestFinishUs(group: Group, items: number, nowUs: number): number {
    let earliestUs = NEVER;
    let placed = false;
    for (const lane of this.#registry.lanes) {
      const plan = group.plans[lane.slot];
      if (plan === undefined || plan.fillOnly) continue;
      placed = true;
      if (items <= plan.table.cap) earliestUs = Math.min(earliestUs, lane.freeAtUs(nowUs) + plan.table.us[items]!);
    }
    return placed ? earliestUs : nowUs;
  }

  /** Time until so many items should be done with, in batches of a group. */
  #drainUs(group: Group, items: number, nowUs: number): number {
    let soonestUs = NEVER;
    for (const lane of this.#registry.lanes) {
      const plan = group.plans[lane.slot];
      if (plan === undefined) continue;
      soonestUs = Math.min(soonestUs, lane.freeAtUs(nowUs) - nowUs + plan.perItemUs * items);
    }
    return Math.round(soonestUs === NEVER ? group.sloUs : soonestUs);
  }
}

/** A limit of a model's queue that a request would exceed. */
interface Full {
  readonly cause: "queue_items" | "queue_bytes";
  readonly limit: number;
  /** What the request itself has of it. */
  readonly own: number;
}

function fullFor({ queuedItems, queuedBytes, spec }: ModelState, { items, bytes }: RequestMeta): Full | null {
  const { queueItemsMax, queueBytesMax } = spec;
  if (queuedItems + items > queueItemsMax) return { cause: "queue_items", limit: queueItemsMax, own: items };
  if (queuedBytes + bytes > queueBytesMax) return { cause: "queue_bytes", limit: queueBytesMax, own: bytes };
  return null;
}

/** The request without a deadline that came last, as far as the ends of the queues show one. */
function lastBestEffort({ groups }: ModelState): QueuedRequest | null {
  let last: QueuedRequest | null = null;
  for (const { bestEffort } of groups.values()) {
    const from = bestEffort.length - 1;
    for (let i = from; i >= 0 && i > from - LAST_SCAN_MAX; i--) {
      const request = bestEffort.at(i);
      if (request.deadlineUs !== NEVER) continue;
      if (last === null || request.id > last.id) last = request;
      break;
    }
  }
  return last;
}

/** Whether a missed deadline is only the model's SLO, so that the caller still wants the answer. */
function isDemotable(request: QueuedRequest): boolean {
  return !request.explicit && !request.group.model.spec.shedImplicit;
}
