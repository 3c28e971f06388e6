/** A load made from measured profiles: at scale 1 it asks for the whole device, were all batches as large as they can be. */
import type { ModelStatus } from "../../daemon/status.ts";
import { parseScenario, type Scenario } from "../scenario/schema.ts";
import type { BenchModel } from "./models.ts";

export type Points = readonly (readonly [bucket: number, ms: number])[];

export interface WorkloadOptions {
  readonly name: string;
  readonly warmupS: number;
  readonly measureS: number;
  readonly limits: WireLimits;
  /** Name of a model that also gets a best-effort backlog that never ends. */
  readonly fill?: string;
}

/** What one caller and one daemon can do over gRPC without becoming what is measured. */
export interface WireLimits {
  /** At scale 1, all models together. */
  readonly bytesPerSMax: number;
  readonly requestsPerSMax: number;
  /** With less, the daemon's and the caller's own work decides whether an answer is on time. */
  readonly sloMsMin: number;
}

/** For a GPU's host with cores to spare. */
export const MANY_CORES: WireLimits = { bytesPerSMax: 60e6, requestsPerSMax: 1000, sloMsMin: 20 };
/** For a processor that executes the models too. */
export const SHARED_CORES: WireLimits = { bytesPerSMax: 20e6, requestsPerSMax: 300, sloMsMin: 80 };

/** More of the device than there is, and more messages than the wire carries: no capacity lies beyond. */
const DEVICE_SHARE_MAX = 1.3;
const REQUESTS_FACTOR_MAX = 4;

/** The profile that the daemon measured, made monotone for the scenario format. */
export function pointsOf(status: ModelStatus): Points {
  let longest = 0;
  return (status.profile_ms ?? []).map(([bucket, ms]) => {
    longest = Math.max(longest, ms);
    return [bucket, longest] as const;
  });
}

export interface Workload {
  readonly scenario: Scenario;
  /** Share of the device that scale 1 asks for at the best batch sizes; less than 1 where the wire sets the limit. */
  readonly deviceShare: number;
  /** Where to end a search for the capacity. */
  readonly scaleMax: number;
}

/**
 * Equal shares of the device's time for every model, as Poisson arrivals. Where requests are large or many a model gets fewer, and the others
 * what it leaves of the device.
 *
 * @throws where a model has no profile
 */
export function workload(
  models: readonly BenchModel[],
  profiles: ReadonlyMap<string, Points>,
  options: WorkloadOptions,
): Workload {
  const { bytesPerSMax, requestsPerSMax, sloMsMin } = options.limits;
  const lines = models.map((model) => {
    const points = profiles.get(model.name) ?? [];
    const largest = points.at(-1);
    if (largest === undefined) throw new Error(`${model.name} has no profile`);
    const msPerItem = largest[1] / largest[0];
    const requestMs = msPerItem * model.items;
    const rateMax = Math.min(bytesPerSMax / models.length / model.requestBytes, requestsPerSMax / models.length);
    return { model, points, largest, requestMs, rateMax };
  });
  const rates = equalShares(lines);
  const scenario = {
    name: options.name,
    description: "Made from the profiles measured in the same run.",
    seed: 1,
    warmup_s: options.warmupS,
    measure_s: options.measureS,
    devices: [{ name: "device" }],
    models: lines.map(({ model, points, largest }, i) => ({
      name: model.name,
      max_batch: largest[0],
      slo_ms: Math.round(Math.max(sloMsMin, model.sloFactor * largest[1])),
      items: model.items,
      ...(model.shapes === undefined ? {} : { shapes: model.shapes }),
      profile: { points_ms: points },
      arrivals: { process: "poisson", rate_per_s: Math.max(0.01, Math.floor(rates[i]! * 100) / 100) },
    })),
    best_effort: options.fill === undefined ? [] : [{ model: options.fill, backlog: "infinite" }],
  };
  const deviceShare = lines.reduce((sum, { requestMs }, i) => sum + (rates[i]! * requestMs) / 1000, 0);
  const totalPerS = rates.reduce((sum, rate) => sum + rate, 0);
  return {
    scenario: parseScenario(scenario, options.name),
    deviceShare,
    scaleMax: Math.min(DEVICE_SHARE_MAX / deviceShare, (REQUESTS_FACTOR_MAX * requestsPerSMax) / totalPerS),
  };
}

interface Demand {
  /** Of the device's time. */
  readonly requestMs: number;
  /** Requests/s. */
  readonly rateMax: number;
}

/** Rates, in order, that divide the device's time equally; what some can't take is the others'. */
function equalShares(demands: readonly Demand[]): number[] {
  const rates = demands.map(({ rateMax }) => rateMax);
  const byNeed = [...demands.keys()].sort((a, b) => needed(demands[a]!) - needed(demands[b]!));
  let leftMs = 1000;
  for (const [done, at] of byNeed.entries()) {
    const { requestMs, rateMax } = demands[at]!;
    rates[at] = Math.min(rateMax, leftMs / (byNeed.length - done) / requestMs);
    leftMs -= rates[at]! * requestMs;
  }
  return rates;
}

function needed({ requestMs, rateMax }: Demand): number {
  return requestMs * rateMax;
}

/** The model of whose requests the device has most: filling slack with it leaves no slack because of the wire. */
export function bestFiller(models: readonly BenchModel[], profiles: ReadonlyMap<string, Points>): string {
  const requestMs = ({ name, items }: BenchModel): number => {
    const largest = profiles.get(name)?.at(-1);
    return largest === undefined ? 0 : (largest[1] / largest[0]) * items;
  };
  return models.reduce((best, model) => (requestMs(model) > requestMs(best) ? model : best)).name;
}
