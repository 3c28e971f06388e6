import type { Scenario, ScenarioModel } from "../scenario/types.ts";
import { type LiveLog, median } from "./live-log.ts";

/** Fewer executions of a bucket than this say little of it. */
const EXECUTIONS_MIN = 5;
const NOISE_MAX = 0.3;
/**
 * A scenario with the profiles that a live run showed: by bucket the mean time from start to end, with the turnaround
 * to the next batch, in which the lane does nothing either; buckets that hardly ran are taken from the daemon's profile,
 * as much longer as the others were. How far times strayed from that becomes the scenario's noise.
 */
export function withMeasuredProfiles(scenario: Scenario, log: LiveLog): Scenario {
  const ratios: number[] = [];
  const models = scenario.models.map((model): ScenarioModel => {
    if (model.profile === undefined || !("points_ms" in model.profile)) return model;
    const ofModel = log.executions.filter(
      (execution) => execution.model === model.name && !execution.lane.startsWith("cpu/"),
    );
    const told = model.profile.points_ms;
    const measured = new Map<number, number>();
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
    return { ...model, profile: { points_ms } };
  });
  const variance = ratios.reduce((sum, ratio) => sum + (ratio - 1) ** 2, 0) / Math.max(1, ratios.length);
  return { ...scenario, models, noise: Math.min(NOISE_MAX, Math.sqrt(variance)) };
}
