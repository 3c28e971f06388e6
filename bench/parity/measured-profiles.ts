import type { Scenario, ScenarioModel } from "../scenario/types.ts";
import { type LiveLog, median } from "./live-log.ts";

/** Fewer executions of a bucket than this say little of it. */
const EXECUTIONS_MIN = 5;
/** Ratios that stand for all of a model's: evenly spaced quantiles. */
const RATIOS_MAX = 1000;

/**
 * A scenario with the profiles that a live run showed: by bucket the mean time from start to end, with the turnaround
 * to the next batch, in which the lane does nothing either; buckets that hardly ran are taken from the daemon's profile,
 * as much longer as the others were. How far times strayed from that is drawn from what was seen: on a machine whose cores
 * others use, a few executions take several times as long, which no normal distribution has.
 */
export function withMeasuredProfiles(scenario: Scenario, log: LiveLog): Scenario {
  const models = scenario.models.map((model): ScenarioModel => {
    if (model.profile === undefined || !("points_ms" in model.profile)) return model;
    const ofModel = log.executions.filter(
      (execution) => execution.model === model.name && !execution.lane.startsWith("cpu/"),
    );
    const told = model.profile.points_ms;
    const measured = new Map<number, number>();
    const ratios: number[] = [];
    for (const [bucket] of told) {
      const times = ofModel.filter((execution) => execution.bucket === bucket).map(({ us }) => us / 1000);
      if (times.length < EXECUTIONS_MIN) continue;
      const mean = times.reduce((sum, ms) => sum + ms, 0) / times.length;
      measured.set(bucket, mean);
      for (const ms of times) ratios.push(ms / mean);
    }
    const longer =
      median(told.flatMap(([bucket, ms]) => (measured.has(bucket) ? [measured.get(bucket)! - ms] : []))) ?? 0;
    let most = 0;
    const points_ms = told.map(([bucket, ms]): [number, number] => {
      most = Math.max(most, (measured.get(bucket) ?? Math.max(ms, ms + longer)) + log.turnaroundUs / 1000);
      return [bucket, most];
    });
    const spread = ratios.length === 0 ? {} : { time_ratios: quantiles(ratios) };
    return { ...model, profile: { points_ms }, ...spread };
  });
  return { ...scenario, models };
}

function quantiles(values: readonly number[]): number[] {
  const sorted = [...values].sort((a, b) => a - b);
  const count = Math.min(sorted.length, RATIOS_MAX);
  return Array.from({ length: count }, (_, i) => sorted[Math.floor(((i + 0.5) * sorted.length) / count)]!);
}
