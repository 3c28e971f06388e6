import {
  type Decision,
  type Drop,
  itemsOf,
  largestBatch,
  type Policy,
  type PolicyModel,
  type Queued,
  steadyBatch,
} from "./policy-scheduler.ts";

export interface TritonOptions {
  /** `max_queue_delay_microseconds` as a share of the model's SLO. */
  readonly delayShare: number;
  /** `preferred_batch_size` as a share of the largest batch that fits half the SLO; batches form at multiples of it. */
  readonly preferredShare: number;
  /**
   * Which ready batch a shared device takes first: the one whose oldest request came first, the one with the earliest
   * deadline (which Triton does not know; it is given the benefit), or by the rate limiter with the SLO as priority.
   */
  readonly order: "oldest" | "deadline" | "rate-limiter";
  /** Queue timeout with REJECT, as a share of the SLO; 1 rejects only what can't finish any more. */
  readonly timeoutShare: number;
}

interface Ready {
  readonly model: PolicyModel;
  readonly alive: readonly Queued[];
  readonly size: number;
  readonly key: number;
}

/**
 * Triton's dynamic batcher (Triton documentation, "Batchers", ModelDynamicBatching and "Rate Limiter"): each model's
 * batcher by itself holds requests until a preferred size is there or the oldest has waited for the queue delay; a queue
 * policy may reject what has waited too long. One device serves the batches that the models' batchers have made ready; its
 * rate limiter gives each model chances in inverse proportion to its priority number. Delays, preferred sizes, orders and
 * timeouts are swept and the best is taken for each scenario.
 */
export function triton(options: TritonOptions): Policy {
  /** Priority numbers added up over the chances that each model had. */
  const chances = new Map<PolicyModel, number>();
  let least = 0;
  return {
    order: "arrival",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      let best: Ready | null = null;
      let untilUs = Number.POSITIVE_INFINITY;
      const drop: Drop[] = [];
      for (const model of models) {
        if (model.queue.length === 0) continue;
        const alive = inTime(model, nowUs - model.spec.sloUs * options.timeoutShare, drop);
        const head = alive[0];
        if (head === undefined) continue;
        const preferred = Math.max(1, Math.round(steadyBatch(model) * options.preferredShare));
        const items = itemsOf(alive);
        const delayEndUs = head.arrivedUs + options.delayShare * model.spec.sloUs;
        if (items < preferred && nowUs < delayEndUs) {
          untilUs = Math.min(untilUs, delayEndUs);
          continue;
        }
        const multiple = Math.min(Math.floor(items / preferred) * preferred, model.spec.maxBatch);
        const key =
          options.order === "oldest"
            ? head.arrivedUs
            : options.order === "deadline"
              ? head.deadlineUs
              : Math.max(chances.get(model) ?? 0, least);
        if (best === null || key < best.key) best = { model, alive, size: items < preferred ? items : multiple, key };
      }
      if (best === null) return { type: "wait", untilUs: Number.isFinite(untilUs) ? untilUs : null, drop };
      const { model, alive, size, key } = best;
      if (options.order === "rate-limiter") {
        least = key;
        chances.set(model, key + model.spec.sloUs);
      }
      return { type: "start", model, batch: upTo(model, alive, size), drop };
    },
  };
}

/** The requests that arrived at `sinceUs` or later; adds the others to `drop`. */
function inTime(model: PolicyModel, sinceUs: number, drop: Drop[]): readonly Queued[] {
  let at = 0;
  while (at < model.queue.length && model.queue[at]!.arrivedUs < sinceUs) at++;
  for (let i = 0; i < at; i++) drop.push({ model, request: model.queue[i]! });
  return at === 0 ? model.queue : model.queue.slice(at);
}

/** The first requests, of at most `items` items together and at least one request. */
function upTo(model: PolicyModel, queue: readonly Queued[], items: number): Queued[] {
  let sum = 0;
  let count = 0;
  while (count < queue.length && (count === 0 || sum + queue[count]!.items <= items)) sum += queue[count++]!.items;
  return largestBatch(model, queue.slice(0, count), Number.POSITIVE_INFINITY);
}

/** The settings swept: delay × preferred size × order × timeout. */
export const TRITON_SWEEP: readonly TritonOptions[] = [0, 0.05, 0.1, 0.2, 0.3].flatMap((delayShare) =>
  [0.25, 0.5, 1].flatMap((preferredShare) =>
    (["oldest", "deadline", "rate-limiter"] as const).flatMap((order) =>
      [0.5, 0.75, 1].map((timeoutShare) => ({ delayShare, preferredShare, order, timeoutShare })),
    ),
  ),
);
