import { batchToHeadDeadline, type Decision, largestBatch, type Policy, type PolicyModel } from "./policy-scheduler.ts";

/**
 * Clockwork (Gujarati et al., OSDI 2020, section 5.3): each model offers a strategy for each power-of-two batch size
 * that its queue can fill, with the last moment at which that batch must start to meet its earliest deadline; the
 * strategy with the earliest such moment runs. Work that can't meet its deadline is cancelled before it is executed.
 * A chosen model runs its largest size that still meets the deadline.
 */
export const clockwork: Policy = {
  order: "deadline",
  decide(models: readonly PolicyModel[], nowUs: number): Decision {
    let best: { model: PolicyModel; size: number; startByUs: number } | null = null;
    for (const model of models) {
      const head = model.queue[0];
      if (head === undefined) continue;
      const feasible = batchToHeadDeadline(model, nowUs).length;
      let size = 1;
      while (size * 2 <= feasible) size *= 2;
      const startByUs = head.deadlineUs - model.latencyUs(Math.min(size, model.spec.maxBatch));
      if (best === null || startByUs < best.startByUs) best = { model, size, startByUs };
    }
    if (best === null) return { type: "wait", untilUs: null };
    const batch = largestBatch(best.model, best.model.queue.slice(0, best.size), Number.POSITIVE_INFINITY);
    return { type: "start", model: best.model, batch };
  },
};
