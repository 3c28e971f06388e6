/** Turns a scenario into its requests: when each comes, for which model, with how many items and which deadline. */
import { Random } from "./random.ts";
import { readTrace, type TraceRow } from "./read.ts";
import { type ArrivalsSpec, type Scenario, ScenarioError, type ScenarioModel } from "./schema.ts";

/** A request with a deadline, as the scenario wants it sent. Times in integer microseconds from the start of the run. */
export interface Arrival {
  readonly atUs: number;
  /** Index into the scenario's `models`. */
  readonly model: number;
  readonly items: number;
  /** Time from arrival to the deadline. */
  readonly budgetUs: number;
  /** Whether the caller states the deadline; false leaves it to the model's SLO. */
  readonly explicit: boolean;
}

export interface ArrivalOptions {
  /** In place of the scenario's own seed. */
  readonly seed?: number;
  /** Multiplies all rates, and a trace's speed; 1 by default. */
  readonly scale?: number;
}

/**
 * Length of a run's arrivals in microseconds: warm-up and measured window, which ends with the trace where that is
 * shorter, since rates over what comes after it would be too low.
 *
 * @param scale multiplies the trace's speed
 * @throws {ScenarioError} where the trace cannot be read, or leaves nothing to measure
 */
export function runLengthUs(scenario: Scenario, scale = 1): number {
  const { trace, warmup_s, measure_s } = scenario;
  const endUs = Math.round((warmup_s + measure_s) * 1e6);
  const lastUs = lastRowUs(scenario);
  if (lastUs === undefined) return endUs;
  const traceEndUs = Math.round(lastUs / (trace!.speed * scale)) + 1;
  if (traceEndUs <= warmup_s * 1e6) {
    const problem = `at this speed it ends after ${traceEndUs / 1e6} s, within the warm-up of ${warmup_s} s, and nothing is left to measure; lower warmup_s, the trace's speed or the scale`;
    throw new ScenarioError(trace!.file, [problem]);
  }
  return Math.min(endUs, traceEndUs);
}

/** Measured windows of a search last at least so many of the longest SLOs: queues need time to grow. */
const WINDOW_SLOS_MIN = 10;

/** Seconds of measured window that tell enough of whether requests are on time. */
export function shortestWindowS({ models, trace, measure_s }: Scenario): number {
  const asked = models.filter(({ arrivals }) => arrivals !== undefined || trace !== undefined);
  const sloMs = asked.reduce((most, { slo_ms }) => Math.max(most, slo_ms), 0);
  return Math.min(measure_s, (WINDOW_SLOS_MIN * sloMs) / 1000);
}

/** The scale up to which a trace lasts for the warm-up and a window that tells enough; Infinity without a trace. */
export function traceScaleMax(scenario: Scenario): number {
  const { trace, warmup_s } = scenario;
  const lastUs = lastRowUs(scenario);
  if (lastUs === undefined) return Number.POSITIVE_INFINITY;
  return Math.max(1, lastUs / 1e6 / trace!.speed / (warmup_s + shortestWindowS(scenario)));
}

/**
 * All arrivals of a run in order of time, up to the end of the measured window. The same seed gives the same arrivals;
 * another scale gives the same pattern, compressed.
 */
export class ArrivalStream implements IterableIterator<Arrival> {
  readonly #sources: Source[];
  readonly #endUs: number;

  /** @throws {ScenarioError} where the trace cannot be read, is too short or names models that the scenario does not have */
  constructor(scenario: Scenario, options: ArrivalOptions = {}) {
    const seed = options.seed ?? scenario.seed;
    const scale = options.scale ?? 1;
    this.#sources = [];
    scenario.models.forEach((model, index) => {
      if (model.arrivals !== undefined) {
        this.#sources.push(new ProcessSource(model, index, model.arrivals, seed, scale));
      }
    });
    if (scenario.trace !== undefined) this.#sources.push(new TraceSource(scenario, seed, scale));
    this.#endUs = runLengthUs(scenario, scale);
  }

