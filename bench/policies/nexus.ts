import {
  batchToHeadDeadline,
  type Decision,
  type Drop,
  type Policy,
  type PolicyModel,
  type Queued,
  rateOf,
  steadyBatch,
} from "./policy-scheduler.ts";

/** Largest batch whose filling (at the observed rate) and execution fit the SLO together. */
function targetBatch(model: PolicyModel, nowUs: number): number {
  const rate = rateOf(model, nowUs);
  if (rate === 0) return 1;
  let size = 1;
  while (size < model.spec.maxBatch && model.latencyUs(size + 1) + (size + 1) / rate <= model.spec.sloUs) size++;
  return size;
}

/**
 * Nexus's early drop (Shen et al., SOSP 2019, section 6.3): a window of the planned batch size slides over the queue
 * past requests whose deadlines would shrink the batch; what it slid over is dropped. Returns the batch and the drops.
 */
export function windowDrop(model: PolicyModel, size: number, nowUs: number): { batch: Queued[]; drop: Drop[] } {
  const wanted = Math.min(size, model.queue.length);
  let best: Queued[] = [];
  let from = 0;
  for (let skip = 0; skip + wanted <= model.queue.length; skip++) {
    const batch = batchToHeadDeadline(model, nowUs, skip);
    if (batch.length > best.length) {
      best = batch;
      from = skip;
    }
    if (batch.length >= wanted) break;
  }
  return { batch: best, drop: model.queue.slice(0, from).map((request) => ({ model, request })) };
}

/**
 * Nexus on one device without its epochs: the model with the least latest start runs, with the early-drop window for a
 * target size that the arrival rate can fill.
 */
export const leastLatestStart: Policy = {
  order: "deadline",
  decide(models: readonly PolicyModel[], nowUs: number): Decision {
    let best: { model: PolicyModel; latestUs: number } | null = null;
    for (const model of models) {
      const head = model.queue[0];
      if (head === undefined) continue;
      const latestUs = head.deadlineUs - model.latencyUs(Math.max(1, batchToHeadDeadline(model, nowUs).length));
      if (best === null || latestUs < best.latestUs) best = { model, latestUs };
    }
    if (best === null) return { type: "wait", untilUs: null };
    const { batch, drop } = windowDrop(best.model, targetBatch(best.model, nowUs), nowUs);
    if (batch.length === 0) return { type: "wait", untilUs: null };
    return { type: "start", model: best.model, batch, drop };
  },
};

/**
 * Nexus's squishy bin packing as a plan (section 6.1) for one device: sessions run in a fixed cycle, each with the batch
 * that arrives in one cycle, at most the one that fits half its SLO; a session whose queue is empty yields its turn. The
 * cycle is not padded with idle time, which serves it better than the paper's fixed duty cycle does.
 */
export function nexusSquishy(): Policy {
  let next = 0;
  return {
    order: "deadline",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      for (let turn = 0; turn < models.length; turn++) {
        const at = (next + turn) % models.length;
        const model = models[at]!;
        if (model.queue.length === 0) continue;
        const { batch, drop } = windowDrop(model, steadyBatch(model), nowUs);
        if (batch.length === 0) continue;
        next = (at + 1) % models.length;
        return { type: "start", model, batch: batch.slice(0, Math.max(steadyBatch(model), 1)), drop };
      }
      return { type: "wait", untilUs: null };
    },
  };
}
