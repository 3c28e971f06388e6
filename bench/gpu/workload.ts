/** A load made from measured profiles: at scale 1 it asks for the whole device, were all batches as large as they can be. */
import type { ModelStatus } from "../../daemon/status.ts";
import { parseScenario, type Scenario } from "../scenario/schema.ts";
import type { BenchModel } from "./models.ts";

export type Points = readonly (readonly [bucket: number, ms: number])[];

export interface WorkloadOptions {
  readonly name: string;
  readonly warmupS: number;
  readonly measureS: number;
  /** Name of a model that also gets a best-effort backlog that never ends. */
  readonly fill?: string;
}

/** Below this the daemon's and the caller's own work on the wire decides whether an answer is on time. */
const SLO_MS_MIN = 20;
/** What one caller and one daemon move over gRPC at scale 1 without becoming what is measured. */
const BYTES_PER_S_MAX = 60e6;
const REQUESTS_PER_S_MAX = 4000;

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
}

/**
 * Equal shares of the device's time for every model, as Poisson arrivals; fewer where requests are large or many.
 *
 * @throws where a model has no profile
 */
export function workload(
  models: readonly BenchModel[],
  profiles: ReadonlyMap<string, Points>,
  options: WorkloadOptions,
): Workload {
  const lines = models.map((model) => {
    const points = profiles.get(model.name) ?? [];
    const largest = points.at(-1);
    if (largest === undefined) throw new Error(`${model.name} has no profile`);
    const msPerItem = largest[1] / largest[0];
    const ratePerS = 1000 / models.length / (msPerItem * model.items);
    const withinBytes = BYTES_PER_S_MAX / models.length / model.requestBytes;
    const rate = Math.min(ratePerS, withinBytes, REQUESTS_PER_S_MAX / models.length);
    return { model, points, largest, msPerItem, rate };
  });
  const scenario = {
    name: options.name,
    description: "Made from the profiles measured in the same run.",
    seed: 1,
    warmup_s: options.warmupS,
    measure_s: options.measureS,
    devices: [{ name: "device" }],
    models: lines.map(({ model, points, largest, rate }) => ({
      name: model.name,
      max_batch: largest[0],
      slo_ms: Math.round(Math.max(SLO_MS_MIN, model.sloFactor * largest[1])),
      items: model.items,
      ...(model.shapes === undefined ? {} : { shapes: model.shapes }),
      profile: { points_ms: points },
      arrivals: { process: "poisson", rate_per_s: Math.round(rate * 100) / 100 },
    })),
    best_effort: options.fill === undefined ? [] : [{ model: options.fill, backlog: "infinite" }],
  };
  return {
    scenario: parseScenario(scenario, options.name),
    deviceShare: lines.reduce((sum, { model, msPerItem, rate }) => sum + (rate * model.items * msPerItem) / 1000, 0),
  };
}

/** The model whose items become cheapest in a large batch: the one to fill slack with. */
export function bestFiller(models: readonly BenchModel[], profiles: ReadonlyMap<string, Points>): string {
  const gain = ({ name }: BenchModel): number => {
    const points = profiles.get(name) ?? [];
    const [small, large] = [points[0], points.at(-1)];
    return small === undefined || large === undefined ? 0 : small[1] / small[0] / (large[1] / large[0]);
  };
  return models.reduce((best, model) => (gain(model) > gain(best) ? model : best)).name;
}
