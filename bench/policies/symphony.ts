import { batchToHeadDeadline, type Decision, type Policy, type PolicyModel } from "./policy-scheduler.ts";

/**
 * Symphony's deferred batch scheduling (Chen et al., 2023, section 3): a model's candidate becomes eligible only at its
 * frontrun moment, deadline − l(b + 1), when one more request could no longer join it; among eligible candidates the one
 * with the least latest moment, deadline − l(b), runs. Made for many devices: on one, deferred candidates of several
 * models fall due together.
 */
export const symphony: Policy = {
  order: "deadline",
  decide(models: readonly PolicyModel[], nowUs: number): Decision {
    let best: { model: PolicyModel; latestUs: number } | null = null;
    let untilUs = Number.POSITIVE_INFINITY;
    for (const model of models) {
      const head = model.queue[0];
      if (head === undefined) continue;
      const size = Math.max(1, batchToHeadDeadline(model, nowUs).length);
      const frontrunUs =
        size >= model.spec.maxBatch
          ? nowUs
          : head.deadlineUs - model.latencyUs(Math.min(size + 1, model.spec.maxBatch));
      if (frontrunUs > nowUs) {
        untilUs = Math.min(untilUs, frontrunUs);
        continue;
      }
      const latestUs = head.deadlineUs - model.latencyUs(size);
      if (best === null || latestUs < best.latestUs) best = { model, latestUs };
    }
    if (best === null) return { type: "wait", untilUs: Number.isFinite(untilUs) ? untilUs : null };
    return { type: "start", model: best.model, batch: batchToHeadDeadline(best.model, nowUs) };
  },
};
