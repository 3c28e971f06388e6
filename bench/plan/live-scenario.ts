import type { DaemonStatus, ModelStatus } from "../../daemon/status.ts";
import { parseScenario, type Scenario } from "../scenario/schema.ts";

/** A daemon's models as a scenario, and what of them had to be left out. */
export interface LiveScenario {
  readonly scenario: Scenario;
  readonly notes: readonly string[];
}

const WARMUP_S = 2;
const MEASURE_S = 30;

/**
 * The scenario that a daemon was in between two snapshots: its models with their profiles and SLOs as they are now, with
 * Poisson arrivals at the rates observed. A model without requests in between has no arrivals; best-effort requests are
 * left out, since they yield to all others, and so are those that were answered from the cache. Requests that fell back are those
 * of the model that was asked: the simulated one falls back, too.
 *
 * @throws {Error} where no model is ready, or the daemon was started anew in between
 */
export function liveScenario(before: DaemonStatus, after: DaemonStatus, source: string): LiveScenario {
  if (before.pid !== after.pid) {
    throw new Error(`the daemon at ${source} was started anew while it was observed; observe it once more`);
  }
  const windowS = (after.now_us - before.now_us) / 1e6;
  const notes: string[] = [];
  const lanes = after.lanes.filter(({ kind }) => kind === "device").length;
  const names = new Map<string, number>();
  for (const { name } of after.models) names.set(name, (names.get(name) ?? 0) + 1);
  const nameOf = ({ name, version }: ModelStatus): string => (names.get(name) === 1 ? name : `${name}/${version}`);
  const replicaLanes = new Set(after.lanes.filter(({ kind }) => kind === "replica").map(({ lane }) => lane));
  const placed = (model: ModelStatus): Record<string, unknown> | null =>
    model.state === "READY" ? placement(model, replicaLanes) : null;
  const ready = after.models.filter((model) => placed(model) !== null);
  const fallbackOf = ({ fallback }: ModelStatus): ModelStatus | undefined => {
    const named = ready.filter(({ name, version }) => fallback === name || fallback === `${name}/${version}`);
    return named.sort((a, b) => b.traffic - a.traffic)[0];
  };
  const countsSince = (model: ModelStatus, of: (counts: ModelStatus["counts"]) => number): number => {
    const first = before.models.find((one) => one.name === model.name && one.version === model.version)?.counts;
    return of(model.counts) - (first === undefined ? 0 : of(first));
  };
  const models = after.models.flatMap((model) => {
    const name = nameOf(model);
    const where = placed(model);
    if (where === null) {
      notes.push(`${name} is left out: it is ${model.state === "READY" ? "without a profile" : "not ready"}`);
      return [];
    }
    const since = (of: (counts: ModelStatus["counts"]) => number): number => countsSince(model, of);
    const requests =
      since((counts) => counts.requests) -
      ready
        .filter((other) => fallbackOf(other) === model)
        .reduce((sum, other) => sum + countsSince(other, (counts) => counts.fallbacks), 0);
    const bestEffort = since((counts) => counts.best_effort);
    const answered = since((counts) => counts.on_time + counts.late) + bestEffort;
    // Cached answers take no device's time; they count as spread alike over requests with and without deadlines.
    const executed = answered - since((counts) => counts.cache_hits);
    const executedShare = answered === 0 ? 1 : executed / answered;
    const rate = (Math.max(0, requests - bestEffort) * executedShare) / windowS;
    if (rate === 0) {
      notes.push(`${name} had no requests with deadlines to execute in ${windowS.toFixed(0)} s, and gets none`);
    }
    const fallback = fallbackOf(model);
    const items = executed === 0 ? 1 : Math.max(1, Math.round(since((counts) => counts.items) / executed));
    return [
      {
        name,
        max_batch: model.max_batch,
        slo_ms: model.slo_ms,
        items: Math.min(items, model.max_batch),
        ...where,
        ...(fallback === undefined ? {} : { fallback: nameOf(fallback) }),
        ...(rate === 0 ? {} : { arrivals: { process: "poisson", rate_per_s: rate } }),
      },
    ];
  });
  if (models.length === 0) throw new Error(`the daemon at ${source} has no model that is ready`);
  const device = after.lanes.find(({ kind }) => kind === "device")?.provider ?? "none";
  const json = {
    name: source,
    warmup_s: WARMUP_S,
    measure_s: MEASURE_S,
    devices: [{ name: device, lanes: Math.max(1, lanes) }],
    models,
  };
  return { scenario: parseScenario(json, `the daemon at ${source}`), notes };
}

/** Where a model executes, in a scenario's terms; null where it has no profile there. */
function placement(model: ModelStatus, replicaLanes: ReadonlySet<string>): Record<string, unknown> | null {
  const { placement: where, profile_ms, replica_profile_ms, lanes } = model;
  const onDevice = (where === "device" || where === "both") && profile_ms !== null && profile_ms.length > 0;
  const onReplicas = (where === "replica" || where === "both") && replica_profile_ms !== null;
  if (!onDevice && !onReplicas) return null;
  const replicas = Math.max(1, lanes.filter((lane) => replicaLanes.has(lane)).length);
  return {
    ...(onDevice ? { profile: { points_ms: rising(profile_ms) } } : { devices: [] }),
    ...(onReplicas ? { cpu_replicas: { count: replicas, profile: { points_ms: rising(replica_profile_ms) } } } : {}),
  };
}

/** Measured times may fall by a hair from one bucket to the next; a scenario's may not. */
function rising(points: readonly (readonly [number, number])[]): [number, number][] {
  let most = 0;
  return points.map(([bucket, ms]) => {
    most = Math.max(most, ms);
    return [bucket, most];
  });
}
