import type { Scenario } from "../scenario/types.ts";
import { mostOnTime } from "./hindsight-optimum.ts";
import { type Instance, instanceOf } from "./instance.ts";
import { pricedBound } from "./priced-bound.ts";

export interface BoundCapacity {
  /** No schedule, knowing all arrivals, has 99 % on time at this scale. */
  readonly scale: number;
  /** Whether some schedule reaches all but the search's precision of it: so for one model on one lane. */
  readonly exact: boolean;
}

export interface BoundCapacityOptions {
  readonly seed?: number;
  /** Length of the window that is bounded, in place of the scenario's; a longer one takes longer and says more. */
  readonly measureS?: number;
  /** Where the search begins: a scale that a policy is known to carry. */
  readonly carried?: number;
  readonly precision?: number;
  readonly iterations?: number;
}

const ATTAINMENT_MIN = 0.99;
const SCALE_MAX = 8;

/**
 * The least scale found at which a bound excludes 99 % on time: the exact optimum in hindsight for one model on one lane
 * with requests all alike, else the priced bound.
 *
 * @returns null where the scenario can't be bounded, or nothing up to eight times what is carried is excluded
 */
export function boundCapacity(scenario: Scenario, options: BoundCapacityOptions = {}): BoundCapacity | null {
  const { precision = 0.01, carried = 0.5, measureS = scenario.measure_s, iterations = 100, seed } = options;
  const window = { ...scenario, measure_s: measureS };
  const at = (scale: number): Instance | null => instanceOf(window, { scale, ...(seed === undefined ? {} : { seed }) });
  const first = at(carried);
  if (first === null || first.requests === 0) return null;
  const exact = first.models.length === 1 && first.lanes === 1 && first.exact;
  const excluded = (scale: number): boolean => {
    const instance = at(scale)!;
    const enough = ATTAINMENT_MIN * instance.requests;
    if (exact) return mostOnTime(instance.models[0]!, instance.requests - Math.ceil(enough)) < enough;
    return pricedBound(instance, { iterations, enough }) < enough;
  };
  let low = carried;
  let high = carried * 1.1;
  while (!excluded(high)) {
    low = high;
    high *= 1.2;
    if (high > SCALE_MAX * carried) return null;
  }
  while (high - low > precision * high) {
    const middle = (low + high) / 2;
    if (excluded(middle)) high = middle;
    else low = middle;
  }
  return { scale: high, exact };
}
