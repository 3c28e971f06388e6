/** A load that fits the machine it runs on, made from the profiles that the daemon measured there. */
import type { DaemonStatus, ModelStatus } from "../../daemon/status.ts";
import { parseScenario, type Scenario } from "../scenario/schema.ts";

/** Share of the device's time that work with deadlines is to take, all models together. */
export const DEADLINE_SHARE = 0.6;
/** Requests per second of one model at most, where no other limit is given: beyond it the client's and the wire's work would be what is measured. */
const RATE_MAX_PER_S = 120;
const RATE_MIN_PER_S = 0.5;

const BACKLOG_ITEMS = 8;

type Points = readonly (readonly [number, number])[];

/** What a request costs the device in milliseconds where batches are small, as they are below full load. */
function costMs(points: Points): number {
  const single = points[0]!;
  const pair = points.find(([bucket]) => bucket >= 2) ?? single;
  return (single[1] / single[0] + pair[1] / pair[0]) / 2;
}

/** How many times cheaper an item is in the model's largest batch than alone. */
function batchingGain(points: Points): number {
  const [small, large] = [points[0]!, points.at(-1)!];
  return small[1] / small[0] / (large[1] / large[0]);
}

function profileOf(model: ModelStatus): Points | null {
  const points = model.placement === "replica" ? model.replica_profile_ms : model.profile_ms;
  return points === null || points.length === 0 ? null : points;
}

export interface MixOptions {
  readonly warmupS: number;
  readonly measureS: number;
  readonly seed: number;
  /** Of one model. */
  readonly ratePerSMax?: number;
}

/**
 * Every model that is ready gets Poisson arrivals (the second bursty ones) for an equal share of the device, and the one
 * that gains most from batching a best-effort backlog that never ends. Null where no model is ready.
 */
export function mixedLoad(status: DaemonStatus, options: MixOptions): Scenario | null {
  const { warmupS, measureS, seed, ratePerSMax = RATE_MAX_PER_S } = options;
  const ready = status.models.flatMap((model) => {
    const points = model.state === "READY" ? profileOf(model) : null;
    return points === null ? [] : [{ model, points }];
  });
  if (ready.length === 0) return null;
  const rates = rateByModel(ready, ratePerSMax);
  // A backlog that replicas work off too would not show what fills the device's slack.
  const onDevice = ready.filter(({ model }) => model.placement === "device");
  const candidates = onDevice.length > 0 ? onDevice : ready;
  const filler = candidates.reduce((best, one) => (batchingGain(one.points) > batchingGain(best.points) ? one : best));
  const models = ready.map(({ model, points }, index) => ({
    name: model.name,
    max_batch: model.max_batch,
    slo_ms: model.slo_ms,
    profile: { points_ms: points },
    arrivals: {
      ...(index === 1 ? { process: "gamma", cv: 2 } : { process: "poisson" }),
      rate_per_s: rates.get(model.name)!,
    },
  }));
  const scenario = {
    name: "quickstart",
    seed,
    warmup_s: warmupS,
    measure_s: measureS,
    models,
    best_effort: [backlogOf(filler.model, filler.points)],
  };
  return parseScenario(scenario, "quickstart");
}

/** As jobs without deadlines are written: several items in a request, and a few batches of them on their way. */
function backlogOf({ name, max_batch }: ModelStatus, points: Points) {
  const items = Math.min(BACKLOG_ITEMS, max_batch, points.at(-1)![0]);
  return { model: name, backlog: "infinite", items, outstanding: Math.ceil((4 * max_batch) / items) };
}

/** Equal shares of the device; what a model can't use because its rate is capped goes to the others. */
function rateByModel(
  ready: readonly { readonly model: ModelStatus; readonly points: Points }[],
  ratePerSMax: number,
): Map<string, number> {
  const rates = new Map<string, number>();
  const byCost = [...ready].sort((a, b) => costMs(a.points) - costMs(b.points));
  let left = DEADLINE_SHARE;
  byCost.forEach(({ model, points }, index) => {
    const share = left / (byCost.length - index);
    const rate = Math.min(ratePerSMax, Math.max(RATE_MIN_PER_S, (share * 1000) / costMs(points)));
    left = Math.max(0, left - (rate * costMs(points)) / 1000);
    rates.set(model.name, Math.round(rate * 10) / 10);
  });
  return rates;
}
