/** What a scenario file lets a decision log contain. Reads the file by itself; only what the check needs. */
import { readFileSync } from "node:fs";

interface ProfileJson {
  readonly alpha_ms?: number;
  readonly beta_ms?: number;
  readonly points_ms?: readonly (readonly [number, number])[];
}

interface ScenarioJson {
  readonly warmup_s?: number;
  readonly measure_s: number;
  readonly devices?: readonly { readonly name: string; readonly lanes?: number; readonly speed?: number }[];
  readonly models: readonly {
    readonly name: string;
    readonly max_batch: number;
    readonly profile?: ProfileJson;
    readonly time_ratios?: readonly number[];
    readonly cpu_replicas?: { readonly count: number; readonly profile: ProfileJson };
    readonly devices?: readonly string[];
    readonly arrivals?: unknown;
    readonly explicit_deadlines?: boolean;
    readonly shed?: boolean;
  }[];
  readonly trace?: unknown;
  readonly best_effort?: readonly { readonly model: string }[];
  readonly noise?: number;
  readonly profile_error?: number;
  readonly gather_ms?: number;
  readonly handover_ms?: number;
}

/** Shortest and longest time an execution can take, in microseconds. */
export interface DurationRange {
  readonly leastUs: number;
  readonly mostUs: number;
}

export interface ModelExpectations {
  readonly maxBatch: number;
  /** By lane; empty where the scenario has no profile. */
  readonly lanes: ReadonlyMap<string, LaneProfile>;
  /** Whether a request may be overtaken by one that arrived later and is due later. */
  readonly mayOvertake: boolean;
  readonly bestEffortMayOvertake: boolean;
}

export interface Expectations {
  readonly models: ReadonlyMap<string, ModelExpectations>;
  readonly lanes: ReadonlySet<string>;
  /** The measured window. */
  readonly fromUs: number;
  readonly toUs: number;
  /** Whether arrivals may end before the window, which then ends with them. */
  readonly arrivalsMayEnd: boolean;
  /** Whether there are to be requests. */
  readonly asks: boolean;
}

/** Standard deviations at which simulated noise is cut. */
const NOISE_CUT = 3;

/** How long a model's batches take on one lane. */
export class LaneProfile {
  readonly #profile: ProfileJson;
  readonly #speed: number;
  /** The least and the largest factor on the profile's times. */
  readonly #leastRatio: number;
  readonly #mostRatio: number;
  /** What may pass on the lane before the execution begins. */
  readonly #beforeUs: number;

  /** @param ratios factors on the profile's times that executions can take */
  constructor(profile: ProfileJson, speed: number, ratios: readonly number[], beforeUs: number) {
    this.#profile = profile;
    this.#speed = speed;
    this.#leastRatio = Math.min(...ratios);
    this.#mostRatio = Math.max(...ratios);
    this.#beforeUs = beforeUs;
  }

  /** @returns null where there is no such bucket */
  duration(bucket: number): DurationRange | null {
    const ms = this.#ms(bucket);
    if (ms === undefined) return null;
    const us = (ms * 1000) / this.#speed;
    // Times are rounded to whole microseconds, once for the profile and once for the factor.
    const leastUs = Math.floor(us * this.#leastRatio) - 1;
    return { leastUs, mostUs: Math.ceil(us * this.#mostRatio + this.#beforeUs) + 1 };
  }

  #ms(bucket: number): number | undefined {
    const { alpha_ms, beta_ms, points_ms } = this.#profile;
    if (points_ms !== undefined) return points_ms.find(([b]) => b === bucket)?.[1];
    return alpha_ms! * bucket + beta_ms!;
  }
}

export function readExpectations(file: string): Expectations {
  const scenario = JSON.parse(readFileSync(file, "utf8")) as ScenarioJson;
  const { warmup_s = 0, measure_s, devices = [{ name: "gpu0" }], noise = 0, gather_ms = 0, handover_ms = 0 } = scenario;
  const beforeUs = (gather_ms + handover_ms) * 1000;
  const models = new Map<string, ModelExpectations>();
  const allLanes = new Set<string>();
  for (const model of scenario.models) {
    const lanes = new Map<string, LaneProfile>();
    const ratios = model.time_ratios ?? [1 - NOISE_CUT * noise, 1 + NOISE_CUT * noise];
    const add = (lane: string, profile: ProfileJson | undefined, speed: number): void => {
      allLanes.add(lane);
      if (profile !== undefined) lanes.set(lane, new LaneProfile(profile, speed, ratios, beforeUs));
    };
    for (const { name, lanes: count = 1, speed = 1 } of devices) {
      if (model.devices !== undefined && !model.devices.includes(name)) continue;
      for (let i = 0; i < count; i++) add(count === 1 ? name : `${name}/${i}`, model.profile, speed);
    }
    for (let i = 0; i < (model.cpu_replicas?.count ?? 0); i++) {
      add(`cpu/${model.name}/${i}`, model.cpu_replicas!.profile, 1);
    }
    const explicit = model.explicit_deadlines !== false || model.shed === true;
    const backlogs = scenario.best_effort?.filter((entry) => entry.model === model.name).length ?? 0;
    models.set(model.name, {
      maxBatch: model.max_batch,
      lanes,
      // A demotion is not in the log: from then on the request stands behind others.
      mayOvertake: !explicit,
      // Several backlogs are several tenants' work, which take turns.
      bestEffortMayOvertake: backlogs > 1 || !explicit,
    });
  }
  const fromUs = Math.round(warmup_s * 1e6);
  const toUs = fromUs + Math.round(measure_s * 1e6);
  const traced = scenario.trace !== undefined;
  const asked =
    scenario.models.some(({ arrivals }) => arrivals !== undefined) || (scenario.best_effort ?? []).length > 0;
  return { models, lanes: allLanes, fromUs, toUs, arrivalsMayEnd: traced, asks: traced || asked };
}
