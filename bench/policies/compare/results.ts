/** The comparison's result, as written to JSON; scales and shares are plain numbers, 1 for all of it. */
import { nominalRatePerS, planningBoundPerS } from "../../sim/planning-bound.ts";
import type { BoundOutcome, CapacityOutcome, Job, LoadOutcome, Outcome } from "./job.ts";
import type { Question, StudyScenario } from "./study.ts";

export interface ScenarioResults {
  readonly name: string;
  readonly description: string;
  readonly group: string;
  readonly question: Question;
  /** Rates at scale 1 as a share of the planning bound; null where there is none (a trace sets the rates). */
  readonly load: number | null;
  readonly planning_bound_per_s: number | null;
  readonly bound: BoundOutcome | null;
  readonly policies: Readonly<Record<string, CapacityOutcome | LoadOutcome>>;
}

export interface Comparison {
  readonly command: string;
  readonly seeds: readonly number[];
  readonly skipped: string | null;
  readonly scenarios: readonly ScenarioResults[];
}

export function resultsOf(
  study: readonly StudyScenario[],
  jobs: readonly Job[],
  outcomes: readonly Outcome[],
): ScenarioResults[] {
  return study.map(({ scenario, question, group }) => {
    let bound: BoundOutcome | null = null;
    const policies: Record<string, CapacityOutcome | LoadOutcome> = {};
    jobs.forEach((job, i) => {
      if (job.scenario.name !== scenario.name) return;
      const outcome = outcomes[i]!;
      if (outcome.type === "bound") bound = outcome;
      else if (job.type === "policy") policies[job.policy] = outcome;
    });
    const planning = planningBoundPerS(scenario);
    return {
      name: scenario.name,
      description: scenario.description ?? "",
      group,
      question,
      load: planning === null ? null : nominalRatePerS(scenario) / planning,
      planning_bound_per_s: planning,
      bound,
      policies,
    };
  });
}

/** A capacity's scale as a share of the planning bound, or of the rates as they are where there is no bound. */
export function share({ load }: ScenarioResults, scale: number): number {
  return scale * (load ?? 1);
}
