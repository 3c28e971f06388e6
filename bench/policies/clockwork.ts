import { batchToHeadDeadline, type Decision, largestBatch, type Policy, type PolicyModel } from "./policy-scheduler.ts";

export interface ClockworkOptions {
  /** Whether only a queue's first request offers strategies, or each request does, for those from it on. */
  readonly strategies: "head" | "each";
}

/**
 * Clockwork (Gujarati et al., OSDI 2020, section 5.3): requests offer a strategy for each power-of-two batch size that
 * the queue can fill, with the last moment at which that batch must start to meet its earliest deadline; strategies whose
 * moment has passed are void, and the one with the earliest moment runs. Work that can't meet its deadline is cancelled
 * before it is executed, and execution times are the longest of the last ten (section 5.2), as there.
 */
export function clockwork(options: ClockworkOptions): Policy {
  return {
    order: "deadline",
    estimate: "longest",
    decide(models: readonly PolicyModel[], nowUs: number): Decision {
      let best: { model: PolicyModel; from: number; size: number; startByUs: number } | null = null;
      for (const model of models) {
        const heads = options.strategies === "head" ? Math.min(1, model.queue.length) : model.queue.length;
        for (let from = 0; from < heads; from++) {
          const head = model.queue[from]!;
          const feasible = batchToHeadDeadline(model, nowUs, from).length;
          if (feasible === 0) continue;
          const size = 2 ** Math.floor(Math.log2(feasible));
          const items = model.queue.slice(from, from + size).reduce((sum, request) => sum + request.items, 0);
          const startByUs = head.deadlineUs - model.latencyUs(items);
          if (best === null || startByUs < best.startByUs) best = { model, from, size, startByUs };
          if (feasible === model.queue.length - from) break;
        }
      }
      if (best === null) return { type: "wait", untilUs: null };
      const { model, from, size } = best;
      const batch = largestBatch(model, model.queue.slice(from, from + size), Number.POSITIVE_INFINITY);
      return { type: "start", model, batch };
    },
  };
}

export const CLOCKWORK_SWEEP: readonly ClockworkOptions[] = [{ strategies: "each" }, { strategies: "head" }];
