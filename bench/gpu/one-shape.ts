/** Lets a comparison policy, which knows one shape a model, schedule models whose items vary and are all of one shape here. */
import type { BatchPlan, Scheduler, SchedulerEffect, SchedulerEvent } from "../../daemon/scheduler/types.ts";

export class OneShape implements Scheduler {
  readonly #policy: Scheduler;
  /** The only shape of each model that has been warmed. */
  readonly #shapes = new Map<string, string>();

  constructor(policy: Scheduler) {
    this.#policy = policy;
  }

  step(event: SchedulerEvent, nowUs: number): readonly SchedulerEffect[] {
    return this.#policy.step(this.#plain(event), nowUs).map((effect) => this.#shaped(effect));
  }

  #plain(event: SchedulerEvent): SchedulerEvent {
    if (event.type !== "loaded" || event.profiles[""] !== undefined) return event;
    const shape = Object.keys(event.profiles).find((key) => key !== "*");
    if (shape === undefined) return event;
    this.#shapes.set(event.model, shape);
    return { ...event, profiles: { "": event.profiles[shape]! } };
  }

  #shaped(effect: SchedulerEffect): SchedulerEffect {
    if (effect.type !== "start" && effect.type !== "stage") return effect;
    const shape = this.#shapes.get(effect.plan.model);
    const plan: BatchPlan = shape === undefined ? effect.plan : { ...effect.plan, shape };
    return { ...effect, plan };
  }
}
