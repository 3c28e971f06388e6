/** What a run will send and when, all of it decided before the run begins. */
import { ToolError } from "../../tools/command-line/run-tool.ts";
import { count } from "../report/format.ts";
import { ArrivalStream, runLengthUs } from "../scenario/arrivals.ts";
import type { Scenario } from "../scenario/schema.ts";

/** A request with a deadline. Times in microseconds; `atUs` from the start of the run's warm-up. */
export interface PlannedRequest {
  readonly atUs: number;
  readonly model: string;
  readonly tenant: string;
  readonly items: number;
  /** From `atUs`: the answer counts as on time up to here. */
  readonly deadlineUs: number;
  /** Whether the caller states the deadline (false: the daemon applies the model's own SLO). */
  readonly stated: boolean;
}

/** Requests without deadlines, `outstandingMax` of them kept with the daemon until `count` have been sent. */
export interface PlannedBacklog {
  readonly model: string;
  readonly tenant: string;
  /** Items of each request, or the range from which they are drawn evenly. */
  readonly items: number | { readonly min: number; readonly max: number };
  readonly outstandingMax: number;
  readonly count: number;
}

export interface LoadPlan {
  readonly seed: number;
  /** In order of `atUs`. */
  readonly requests: readonly PlannedRequest[];
  readonly backlogs: readonly PlannedBacklog[];
  /** Every model that is sent to, in the order in which reports list them. */
  readonly models: readonly string[];
  /** Requests scheduled before the warm-up's end are sent and not counted. */
  readonly warmupUs: number;
  readonly measureUs: number;
}

/** What may stand in place of a scenario's own values. */
export interface PlanOptions {
  readonly seed?: number | undefined;
  /** Multiplies all rates; 1 by default. */
  readonly scale?: number | undefined;
  readonly warmupS?: number | undefined;
  readonly measureS?: number | undefined;
}

/** A plan is held in memory, some 200 bytes a request. */
const REQUESTS_MAX = 5_000_000;
/** Batches of a model that an infinite backlog keeps with the daemon. */
const BACKLOG_BATCHES = 4;

/**
 * Draws all requests of a run; the same scenario and options give the same plan.
 *
 * @throws {ScenarioError} where the scenario's trace cannot be used
 * @throws {ToolError} where there are too many
 */
export function planLoad(scenario: Scenario, options: PlanOptions = {}): LoadPlan {
  const run: Scenario = {
    ...scenario,
    warmup_s: options.warmupS ?? scenario.warmup_s,
    measure_s: options.measureS ?? scenario.measure_s,
  };
  // Known before the first is drawn where rates stay what they are.
  const perS = run.models.reduce(
    (sum, { arrivals: { rate_per_s = 0, curve } = {} }) => sum + (curve ? 0 : rate_per_s),
    0,
  );
  if ((perS * (options.scale ?? 1) * runLengthUs(run)) / 1e6 > REQUESTS_MAX) throw tooMany(run);
  const arrivals = new ArrivalStream(run, {
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    ...(options.scale === undefined ? {} : { scale: options.scale }),
  });
  const requests: PlannedRequest[] = [];
  for (const { atUs, model, items, budgetUs, explicit } of arrivals) {
    if (requests.length === REQUESTS_MAX) throw tooMany(run);
    const { name, tenant } = run.models[model]!;
    requests.push({ atUs, model: name, tenant, items, deadlineUs: budgetUs, stated: explicit });
  }
  const backlogs = run.best_effort.map(({ model, backlog, outstanding, items, tenant }): PlannedBacklog => {
    const own = run.models.find(({ name }) => name === model)!;
    return {
      model,
      tenant,
      items: items ?? own.items,
      outstandingMax: outstanding ?? BACKLOG_BATCHES * own.max_batch,
      count: backlog === "infinite" ? Number.POSITIVE_INFINITY : backlog,
    };
  });
  const used = new Set([...requests.map(({ model }) => model), ...backlogs.map(({ model }) => model)]);
  return {
    seed: options.seed ?? scenario.seed,
    requests,
    backlogs,
    models: run.models.map(({ name }) => name).filter((name) => used.has(name)),
    warmupUs: Math.round(run.warmup_s * 1e6),
    measureUs: runLengthUs(run, options.scale) - Math.round(run.warmup_s * 1e6),
  };
}

function tooMany({ name }: Scenario): ToolError {
  return new ToolError(
    `${name} comes to more than ${count(REQUESTS_MAX)} requests: a shorter --duration or a smaller --scale makes it fewer`,
  );
}
