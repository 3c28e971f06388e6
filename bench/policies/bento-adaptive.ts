import { type Decision, type Drop, itemsOf, largestBatch, type Policy, type PolicyModel } from "./policy-scheduler.ts";

const SAMPLES_KEPT = 50;
const TICK_US = 1000;
const DECAY = 0.95;

export interface BentoOptions {
  /** Which queued requests a batch takes first; BentoML's dispatcher takes the newest. */
  readonly take: "oldest" | "newest";
}

/**
 * BentoML's adaptive batching (its documentation, "Adaptive batching", and `marshal/dispatcher.py` of version 1): each
 * model's dispatcher waits for more requests while waiting would cost those queued less, in sum, than the mean wait seen
 * lately, and drops the oldest when its estimated latency exceeds the latency goal, here the SLO. Free dispatchers share
 * the device first come, first served. Execution times come from the profile instead of BentoML's regression, and
 * batches of the oldest requests are tried beside those of the newest; both serve it better.
 */
export function bentoAdaptive(options: BentoOptions): Policy {
  const waitsUs = new Map<PolicyModel, number[]>();
  return {
    order: "arrival",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      let best: PolicyModel | null = null;
      let waiting = false;
      const drop: Drop[] = [];
      for (const model of models) {
        const queue = [...model.queue];
        while (queue.length > 1 && isTooLate(model, queue.length, queue[0]!.arrivedUs, nowUs)) {
          drop.push({ model, request: queue.shift()! });
        }
        const head = queue[0];
        if (head === undefined) continue;
        const items = itemsOf(queue);
        const sinceLastUs = nowUs - queue.at(-1)!.arrivedUs;
        const slopeUs = model.latencyUs(Math.min(2, model.spec.maxBatch)) - model.latencyUs(1);
        if (
          items < model.spec.maxBatch &&
          items * (sinceLastUs + TICK_US + slopeUs) <= meanWaitUs(waitsUs, model) * DECAY
        ) {
          waiting = true;
          continue;
        }
        if (best === null || head.arrivedUs < best.queue[0]!.arrivedUs) best = model;
      }
      if (best === null) return { type: "wait", untilUs: waiting ? nowUs + TICK_US : null, drop };
      const dropped = new Set(drop.map(({ request }) => request));
      const queue = best.queue.filter((request) => !dropped.has(request));
      if (options.take === "newest") queue.reverse();
      return { type: "start", model: best, batch: largestBatch(best, queue, Number.POSITIVE_INFINITY), drop };
    },
    started(model, batch, nowUs): void {
      const kept = waitsUs.get(model) ?? [];
      waitsUs.set(model, kept);
      for (const request of batch) kept.push(nowUs - request.arrivedUs);
      if (kept.length > SAMPLES_KEPT) kept.splice(0, kept.length - SAMPLES_KEPT);
    },
  };
}

export const BENTO_SWEEP: readonly BentoOptions[] = [{ take: "newest" }, { take: "oldest" }];

function isTooLate(model: PolicyModel, count: number, arrivedUs: number, nowUs: number): boolean {
  return nowUs - arrivedUs + model.latencyUs(Math.min(count, model.spec.maxBatch)) >= model.spec.sloUs;
}

function meanWaitUs(waitsUs: ReadonlyMap<PolicyModel, readonly number[]>, model: PolicyModel): number {
  const kept = waitsUs.get(model);
  if (kept === undefined || kept.length === 0) return 10_000;
  let sum = 0;
  for (const us of kept) sum += us;
  return sum / kept.length;
}
