import { batchToHeadDeadline, type Decision, type Policy, type PolicyModel } from "./policy-scheduler.ts";

/**
 * Earliest deadline first, never idle: the model whose head has the earliest deadline runs at once, with as many queued
 * requests as still meet that deadline; requests that can't finish even alone are dropped.
 */
export const eagerEdf: Policy = {
  order: "deadline",
  decide(models: readonly PolicyModel[], nowUs: number): Decision {
    let first: PolicyModel | null = null;
    for (const model of models) {
      const head = model.queue[0];
      if (head !== undefined && (first === null || head.deadlineUs < first.queue[0]!.deadlineUs)) first = model;
    }
    if (first === null) return { type: "wait", untilUs: null };
    return { type: "start", model: first, batch: batchToHeadDeadline(first, nowUs) };
  },
};
