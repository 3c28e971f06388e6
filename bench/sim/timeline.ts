import { readFileSync } from "node:fs";
import path from "node:path";
import type { EngineObserver } from "../../daemon/engine/observer.ts";
import type { AcceptedRequest, Execution, ExecutionResult, RequestTimings } from "../../daemon/engine/ports.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { ShedCause, ShedDetail } from "../../daemon/scheduler/types.ts";
import { count, figure, percent } from "../report/format.ts";
import { seriesColor } from "../report/html.ts";
import type { Scenario } from "../scenario/types.ts";
import { ofBoundText } from "./report.ts";
import type { SimulationResult } from "./result.ts";

const TEMPLATE = path.join(PACKAGE_ROOT, "bench", "sim", "timeline.html");
const PLACEHOLDER = '{"placeholder":"data"}';

/** Colours of the report's palette, after which hues are spaced by the golden angle. */
const PALETTE = 8;
const GOLDEN_ANGLE_DEG = 137.508;

/** How many requests of a model are queued, as steps: time and depth, time and depth, … */
class Depth {
  readonly steps: number[] = [];
  most = 0;
  #now = 0;

  change(by: number, nowUs: number): void {
    this.#now += by;
    this.most = Math.max(this.most, this.#now);
    if (this.steps.at(-2) === nowUs) this.steps[this.steps.length - 1] = this.#now;
    else this.steps.push(nowUs, this.#now);
  }
}

/** Gathers what a run did, and draws it as one page that needs nothing else. */
export class Timeline implements EngineObserver {
  readonly #scenario: Scenario;
  readonly #models: readonly string[];
  readonly #depths: readonly Depth[];
  /** By lane, flat: start, duration, model, items, bucket, requests answered late, best effort (0 or 1). */
  readonly #executions = new Map<string, number[]>();
  /** Flat: time, model, cause. */
  readonly #sheds: number[] = [];
  readonly #causes: string[] = [];
  /** Flat: time, model, microseconds late. */
  readonly #lates: number[] = [];
  readonly #startedUs = new Map<string, number>();
  /** Items of each model's largest batch: what a full bar stands for. */
  readonly #largest: number[];
  #endUs = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#models = scenario.models.map(({ name }) => name);
    this.#depths = scenario.models.map(() => new Depth());
    this.#largest = scenario.models.map(() => 1);
  }

  laneUp(lane: string): void {
    this.#executions.set(lane, []);
  }

  arrived({ model, arrivedUs }: AcceptedRequest): void {
    this.#depths[this.#models.indexOf(model)]!.change(1, arrivedUs);
  }

  started({ plan }: Execution, nowUs: number): void {
    this.#startedUs.set(plan.lane, nowUs);
    const model = this.#models.indexOf(plan.model);
    this.#depths[model]!.change(-plan.ids.length, nowUs);
    this.#largest[model] = Math.max(this.#largest[model]!, plan.items);
  }

  ended(
    { plan, requests }: Execution,
    _result: ExecutionResult,
    timings: readonly (RequestTimings | null)[],
    nowUs: number,
  ): void {
    const model = this.#models.indexOf(plan.model);
    const startUs = this.#startedUs.get(plan.lane)!;
    const late = timings.filter((timing) => timing !== null && timing.lateUs > 0);
    for (const timing of late) this.#lates.push(nowUs, model, timing!.lateUs);
    const fill = requests.every(({ deadlineUs }) => deadlineUs === null) ? 1 : 0;
    this.#executions.get(plan.lane)!.push(startUs, nowUs - startUs, model, plan.items, plan.bucket, late.length, fill);
    this.#endUs = nowUs;
  }

  shed(request: AcceptedRequest, cause: ShedCause, _detail: ShedDetail, nowUs: number): void {
    const model = this.#models.indexOf(request.model);
    if (!this.#causes.includes(cause)) this.#causes.push(cause);
    this.#sheds.push(nowUs, model, this.#causes.indexOf(cause));
    this.#depths[model]!.change(-1, nowUs);
    this.#endUs = Math.max(this.#endUs, nowUs);
  }

  cancelled({ model }: AcceptedRequest, executing: boolean, nowUs: number): void {
    if (!executing) this.#depths[this.#models.indexOf(model)]!.change(-1, nowUs);
  }

  /** The page, with the run's figures at its head. */
  html(result: SimulationResult): string {
    const { warmup_s, measure_s, models } = this.#scenario;
    const data = {
      title: `${result.scenario} under ${result.policy}`,
      subtitle: subtitleOf(result),
      figures: figuresOf(result),
      fromUs: warmup_s * 1e6,
      toUs: (warmup_s + measure_s) * 1e6,
      endUs: Math.max(this.#endUs, 1),
      models: models.map((model, i) => {
        const { offered, attainment, late, shed } = result.models[model.name]!;
        return {
          name: model.name,
          largest: this.#largest[i],
          color: i < PALETTE ? seriesColor(i) : `hsl(${Math.round((i * GOLDEN_ANGLE_DEG) % 360)} 55% 50%)`,
          note: offered === 0 ? "best effort" : `${percent(attainment)} on time`,
          detail: `SLO ${figure(model.slo_ms)} ms; measured: ${count(offered)} offered, ${count(late)} late, ${count(shed)} shed`,
        };
      }),
      lanes: [...this.#executions].map(([name, executions]) => ({
        name,
        executions,
        note: result.devices[name] === undefined ? "" : `busy ${percent(result.devices[name].busy_share)}`,
      })),
      sheds: this.#sheds,
      causes: this.#causes,
      lates: this.#lates,
      depth: this.#depths.map(({ steps }) => steps),
      depthMax: this.#depths.map(({ most }) => most),
    };
    // A name may hold anything: no part of the data may end the script element it stands in.
    const json = JSON.stringify(data).replaceAll("<", "\\u003c");
    return readFileSync(TEMPLATE, "utf8").replace(PLACEHOLDER, () => json);
  }
}

function subtitleOf({ seed, scale, load, measured_s, warmup_s }: SimulationResult): string {
  const parts = [`seed ${seed}`];
  if (scale !== 1) parts.push(`rates × ${figure(scale)}`);
  if (load !== null) parts.push(ofBoundText(load));
  parts.push(`${figure(measured_s)} s measured after ${figure(warmup_s)} s of warm-up`);
  return parts.join(", ");
}

function figuresOf({ total, attainment_worst_model, devices }: SimulationResult): [string, string][] {
  const all = Object.values(devices);
  const mean = (share: (device: (typeof all)[number]) => number): number =>
    all.reduce((sum, device) => sum + share(device), 0) / all.length;
  return [
    ["on time", percent(total.attainment)],
    ["worst model", percent(attainment_worst_model)],
    ["goodput /s", figure(total.goodput_per_s)],
    ["late", count(total.late)],
    ["shed", count(total.shed)],
    ["p99", `${figure(total.latency_ms.p99)} ms`],
    ["busy", percent(mean((device) => device.busy_share))],
    ["best effort", percent(mean((device) => device.best_effort_share))],
  ];
}
