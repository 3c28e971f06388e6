/** Cumulative statistics in the forms in which the wire and the status page ask for them. */
import type { ModelStatisticsSnapshot, StatisticsSource } from "../rpc/ports.ts";
import type { LaneStatus, ModelCounts } from "../status.ts";
import type { EngineTallies } from "./engine-tallies.ts";
import { ModelTally } from "./tally.ts";

export class TallyStatistics implements StatisticsSource {
  readonly #tallies: EngineTallies;

  constructor(tallies: EngineTallies) {
    this.#tallies = tallies;
  }

  statistics(key: string): ModelStatisticsSnapshot | null {
    const tally = this.#tallies.models.get(key);
    return tally === undefined ? null : snapshot(tally);
  }

  /** Counts of a model version for the status page; zeros for one that never had a request. */
  modelCounts(key: string): ModelCounts {
    const tally = this.#tallies.models.get(key) ?? new ModelTally(key);
    return {
      requests: tally.requests,
      on_time: tally.onTime,
      late: tally.late,
      best_effort: tally.bestEffort,
      shed: { ...tally.shed },
      failed: tally.failed + tally.lost,
      cancelled: tally.cancelled,
      fallbacks: Object.values(tally.fallbacks).reduce((sum: number, count = 0) => sum + count, 0),
      cache_hits: tally.cacheHits,
      cache_misses: tally.cacheMisses,
      executions: tally.executions.deadline + tally.executions.fill + tally.executions.share,
      items: tally.items,
      slots: tally.slots,
      busy_us: { ...tally.busyUs },
    };
  }

  /** The counted part of a lane's status; zeros for a lane that was never in service. */
  laneCounts(lane: string): Pick<LaneStatus, "restarts" | "executions" | "busy_us" | "items" | "slots"> {
    const tally = this.#tallies.lanes.get(lane);
    const zeros = { deadline: 0, fill: 0, share: 0 };
    return {
      restarts: Math.max(0, (tally?.starts ?? 1) - 1),
      executions: { ...(tally?.executions ?? zeros) },
      busy_us: { ...(tally?.busyUs ?? zeros) },
      items: tally?.items ?? 0,
      slots: tally?.slots ?? 0,
    };
  }
}

function snapshot(tally: ModelTally): ModelStatisticsSnapshot {
  const { answered, inferred, cacheHits, cacheMisses } = tally;
  return {
    lastInferenceMs: tally.lastInferenceMs,
    items: tally.inferredItems,
    executions: tally.succeededExecutions,
    success: { count: answered, us: tally.successUs },
    fail: { count: tally.failed + tally.lost + tally.shedTotal + tally.refused, us: tally.failUs },
    queue: { count: answered, us: tally.queueUs },
    computeInput: { count: inferred, us: tally.gatherUs },
    computeInfer: { count: inferred, us: tally.executeUs },
    computeOutput: { count: inferred, us: tally.collectUs },
    cacheHit: { count: cacheHits, us: tally.cacheHitUs },
    cacheMiss: { count: cacheMisses, us: tally.cacheMissUs },
    batches: [...tally.batchSizes]
      .sort(([a], [b]) => a - b)
      .map(([size, { executions: count, gatherUs, executeUs, collectUs }]) => ({
        size,
        computeInput: { count, us: gatherUs },
        computeInfer: { count, us: executeUs },
        computeOutput: { count, us: collectUs },
      })),
  };
}
