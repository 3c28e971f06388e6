import { ShareAccount } from "./shares.ts";
import type { SchedulerOptions } from "./types.ts";

/** A tenant that the options name; all others are alike. */
export class Tenant {
  readonly weight: number;
  readonly minShare: number;
  readonly share: ShareAccount = new ShareAccount();
  /** Requests with deadlines in the queues; counted only where there is a guaranteed share. */
  queued = 0;

  constructor(weight: number, minShare: number) {
    this.weight = weight;
    this.minShare = minShare;
  }
}

/** Tenants by name. Unknown names share one entry, so that callers cannot make state grow by inventing them. */
export class Tenants {
  /** Those with a guaranteed share. */
  readonly guaranteed: readonly Tenant[];
  readonly #named: Map<string, Tenant> = new Map();
  readonly #other = new Tenant(1, 0);

  constructor(options: SchedulerOptions) {
    const shares = options.tenantMinShares ?? {};
    for (const name of new Set([...Object.keys(options.tenantWeights), ...Object.keys(shares)])) {
      this.#named.set(name, new Tenant(options.tenantWeights[name] ?? 1, shares[name] ?? 0));
    }
    this.guaranteed = [...this.#named.values()].filter((tenant) => tenant.minShare > 0);
  }

  of(name: string): Tenant {
    return (name === "" ? undefined : this.#named.get(name)) ?? this.#other;
  }
}
