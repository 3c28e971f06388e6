/** Schedulers by name: the daemon's own and the comparison policies. */
import type { Scheduler, SchedulerOptions } from "../../daemon/scheduler/types.ts";
import { BENTO_SWEEP, bentoAdaptive } from "./bento-adaptive.ts";
import { CLOCKWORK_SWEEP, clockwork } from "./clockwork.ts";
import { eagerEdf } from "./eager-edf.ts";
import { nexusSquishy, nexusWindowDrop, SQUISHY_SWEEP, WINDOW_DROP_SWEEP } from "./nexus.ts";
import { type Policy, PolicyScheduler } from "./policy-scheduler.ts";
import { ROUND_ROBIN_SWEEP, roundRobin } from "./round-robin.ts";
import { shepherdFlex } from "./shepherd.ts";
import { SYMPHONY_SWEEP, symphony } from "./symphony.ts";
import { TRITON_SWEEP, triton } from "./triton.ts";

/** A comparison policy with the settings to try; the best of its variants is what counts. */
export interface ComparisonPolicy {
  readonly name: string;
  readonly variants: readonly { readonly label: string; readonly create: (options: SchedulerOptions) => Scheduler }[];
}

function policy(name: string, create: () => Policy): ComparisonPolicy {
  return { name, variants: [{ label: name, create: ({ handoverUs }) => new PolicyScheduler(create(), handoverUs) }] };
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
    create: ({ handoverUs }: SchedulerOptions) => new PolicyScheduler(create(options), handoverUs),
  }));
  return { name, variants };
}

export const COMPARISON_POLICIES: readonly ComparisonPolicy[] = [
  swept("triton", TRITON_SWEEP, triton),
  swept("tf-serving", ROUND_ROBIN_SWEEP, roundRobin),
  policy("eager-edf", () => eagerEdf),
  swept("clockwork", CLOCKWORK_SWEEP, clockwork),
  swept("nexus-window-drop", WINDOW_DROP_SWEEP, nexusWindowDrop),
  swept("nexus-squishy", SQUISHY_SWEEP, nexusSquishy),
  swept("symphony", SYMPHONY_SWEEP, symphony),
  policy("shepherd-flex", () => shepherdFlex),
  swept("bento-adaptive", BENTO_SWEEP, bentoAdaptive),
];
