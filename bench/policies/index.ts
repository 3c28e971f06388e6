/** Schedulers by name: the daemon's own and the comparison policies. */
import type { Scheduler } from "../../daemon/scheduler/types.ts";
import { bentoAdaptive } from "./bento-adaptive.ts";
import { clockwork } from "./clockwork.ts";
import { eagerEdf } from "./eager-edf.ts";
import { leastLatestStart, nexusSquishy } from "./nexus.ts";
import { type Policy, PolicyScheduler } from "./policy-scheduler.ts";
import { ROUND_ROBIN_SWEEP, roundRobin } from "./round-robin.ts";
import { shepherdFlex } from "./shepherd.ts";
import { symphony } from "./symphony.ts";
import { TRITON_SWEEP, triton } from "./triton.ts";

/** A comparison policy with the settings to try; the best of its variants is what counts. */
export interface ComparisonPolicy {
  readonly name: string;
  readonly variants: readonly { readonly label: string; readonly create: () => Scheduler }[];
}

function policy(name: string, create: () => Policy): ComparisonPolicy {
  return { name, variants: [{ label: name, create: () => new PolicyScheduler(create()) }] };
}

function swept<Options extends object>(
  name: string,
  sweep: readonly Options[],
  create: (options: Options) => Policy,
): ComparisonPolicy {
  const variants = sweep.map((options) => ({
    label: `${name}(${Object.entries(options)
      .map(([key, value]) => `${key}=${value}`)
      .join(",")})`,
    create: () => new PolicyScheduler(create(options)),
  }));
  return { name, variants };
}

export const COMPARISON_POLICIES: readonly ComparisonPolicy[] = [
  swept("triton", TRITON_SWEEP, triton),
  swept("tf-serving", ROUND_ROBIN_SWEEP, roundRobin),
  policy("eager-edf", () => eagerEdf),
  policy("clockwork", () => clockwork),
  policy("nexus-window-drop", () => leastLatestStart),
  policy("nexus-squishy", nexusSquishy),
  policy("symphony", () => symphony),
  policy("shepherd-flex", () => shepherdFlex),
  policy("bento-adaptive", bentoAdaptive),
];
