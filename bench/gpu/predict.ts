/** What the simulator says of the scenarios that are run live, and which round-robin settings it would choose. */
import { ROUND_ROBIN_SWEEP } from "../policies/round-robin.ts";
import type { Scenario } from "../scenario/schema.ts";
import { searchCapacity } from "../sim/capacity.ts";
import { findPolicy, OWN_POLICY } from "../sim/policies.ts";
import type { SimulationResult } from "../sim/result.ts";
import { simulate } from "../sim/simulation.ts";
import type { SimulatedFigures } from "./result.ts";

/** Virtual seconds: enough for the choice, and each of them costs real time where executions are short. */
const SIMULATED_S = 4;
const POLICY = "tf-serving";

function run(scenario: Scenario, scale: number, name: string = OWN_POLICY): SimulationResult {
  const policy = findPolicy(name);
  if (policy === undefined) throw new Error(`there is no policy '${name}'`);
  return simulate(scenario, { scheduler: policy.create, policy: policy.name, scale });
}

export function predictLoad(scenario: Scenario, scale: number): SimulatedFigures {
  const { total, devices } = run(scenario, scale);
  return {
    attainment: total.attainment,
    latency_ms_p99: total.latency_ms.p99,
    device_busy_share: Object.values(devices)[0]?.busy_share ?? 0,
    best_effort_items_per_s: total.best_effort.items_per_s,
  };
}

export function predictCapacity(scenario: Scenario): number {
  const brief = { ...scenario, measure_s: SIMULATED_S };
  return searchCapacity((scale) => run(brief, scale)).capacity_scale;
}

/** The round-robin settings that do best at this scale, so that the opponent is not a badly set one. */
export function bestRoundRobin(scenario: Scenario, scale: number): string {
  const brief = { ...scenario, measure_s: SIMULATED_S };
  const labels = ROUND_ROBIN_SWEEP.map(
    ({ timeoutShare, batchShare }) => `${POLICY}(timeoutShare=${timeoutShare},batchShare=${batchShare})`,
  );
  let best = { label: labels[0]!, attainment: -1 };
  for (const label of labels) {
    const { attainment } = run(brief, scale, label).total;
    if (attainment > best.attainment) best = { label, attainment };
  }
  return best.label;
}
