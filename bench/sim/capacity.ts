import type { SimulationResult } from "./result.ts";

/** Share of requests on time that a scale must reach to count as carried. */
export const ATTAINMENT_MIN = 0.99;

/** The largest scales at which requests are on time. */
export interface Capacity {
  /** Largest scale with ≥ 99 % of all requests on time; 0 where there is none. */
  readonly capacity_scale: number;
  /** Requests a second offered at that scale. */
  readonly capacity_per_s: number;
  /** Attainment of the worst model at that scale. */
  readonly attainment_worst_model: number;
  /** Largest scale with ≥ 99 % of every model's requests on time. */
  readonly capacity_worst_model_scale: number;
  readonly capacity_worst_model_per_s: number;
  /** Whether no larger scale was tried: the capacity is at least that. */
  readonly capacity_open: boolean;
  readonly capacity_worst_model_open: boolean;
  /** Both as shares of the planning bound, by the rates asked for and not those drawn; null where there is no bound. */
  readonly capacity_of_bound: number | null;
  readonly capacity_worst_model_of_bound: number | null;
}

/** The coarse grid on which the search begins, as shares of the scale that reaches the planning bound. */
const GRID_STEP = 0.1;
const GRID_MAX = 2;
/** Where all of the grid is carried, as with replicas and traces, which the bound leaves out, scales grow by this factor, */
const GROWTH = 1.25;
/** up to this multiple of the grid's unit. */
const OPEN_MAX = 100;
/** Consecutive failures on the grid after which larger scales are not tried. */
const FAILURES_MAX = 3;
/** Where the bisection ends. */
const PRECISION = 0.005;

/** One run of the search. */
interface Probe {
  readonly scale: number;
  readonly result: SimulationResult;
}

interface Found {
  /** The largest scale that was carried; null where none was. */
  readonly best: Probe | null;
  readonly open: boolean;
}

/**
 * Searches the largest scale at which ≥ 99 % of requests are on time: on a coarse grid first, since attainment need not
 * fall evenly with load, and further where all of it is carried; then by bisection above the last scale that was.
 *
 * @param run simulates the scenario at a scale
 * @param onProbe told of each run
 * @param scaleMax no larger scale is tried
 */
export function searchCapacity(
  run: (scale: number) => SimulationResult,
  onProbe: (scale: number, result: SimulationResult) => void = () => {},
  scaleMax: number = Number.POSITIVE_INFINITY,
): Capacity & { readonly result: SimulationResult } {
  const probes = new Map<number, Probe>();
  const probe = (scale: number): Probe => {
    let known = probes.get(scale);
    if (known === undefined) {
      known = { scale, result: run(scale) };
      probes.set(scale, known);
      onProbe(scale, known.result);
    }
    return known;
  };
  const first = probe(1);
  const atBound = first.result.load === null || first.result.load === 0 ? 1 : 1 / first.result.load;
  const range = { unit: Math.min(atBound, scaleMax), scaleMax };
  const all = search(probe, range, ({ total }) => total.attainment);
  const worst = search(probe, range, (result) => result.attainment_worst_model);
  const perS = ({ best }: Found): number => (best === null ? 0 : best.result.total.offered / best.result.measured_s);
  const nominal = first.result.load;
  const ofBound = ({ best }: Found): number | null => (nominal === null ? null : (best?.scale ?? 0) * nominal);
  return {
    capacity_scale: all.best?.scale ?? 0,
    capacity_per_s: perS(all),
    attainment_worst_model: all.best?.result.attainment_worst_model ?? 0,
    capacity_worst_model_scale: worst.best?.scale ?? 0,
    capacity_worst_model_per_s: perS(worst),
    capacity_open: all.open,
    capacity_worst_model_open: worst.open,
    capacity_of_bound: ofBound(all),
    capacity_worst_model_of_bound: ofBound(worst),
    result: (all.best ?? first).result,
  };
}

function search(
  probe: (scale: number) => Probe,
  { unit, scaleMax }: { readonly unit: number; readonly scaleMax: number },
  attainment: (result: SimulationResult) => number,
): Found {
  const carried = (scale: number): boolean => attainment(probe(scale).result) >= ATTAINMENT_MIN;
  let low = 0;
  let high = Number.POSITIVE_INFINITY;
  let failures = 0;
  for (let i = 1; i * GRID_STEP <= GRID_MAX + 1e-9 && failures < FAILURES_MAX; i++) {
    const scale = Math.round(i * GRID_STEP * unit * 1e4) / 1e4;
    if (scale > scaleMax) break;
    if (carried(scale)) {
      low = scale;
      high = Number.POSITIVE_INFINITY;
      failures = 0;
    } else {
      if (failures === 0) high = scale;
      failures++;
    }
  }
  // The grid may end below the scenario's own rates, or fail there by chance.
  if (low < 1 && carried(1)) {
    low = 1;
    if (high <= 1) high = Number.POSITIVE_INFINITY;
  }
  const most = Math.min(scaleMax, OPEN_MAX * unit);
  while (high === Number.POSITIVE_INFINITY && low > 0 && low < most) {
    const scale = Math.min(low * GROWTH, most);
    if (carried(scale)) low = scale;
    else high = scale;
  }
  if (high === Number.POSITIVE_INFINITY) return { best: low === 0 ? null : probe(low), open: low > 0 };
  while (high - low > PRECISION * Math.max(unit, low / GRID_MAX)) {
    const middle = Math.round(((low + high) / 2) * 1e4) / 1e4;
    // Scales have four decimals, which is coarse where a fraction of the rates is all that is carried.
    if (middle <= low || middle >= high) break;
    if (carried(middle)) low = middle;
    else high = middle;
  }
  return { best: low === 0 ? null : probe(low), open: false };
}