  /** The next arrival, or null after the last. */
  take(): Arrival | null {
    let first: Source | null = null;
    for (const source of this.#sources) if (first === null || source.atUs < first.atUs) first = source;
    if (first === null || first.atUs >= this.#endUs) return null;
    return first.take();
  }

  next(): IteratorResult<Arrival> {
    const arrival = this.take();
    return arrival === null ? { done: true, value: undefined } : { done: false, value: arrival };
  }

  [Symbol.iterator](): this {
    return this;
  }
}

/** One ordered sequence of arrivals; `atUs` is the next one's time, Infinity after the last. */
interface Source {
  readonly atUs: number;
  take(): Arrival;
}

/** Draws what one request of a model looks like, apart from its time. */
class RequestShape {
  readonly #model: ScenarioModel;
  readonly #index: number;
  readonly #random: Random;

  constructor(model: ScenarioModel, index: number, seed: number) {
    this.#model = model;
    this.#index = index;
    this.#random = new Random(seed, `shape:${model.name}`);
  }

  /** @param sloUs in place of the model's own SLO, stated by the caller */
  draw(atUs: number, sloUs: number | null): Arrival {
    const { items, deadline_spread, explicit_deadlines, slo_ms } = this.#model;
    const count = typeof items === "number" ? items : this.#random.integer(items.min, items.max);
    const spread = deadline_spread === 0 ? 1 : 1 + deadline_spread * (2 * this.#random.uniform() - 1);
    const budgetUs = Math.round((sloUs ?? slo_ms * 1000) * spread);
    return { atUs, model: this.#index, items: count, budgetUs, explicit: explicit_deadlines || sloUs !== null };
  }
}

/** Arrivals of one model by a renewal process whose rate may change over the run. */
class ProcessSource implements Source {
  atUs = 0;
  readonly #shape: RequestShape;
  readonly #random: Random;
  readonly #spec: ArrivalsSpec;
  readonly #warp: RateWarp;
  /** Position of the next arrival in operational time, where the mean gap is 1. */
  #position = 0;

  constructor(model: ScenarioModel, index: number, spec: ArrivalsSpec, seed: number, scale: number) {
    this.#shape = new RequestShape(model, index, seed);
    this.#random = new Random(seed, `gaps:${model.name}`);
    this.#spec = spec;
    this.#warp = new RateWarp(spec, scale);
    // A periodic caller starts at a random phase, so that callers of equal rate do not beat together.
    this.#advance(spec.process === "uniform" ? this.#random.uniform() : this.#gap());
  }

  #gap(): number {
    if (this.#spec.process === "poisson") return this.#random.exponential();
    if (this.#spec.process === "uniform") return 1;
    const shape = 1 / this.#spec.cv! ** 2;
    return this.#random.gamma(shape) / shape;
  }

  #advance(gap: number): void {
    this.#position += gap;
    this.atUs = Math.round(this.#warp.timeUs(this.#position));
  }

  take(): Arrival {
    const arrival = this.#shape.draw(this.atUs, null);
    this.#advance(this.#gap());
    return arrival;
  }
}

/** Maps operational time (expected arrivals so far) to microseconds, for a rate that is piecewise linear in time. */
class RateWarp {
  readonly #points: readonly (readonly [number, number])[];
  /** The segment that the last answer lay in: its start, the rate there, and the arrivals expected before it. */
  #segment = 0;
  #expected = 0;

  constructor(spec: ArrivalsSpec, scale: number) {
    const perUs = (spec.rate_per_s * scale) / 1e6;
    const points = (spec.curve ?? [[0, 1]]).map(([s, factor]) => [s * 1e6, factor * perUs] as const);
    this.#points = points[0]![0] === 0 ? points : [[0, points[0]![1]], ...points];
  }

  /** Positions must not fall from call to call. */
  timeUs(position: number): number {
    for (;;) {
      const [fromUs, rate] = this.#points[this.#segment]!;
      const left = position - this.#expected;
      const next = this.#points[this.#segment + 1];
      if (next === undefined) return rate === 0 ? Number.POSITIVE_INFINITY : fromUs + left / rate;
      const lengthUs = next[0] - fromUs;
      const mass = ((rate + next[1]) / 2) * lengthUs;
      if (left <= mass && mass > 0) {
        const slope = (next[1] - rate) / lengthUs;
        // Solves rate·t + slope·t²/2 = left in the form that stays exact as the slope goes to 0.
        return fromUs + (2 * left) / (rate + Math.sqrt(Math.max(0, rate * rate + 2 * slope * left)));
      }
      this.#expected += mass;
      this.#segment++;
    }
  }
}

const traces = new Map<string, TraceRow[]>();

/** The last arrival of a scenario's trace, at the speed that it was recorded with; undefined where there is none. */
function lastRowUs({ trace }: Scenario): number | undefined {
  return trace === undefined ? undefined : rowsOf(trace.file).at(-1)?.arrivalUs;
}

function rowsOf(file: string): readonly TraceRow[] {
  let rows = traces.get(file);
  if (rows === undefined) {
    rows = readTrace(file);
    traces.set(file, rows);
  }
  return rows;
}

/** Arrivals as a trace recorded them. */
class TraceSource implements Source {
  atUs = 0;
  readonly #rows: readonly TraceRow[];
  readonly #speed: number;
  readonly #shapes = new Map<string, RequestShape>();
  #row = -1;

  constructor(scenario: Scenario, seed: number, scale: number) {
    const { file, speed, models: renamed = {} } = scenario.trace!;
    const rows = rowsOf(file);
    this.#rows = rows;
    this.#speed = speed * scale;
    const unknown = new Set<string>();
    for (const { model } of rows) {
      if (this.#shapes.has(model)) continue;
      const index = scenario.models.findIndex((m) => m.name === (renamed[model] ?? model));
      if (index < 0) unknown.add(model);
      else this.#shapes.set(model, new RequestShape(scenario.models[index]!, index, seed));
    }
    if (unknown.size > 0) {
      const problem = `the scenario has no model named ${[...unknown].map((m) => `'${m}'`).join(", ")}; map the names in trace.models`;
      throw new ScenarioError(file, [problem]);
    }
    this.#advance();
  }

  #advance(): void {
    const row = this.#rows[++this.#row];
    this.atUs = row === undefined ? Number.POSITIVE_INFINITY : Math.round(row.arrivalUs / this.#speed);
  }

  take(): Arrival {
    const { model, sloUs } = this.#rows[this.#row]!;
    const arrival = this.#shapes.get(model)!.draw(this.atUs, sloUs);
    this.#advance();
    return arrival;
  }
}
