import { parseScenario } from "../../bench/scenario/schema.ts";
import type { Scenario } from "../../bench/scenario/types.ts";

/** Three models on one device for a few seconds, as JSON; `changes` replaces top-level fields. */
export function smallScenarioJson(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name: "small",
    seed: 7,
    warmup_s: 0.5,
    measure_s: 3,
    models: [
      {
        name: "quick",
        max_batch: 16,
        slo_ms: 40,
        profile: { alpha_ms: 0.5, beta_ms: 2 },
        arrivals: { process: "poisson", rate_per_s: 150 },
      },
      {
        name: "steps",
        max_batch: 8,
        slo_ms: 80,
        items: { min: 1, max: 3 },
        deadline_spread: 0.3,
        profile: {
          points_ms: [
            [1, 4],
            [2, 5],
            [4, 8],
            [8, 14],
          ],
        },
        arrivals: { process: "gamma", rate_per_s: 40, cv: 2 },
      },
      {
        name: "lenient",
        max_batch: 8,
        slo_ms: 60,
        explicit_deadlines: false,
        profile: { alpha_ms: 1, beta_ms: 6 },
        arrivals: { process: "uniform", rate_per_s: 30 },
      },
    ],
    best_effort: [{ model: "quick", backlog: "infinite" }],
    ...changes,
  };
}

export function smallScenario(changes: Record<string, unknown> = {}): Scenario {
  return parseScenario(smallScenarioJson(changes), "small");
}

/** A model that is asked for more than it can answer in time, and one that could stand in for it. */
export const OVERLOADED = {
  name: "heavy",
  max_batch: 16,
  slo_ms: 100,
  profile: { alpha_ms: 4, beta_ms: 6 },
  arrivals: { process: "poisson", rate_per_s: 300 },
};
export const STAND_IN = { name: "small", max_batch: 32, slo_ms: 50, profile: { alpha_ms: 0.3, beta_ms: 1 } };
