import { ArrivalStream, runLengthUs } from "../scenario/arrivals.ts";
import { toProfile } from "../scenario/profile.ts";
import { batchMax } from "../scenario/schema.ts";
import type { Scenario, ScenarioModel } from "../scenario/types.ts";
import { NOISE_DEVIATIONS_MAX } from "../sim/virtual-device.ts";

/** The requests of one model with their times known beforehand. */
export interface ModelInstance {
  readonly name: string;
  /** Ascending, in microseconds from the start of the window. */
  readonly arrivalsUs: Float64Array;
  /** Time from arrival to deadline; the longest of the model's requests. */
  readonly budgetUs: number;
  /** Least execution time of a batch, by its number of requests: `[0, l(1), l(2), …]`, not falling. */
  readonly tableUs: Float64Array;
}

/** What a scheduler that knew the future would have to serve. */
export interface Instance {
  readonly models: readonly ModelInstance[];
  readonly lanes: number;
  /** Requests of all models. */
  readonly requests: number;
  /** Whether every request has the model's budget and as many items, so that nothing was relaxed. */
  readonly exact: boolean;
}

export interface InstanceOptions {
  readonly seed?: number;
  readonly scale?: number;
}

/**
 * The requests that arrive in a scenario's measured window, made easier to serve where the bounds can't take them as
 * they are: every request has the longest budget and the fewest items of its model's, noise only shortens executions,
 * every lane is as fast as the fastest and holds all models, gathering takes no time, and nothing is left over from
 * before the window. Whatever is served of the real ones could be served of these, so a bound for these holds for those.
 *
 * @returns null where CPU replicas or missing profiles leave it open what could be served
 */
export function instanceOf(scenario: Scenario, options: InstanceOptions = {}): Instance | null {
  if (scenario.models.some(({ cpu_replicas }) => cpu_replicas !== undefined)) return null;
  const fromUs = Math.round(scenario.warmup_s * 1e6);
  const endUs = runLengthUs(scenario, options.scale);
  const times: number[][] = scenario.models.map(() => []);
  const budgets = scenario.models.map(() => 0);
  const leastItems = scenario.models.map(() => Number.POSITIVE_INFINITY);
  let exact = scenario.noise === 0 && scenario.gather_ms === 0 && scenario.handover_ms === 0;
  for (const { atUs, model, items, budgetUs } of new ArrivalStream(scenario, options)) {
    if (atUs < fromUs || atUs >= endUs) continue;
    const first = times[model]!.length === 0;
    if (!first && (budgets[model] !== budgetUs || leastItems[model] !== items)) exact = false;
    times[model]!.push(atUs - fromUs);
    budgets[model] = Math.max(budgets[model]!, budgetUs);
    leastItems[model] = Math.min(leastItems[model]!, items);
  }
  const speed = Math.max(...scenario.devices.map((device) => device.speed));
  if (scenario.devices.some((device) => device.speed !== speed)) exact = false;
  const models: ModelInstance[] = [];
  let requests = 0;
  for (const [i, model] of scenario.models.entries()) {
    if (times[i]!.length === 0) continue;
    if (model.profile === undefined) return null;
    requests += times[i]!.length;
    models.push({
      name: model.name,
      arrivalsUs: Float64Array.from(times[i]!),
      budgetUs: budgets[i]!,
      tableUs: tableOf(model, leastItems[i]!, (1 - NOISE_DEVIATIONS_MAX * scenario.noise) / speed),
    });
  }
  const lanes = scenario.devices.reduce((sum, device) => sum + device.lanes, 0);
  return { models, lanes, requests, exact };
}

function tableOf(model: ScenarioModel, items: number, factor: number): Float64Array {
  const profile = toProfile(model.profile!, batchMax(model));
  const requestsMax = Math.floor(batchMax(model) / items);
  return Float64Array.from({ length: requestsMax + 1 }, (_, requests) => {
    if (requests === 0) return 0;
    // A time of a device may be rounded either way, so up to half a microsecond is given away.
    const { us } = profile.find(({ bucket }) => bucket >= requests * items)!;
    return factor === 1 ? us : Math.max(0.5, us * factor - 0.5);
  });
}
