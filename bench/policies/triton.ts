import {
  type Decision,
  itemsOf,
  largestBatch,
  type Policy,
  type PolicyModel,
  steadyBatch,
} from "./policy-scheduler.ts";

export interface TritonOptions {
  /** `max_queue_delay_microseconds` as a share of the model's SLO. */
  readonly delayShare: number;
  /** `preferred_batch_size` as a share of the largest batch that fits half the SLO; batches form at multiples of it. */
  readonly preferredShare: number;
  /** Which ready batch a shared device takes first: the one ready for longest, or the one with the earliest deadline. */
  readonly order: "ready" | "deadline";
  /** Queue timeout with REJECT, as a share of the SLO; 1 rejects only what can't finish any more. */
  readonly timeoutShare: number;
}

/**
 * Triton's dynamic batcher (Triton documentation, "Batchers" and ModelDynamicBatching): each model's batcher by itself
 * holds requests until a preferred size is there or the oldest has waited for the queue delay; a queue policy may reject
 * what has waited too long. One device serves the batches that the models' batchers have made ready. Windows, preferred
 * sizes, orders and timeouts are swept and the best is taken for each scenario.
 */
export function triton(options: TritonOptions): Policy {
  return {
    order: "arrival",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      let best: { model: PolicyModel; size: number; key: number } | null = null;
      let untilUs = Number.POSITIVE_INFINITY;
      const drop = [];
      for (const model of models) {
        const timeoutUs = model.spec.sloUs * options.timeoutShare;
        const alive = model.queue.filter((request) => nowUs - request.arrivedUs <= timeoutUs);
        for (const request of model.queue) if (!alive.includes(request)) drop.push({ model, request });
        const head = alive[0];
        if (head === undefined) continue;
        const preferred = Math.max(1, Math.round(steadyBatch(model) * options.preferredShare));
        const queuedItems = itemsOf(alive);
        const delayEndUs = head.arrivedUs + options.delayShare * model.spec.sloUs;
        if (queuedItems < preferred && nowUs < delayEndUs) {
          untilUs = Math.min(untilUs, delayEndUs);
          continue;
        }
        const size =
          queuedItems < preferred
            ? queuedItems
            : Math.min(Math.floor(queuedItems / preferred) * preferred, model.spec.maxBatch);
        const key = options.order === "ready" ? head.arrivedUs : head.deadlineUs;
        if (best === null || key < best.key) best = { model, size, key };
      }
      if (best === null) return { type: "wait", untilUs: Number.isFinite(untilUs) ? untilUs : null, drop };
      const { model, size } = best;
      const dropped = new Set(drop.map(({ request }) => request));
      const queue = model.queue.filter((request) => !dropped.has(request));
      const batch = largestBatch(model, queue.slice(0, size), Number.POSITIVE_INFINITY);
      return { type: "start", model, batch, drop };
    },
  };
}

/** The settings swept: delay × preferred size × order × timeout. */
export const TRITON_SWEEP: readonly TritonOptions[] = [0, 0.05, 0.1, 0.2, 0.3].flatMap((delayShare) =>
  [0.5, 1].flatMap((preferredShare) =>
    (["ready", "deadline"] as const).flatMap((order) =>
      [0.5, 0.75, 1].map((timeoutShare) => ({ delayShare, preferredShare, order, timeoutShare })),
    ),
  ),
);
