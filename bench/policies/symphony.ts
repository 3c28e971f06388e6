import { targetBatch, windowDrop } from "./nexus.ts";
import { batchToHeadDeadline, type Decision, type Policy, type PolicyModel } from "./policy-scheduler.ts";

export interface SymphonyOptions {
  /** Share of a request's slack by which its batch is deferred; 1 is the paper's. */
  readonly deferShare: number;
  /** Whether a batch that the oldest requests would shrink slides past them, as in Nexus. */
  readonly drop: "hopeless" | "window";
}

/**
 * Symphony's deferred batch scheduling (Chen et al., 2023, section 3): a model's candidate becomes eligible only at its
 * frontrun moment, deadline − l(b + 1), when one more request could no longer join it; among eligible candidates the one
 * with the least latest moment, deadline − l(b), runs. Made for many devices: on one, deferred candidates of several
 * models fall due together, so shorter deferrals, which the paper does not have, are tried as well.
 */
export function symphony(options: SymphonyOptions): Policy {
  return {
    order: "deadline",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      let best: { model: PolicyModel; latestUs: number } | null = null;
      let untilUs = Number.POSITIVE_INFINITY;
      for (const model of models) {
        const head = model.queue[0];
        if (head === undefined) continue;
        const { maxBatch } = model.spec;
        const items = batchToHeadDeadline(model, nowUs).reduce((sum, request) => sum + request.items, 0);
        const latestUs = head.deadlineUs - model.latencyUs(Math.max(1, items));
        const frontrunUs = items >= maxBatch ? nowUs : head.deadlineUs - model.latencyUs(items + 1);
        const dueUs = head.arrivedUs + options.deferShare * (frontrunUs - head.arrivedUs);
        if (items < maxBatch && dueUs > nowUs) untilUs = Math.min(untilUs, dueUs);
        else if (best === null || latestUs < best.latestUs) best = { model, latestUs };
      }
      if (best === null) return { type: "wait", untilUs: Number.isFinite(untilUs) ? untilUs : null };
      const { model } = best;
      if (options.drop === "hopeless") return { type: "start", model, batch: batchToHeadDeadline(model, nowUs) };
      const { batch, drop } = windowDrop(model, targetBatch(model, nowUs), nowUs);
      return { type: "start", model, batch, drop };
    },
  };
}

export const SYMPHONY_SWEEP: readonly SymphonyOptions[] = [1, 0.75, 0.5, 0.25, 0.1].flatMap((deferShare) =>
  (["hopeless", "window"] as const).map((drop) => ({ deferShare, drop })),
);
