import { batchToHeadDeadline, type Decision, type Policy, type PolicyModel } from "./policy-scheduler.ts";

/**
 * Shepherd's Flex (Zhang et al., NSDI 2023, section 5): whenever the device is free, the largest batch over all models
 * whose members all meet their deadlines, the more urgent of two as large. Its preemption (a batch three times as large
 * cancels the running one) is left out: the runtime can't interrupt an execution.
 */
export const shepherdFlex: Policy = {
  order: "deadline",
  decide(models: readonly PolicyModel[], nowUs: number): Decision {
    let best: { model: PolicyModel; from: number; size: number; deadlineUs: number } | null = null;
    for (const model of models) {
      for (let from = 0; from < model.queue.length; from++) {
        const { length } = batchToHeadDeadline(model, nowUs, from);
        const { deadlineUs } = model.queue[from]!;
        const better = best === null || length > best.size || (length === best.size && deadlineUs < best.deadlineUs);
        if (length > 0 && better) best = { model, from, size: length, deadlineUs };
        if (length === model.queue.length - from || length === model.spec.maxBatch) break;
      }
    }
    if (best === null) return { type: "wait", untilUs: null };
    const { model, from, size } = best;
    return { type: "start", model, batch: model.queue.slice(from, from + size) };
  },
};
