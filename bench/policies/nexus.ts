import {
  batchToHeadDeadline,
  type Decision,
  type Drop,
  largestBatch,
  type Policy,
  type PolicyModel,
  type Queued,
  steadyBatch,
} from "./policy-scheduler.ts";

/** Largest batch whose filling (at the observed rate) and execution fit the SLO together. */
export function targetBatch(model: PolicyModel, nowUs: number): number {
  const rate = model.ratePerUs(nowUs);
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
    // A batch as long as all that is left, or as the model's largest, won't be longer further on.
    if (batch.length >= wanted || batch.length === model.queue.length - skip) break;
  }
  return { batch: best, drop: model.queue.slice(0, from).map((request) => ({ model, request })) };
}

export interface WindowDropOptions {
  /** Which model runs: the one whose batch must start first, or whose oldest request is due first. */
  readonly order: "latest-start" | "deadline";
  /** Size of the window: what the arrival rate fills within the SLO, or what leaves room for a second batch within it. */
  readonly target: "rate" | "steady";
}

/**
 * Nexus on one device without its epochs: the model with the least latest start (or deadline) runs, with the early-drop
 * window. Nexus runs its sessions in a fixed cycle instead; the free choice serves it better.
 */
export function nexusWindowDrop(options: WindowDropOptions): Policy {
  return {
    order: "deadline",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      let best: { model: PolicyModel; key: number } | null = null;
      for (const model of models) {
        const head = model.queue[0];
        if (head === undefined) continue;
        let key = head.deadlineUs;
        if (options.order === "latest-start") {
          const items = batchToHeadDeadline(model, nowUs).reduce((sum, request) => sum + request.items, 0);
          key -= model.latencyUs(Math.max(1, items));
        }
        if (best === null || key < best.key) best = { model, key };
      }
      if (best === null) return { type: "wait", untilUs: null };
      const { model } = best;
      const target = options.target === "rate" ? targetBatch(model, nowUs) : steadyBatch(model);
      const { batch, drop } = windowDrop(model, target, nowUs);
      return { type: "start", model, batch, drop };
    },
  };
}

export const WINDOW_DROP_SWEEP: readonly WindowDropOptions[] = (["latest-start", "deadline"] as const).flatMap(
  (order) => (["rate", "steady"] as const).map((target) => ({ order, target })),
);

export interface SquishyOptions {
  /** Batch of a session's turn: what arrives in one cycle of the plan, or what leaves room for a second batch in its SLO. */
  readonly batch: "cycle" | "steady";
}

/** How often the plan is made anew. */
const EPOCH_US = 1_000_000;

/**
 * Nexus's squishy bin packing as a plan (section 6.1) for one device: sessions run in a fixed cycle, each with the batch
 * that arrives in one cycle, the cycle as long as every session's SLO allows for waiting through it and executing. A
 * session whose queue is empty yields its turn and the cycle is not padded with idle time, which serves it better than
 * the paper's fixed duty cycle does; the early-drop window picks the requests.
 */
export function nexusSquishy(options: SquishyOptions): Policy {
  let next = 0;
  let planUntilUs = Number.NEGATIVE_INFINITY;
  let cycleUs = 0;
  return {
    order: "deadline",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      if (nowUs >= planUntilUs) {
        cycleUs = longestCycleUs(models, nowUs);
        planUntilUs = nowUs + EPOCH_US;
      }
      for (let turn = 0; turn < models.length; turn++) {
        const at = (next + turn) % models.length;
        const model = models[at]!;
        if (model.queue.length === 0) continue;
        const planned = cycleBatch(model, cycleUs, nowUs);
        const size = options.batch === "cycle" ? planned : steadyBatch(model);
        const { batch, drop } = windowDrop(model, size, nowUs);
        next = (at + 1) % models.length;
        return {
          type: "start",
          model,
          batch: largestBatch(model, batch.slice(0, size), Number.POSITIVE_INFINITY),
          drop,
        };
      }
      return { type: "wait", untilUs: null };
    },
  };
}

export const SQUISHY_SWEEP: readonly SquishyOptions[] = [{ batch: "cycle" }, { batch: "steady" }];

/** More than the mean of what arrives in a cycle, since arrivals are not even. */
const CYCLE_MARGIN = 1.5;

function cycleBatch(model: PolicyModel, cycleUs: number, nowUs: number): number {
  const arriving = Math.ceil(model.ratePerUs(nowUs) * cycleUs * CYCLE_MARGIN);
  return Math.min(model.spec.maxBatch, Math.max(1, arriving));
}

/** The longest cycle that each session can wait through and then execute what arrived in it, within its SLO. */
function longestCycleUs(models: readonly PolicyModel[], nowUs: number): number {
  let cycleUs = Number.POSITIVE_INFINITY;
  for (const model of models) {
    const rate = model.ratePerUs(nowUs);
    if (rate === 0) continue;
    let size = 1;
    while (size < model.spec.maxBatch && (size + 1) / rate + model.latencyUs(size + 1) <= model.spec.sloUs) size++;
    cycleUs = Math.min(cycleUs, model.spec.sloUs - model.latencyUs(size));
  }
  return Number.isFinite(cycleUs) ? cycleUs : 0;
}
