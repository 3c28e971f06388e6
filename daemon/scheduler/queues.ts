import { ExpiryHeap } from "./expiry.ts";
import type { Group } from "./group.ts";
import type { QueuedRequest } from "./request.ts";
import type { ShareAccount } from "./shares.ts";
import type { RequestId } from "./types.ts";
import type { UrgencyHeap } from "./urgency.ts";

/** Every request that waits, and the books on them: by id, by model, by tenant, by when each would end unserved. */
export class Queues {
  readonly expiries: ExpiryHeap = new ExpiryHeap();
  /** Requests without a deadline, or with one that was given up. */
  bestEffortCount = 0;
  readonly #requests: Map<RequestId, QueuedRequest> = new Map();
  readonly #urgency: UrgencyHeap;
  readonly #bestEffortShare: ShareAccount;

  constructor(urgency: UrgencyHeap, bestEffortShare: ShareAccount) {
    this.#urgency = urgency;
    this.#bestEffortShare = bestEffortShare;
  }

  get count(): number {
    return this.#requests.size;
  }

  get(id: RequestId): QueuedRequest | undefined {
    return this.#requests.get(id);
  }

  /** Enters a request that has just arrived; it is to be put into one of its group's queues next. */
  admit(request: QueuedRequest): void {
    this.#requests.set(request.id, request);
    request.group.model.queuedItems += request.items;
    request.group.model.queuedBytes += request.bytes;
  }

  enqueue(request: QueuedRequest, nowUs: number): void {
    const { group, tenant } = request;
    const { model } = group;
    if (model.queuedDeadlines === 0) model.share.open(nowUs);
    model.queuedDeadlines += 1;
    if (tenant.queued === 0) tenant.share.open(nowUs);
    tenant.queued += 1;
    request.key = request.deadlineUs;
    request.bestEffort = false;
    group.queue.push(request);
    this.headChanged(group);
  }

  enqueueBestEffort(request: QueuedRequest, nowUs: number): void {
    if (this.bestEffortCount === 0) this.#bestEffortShare.open(nowUs);
    this.bestEffortCount += 1;
    request.key = request.id;
    request.bestEffort = true;
    request.group.bestEffort.push(request);
    if (request.expiresUs !== Number.POSITIVE_INFINITY) this.expiries.push(request);
  }

  /** Takes a request out of its queue for another one. */
  unlink(request: QueuedRequest): void {
    const { group } = request;
    if (request.bestEffort) {
      group.bestEffort.remove(request);
      this.bestEffortCount -= 1;
    } else {
      group.queue.remove(request);
      group.model.queuedDeadlines -= 1;
      request.tenant.queued -= 1;
      this.headChanged(group);
    }
  }

  /** Takes a request out for good: it starts, is shed or was cancelled. */
  remove(request: QueuedRequest): void {
    this.unlink(request);
    this.#requests.delete(request.id);
    request.queued = false;
    request.group.model.queuedItems -= request.items;
    request.group.model.queuedBytes -= request.bytes;
  }

  /** To be called whenever a group's most urgent request is another one, or takes another time to execute. */
  headChanged(group: Group): void {
    if (group.queue.length === 0) this.#urgency.remove(group);
    else this.#urgency.set(group, hopelessFromUs(group.queue.at(0)));
  }
}

/** When waiting alone makes a request hopeless: the moment from which on no lane could finish it in time. */
function hopelessFromUs(request: QueuedRequest): number {
  return Math.floor(request.deadlineUs - request.group.aloneUs(request.items)) + 1;
}
