import {
  type Decision,
  itemsOf,
  largestBatch,
  type Policy,
  type PolicyModel,
  steadyBatch,
} from "./policy-scheduler.ts";

export interface RoundRobinOptions {
  /** `batch_timeout_micros` as a share of the model's SLO. */
  readonly timeoutShare: number;
  /** `max_batch_size` as a share of the largest batch that fits half the SLO; above 1 it allows larger ones. */
  readonly batchShare: number;
}

/**
 * TensorFlow Serving's shared batch scheduler (its batching README and `shared_batch_scheduler.h`): one queue for each
 * model, a batch is schedulable when it is full or its oldest task has waited for the batch timeout, and the threads of
 * the device take schedulable batches from the queues in turn. Timeouts and batch sizes are swept.
 */
export function roundRobin(options: RoundRobinOptions): Policy {
  let next = 0;
  return {
    order: "arrival",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      let untilUs = Number.POSITIVE_INFINITY;
      for (let turn = 0; turn < models.length; turn++) {
        const at = (next + turn) % models.length;
        const model = models[at]!;
        const head = model.queue[0];
        if (head === undefined) continue;
        const size = batchSize(model, options.batchShare);
        const timeoutEndUs = head.arrivedUs + options.timeoutShare * model.spec.sloUs;
        if (itemsOf(model.queue) < size && nowUs < timeoutEndUs) {
          untilUs = Math.min(untilUs, timeoutEndUs);
          continue;
        }
        next = (at + 1) % models.length;
        return {
          type: "start",
          model,
          batch: largestBatch(model, model.queue.slice(0, size), Number.POSITIVE_INFINITY),
        };
      }
      return { type: "wait", untilUs: Number.isFinite(untilUs) ? untilUs : null };
    },
  };
}

function batchSize(model: PolicyModel, share: number): number {
  return Math.min(model.spec.maxBatch, Math.max(1, Math.round(steadyBatch(model) * share)));
}

/** The settings swept: timeout × batch size. */
export const ROUND_ROBIN_SWEEP: readonly RoundRobinOptions[] = [0, 0.05, 0.1, 0.2, 0.3].flatMap((timeoutShare) =>
  [0.5, 0.75, 1, 1.5].map((batchShare) => ({ timeoutShare, batchShare })),
);
