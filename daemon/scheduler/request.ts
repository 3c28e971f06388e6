import type { Group } from "./group.ts";
import type { Tenant } from "./tenants.ts";
import type { RequestMeta } from "./types.ts";

/** A request from its arrival until it starts, is shed or is cancelled. */
export class QueuedRequest {
  readonly id: number;
  readonly items: number;
  readonly bytes: number;
  readonly arrivedUs: number;
  readonly explicit: boolean;
  readonly tenant: Tenant;
  /** What its loss counts, relative to others of its model: its tenant's weight. */
  readonly weight: number;
  readonly group: Group;
  /** Infinity for best-effort work. */
  readonly deadlineUs: number;
  /** When it ends unserved as best-effort work, demoted work included; Infinity for never. */
  expiresUs: number;
  /** Orders its queue: the deadline, or the id (order of arrival) for best-effort work. */
  key: number;
  bestEffort: boolean;
  /** Its deadline was given up, and it goes on without one. */
  demoted = false;
  /** False once it has left the queues; entries that outlive their request (the expiry heap) look at this. */
  queued = true;

  constructor(meta: RequestMeta, group: Group, tenant: Tenant, nowUs: number) {
    this.id = meta.id;
    this.items = meta.items;
    this.bytes = meta.bytes;
    this.arrivedUs = nowUs;
    this.explicit = meta.explicit;
    this.tenant = tenant;
    this.weight = tenant.weight;
    this.group = group;
    this.bestEffort = meta.deadlineUs === null;
    this.deadlineUs = meta.deadlineUs ?? Number.POSITIVE_INFINITY;
    this.expiresUs = meta.expiresUs ?? Number.POSITIVE_INFINITY;
    this.key = this.bestEffort ? meta.id : this.deadlineUs;
  }

  /** Whether a lane with nothing else to do could have answered it in time. What could not be is no reason to do other things differently. */
  isServable(): boolean {
    return this.deadlineUs - this.arrivedUs >= this.group.aloneUs(this.items);
  }
}
