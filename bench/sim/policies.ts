import { createScheduler } from "../../daemon/scheduler/index.ts";
import type { Scheduler, SchedulerOptions } from "../../daemon/scheduler/types.ts";
import { COMPARISON_POLICIES } from "../policies/index.ts";

export const OWN_POLICY = "slackline";

/** A scheduler that can be simulated. */
export interface NamedPolicy {
  readonly name: string;
  readonly create: (options: SchedulerOptions) => Scheduler;
}

/** All names that `findPolicy` knows; variants of a policy that has several are named `policy(setting=value,…)`. */
export function policyNames(): string[] {
  return [OWN_POLICY, ...COMPARISON_POLICIES.flatMap(({ variants }) => variants.map(({ label }) => label))];
}

/**
 * @param name a comparison policy's, a variant's, or the daemon's own; a policy with several variants means its first
 * @returns undefined where there is none of that name
 */
export function findPolicy(name: string): NamedPolicy | undefined {
  if (name === OWN_POLICY) return { name, create: (options) => createScheduler(options) };
  for (const policy of COMPARISON_POLICIES) {
    const variant =
      policy.variants.find(({ label }) => label === name) ?? (policy.name === name ? policy.variants[0] : undefined);
    if (variant !== undefined) return { name: variant.label, create: variant.create };
  }
  return undefined;
}
