/** One policy on one scenario: what a worker is given and what it returns. */
import type { Scenario } from "../../scenario/types.ts";
import type { Question } from "./study.ts";

export interface PolicyJob {
  readonly type: "policy";
  readonly scenario: Scenario;
  readonly question: Question;
  readonly policy: string;
  readonly seeds: readonly number[];
}

export interface BoundJob {
  readonly type: "bound";
  readonly scenario: Scenario;
  readonly seed: number;
}

export type Job = PolicyJob | BoundJob;

/** Mean over the seeds, with the standard deviation between them. */
export interface Spread {
  readonly mean: number;
  readonly deviation: number;
}

export interface CapacityOutcome {
  readonly type: "capacity";
  /** Largest scales with 99 % of all requests, and of every model's, on time. */
  readonly all: Spread;
  readonly worst: Spread;
  readonly variant: string;
  readonly variant_worst: string;
}

export interface LoadOutcome {
  readonly type: "load";
  readonly attainment: Spread;
  readonly attainment_worst_model: Spread;
  readonly best_effort_share: Spread;
  readonly p99_ms: Spread;
  readonly variant: string;
}

export interface BoundOutcome {
  readonly type: "bound";
  /** Scale from which on no schedule has 99 % on time; null where nothing is excluded. */
  readonly scale: number | null;
  readonly exact: boolean;
}

export type Outcome = CapacityOutcome | LoadOutcome | BoundOutcome;
