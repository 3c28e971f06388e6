import { Engine } from "../../daemon/engine/engine.ts";
import { Fallbacks, type ReplaceableCall } from "../../daemon/engine/fallback.ts";
import type { EngineObserver } from "../../daemon/engine/observer.ts";
import type { InferenceRequest, Reply } from "../../daemon/engine/ports.ts";
import type { Recorder } from "../../daemon/engine/recording.ts";
import type { RequestId, Scheduler, SchedulerOptions } from "../../daemon/scheduler/types.ts";
import { type Arrival, ArrivalStream, runLengthUs } from "../scenario/arrivals.ts";
import { toProfile } from "../scenario/profile.ts";
import { Random } from "../scenario/random.ts";
import { batchMax, deviceLanes, replicaLanes, ScenarioError } from "../scenario/schema.ts";
import type { BestEffortSpec, Scenario, ScenarioModel } from "../scenario/types.ts";
import { EventQueue, SimEvent } from "./event-queue.ts";
import { nominalRatePerS, planningBoundPerS } from "./planning-bound.ts";
import type { SimulationResult } from "./result.ts";
import { type OfferedRequest, Statistics } from "./statistics.ts";
import { VirtualClock } from "./virtual-clock.ts";
import { VirtualDevice } from "./virtual-device.ts";

export interface SimulationOptions {
  /** Makes the scheduler to run; given what the scenario says of fairness, shares and gathering. */
  readonly scheduler: (options: SchedulerOptions) => Scheduler;
  /** Name of the policy, for the result. */
  readonly policy: string;
  /** In place of the scenario's own. */
  readonly seed?: number;
  /** Multiplies all rates. */
  readonly scale?: number;
  readonly observers?: readonly EngineObserver[];
  readonly recorder?: Recorder;
}

/** Events at one instant after which a run is taken to be stuck. */
const EVENTS_PER_INSTANT_MAX = 1_000_000;

/**
 * Runs a scenario in virtual time, with the daemon's engine. The same scenario, policy, seed and scale give the same run.
 *
 * @throws {ScenarioError} where models have no profile, or the trace is unusable
 */
export function simulate(scenario: Scenario, options: SimulationOptions): SimulationResult {
  return new Simulation(scenario, options).run();
}

class Simulation {
  readonly #scenario: Scenario;
  readonly #options: SimulationOptions;
  readonly #seed: number;
  readonly #events = new EventQueue();
  readonly #devices: VirtualDevice[] = [];
  readonly #deviceOfLane = new Map<string, string>();
  readonly #statistics: Statistics;
  readonly #engine: Engine;
  readonly #backlogs: Backlog[] = [];
  readonly #endUs: number;

  constructor(scenario: Scenario, options: SimulationOptions) {
    requireProfiles(scenario);
    this.#scenario = scenario;
    this.#options = options;
    this.#seed = options.seed ?? scenario.seed;
    this.#endUs = runLengthUs(scenario, options.scale);
    this.#makeDevices();
    this.#statistics = new Statistics(
      scenario.models.map(({ name }) => name),
      this.#deviceOfLane,
      Math.round(scenario.warmup_s * 1e6),
      this.#endUs,
    );
    this.#engine = new Engine({
      clock: new VirtualClock(this.#events),
      scheduler: options.scheduler({
        fairness: scenario.fairness,
        bestEffortShareMin: scenario.best_effort_share_min,
        tenantWeights: scenario.tenant_weights,
        gatherUs: Math.round(scenario.gather_ms * 1000),
        handoverUs: Math.round(scenario.handover_ms * 1000),
      }),
      observers: [this.#statistics, ...(options.observers ?? [])],
      explain: false,
      ...(options.recorder === undefined ? {} : { recorder: options.recorder }),
    });
    this.#load();
  }

  #makeDevices(): void {
    for (const device of this.#scenario.devices) {
      for (const lane of deviceLanes(device)) this.#makeDevice(lane, device.name, "device");
    }
    for (const model of this.#scenario.models) {
      for (const lane of replicaLanes(model)) this.#makeDevice(lane, "cpu", "replica");
    }
  }

  #makeDevice(lane: string, device: string, kind: "device" | "replica"): void {
    const { noise, gather_ms, handover_ms } = this.#scenario;
    const random = new Random(this.#seed, `noise:${lane}`);
    const gatherUs = Math.round(gather_ms * 1000);
    const handoverUs = kind === "device" ? Math.round(handover_ms * 1000) : 0;
    this.#devices.push(new VirtualDevice({ lane, kind, events: this.#events, noise, random, gatherUs, handoverUs }));
    this.#deviceOfLane.set(lane, device);
  }

  /** Puts lanes into service and models onto them, telling the scheduler profiles that may be off. */
  #load(): void {
    const { devices, models, profile_error, best_effort } = this.#scenario;
    for (const device of this.#devices) this.#engine.addLane(device);
    for (const model of models) {
      this.#engine.addModel({
        model: model.name,
        maxBatch: batchMax(model),
        sloUs: Math.round(model.slo_ms * 1000),
        weight: model.weight,
        minShare: model.min_share,
        shedImplicit: model.shed,
        queueItemsMax: model.queue_items_max,
        queueBytesMax: Number.MAX_SAFE_INTEGER,
      });
      const random = new Random(this.#seed, `profile:${model.name}`);
      const told = 1 + profile_error * (2 * random.uniform() - 1);
      const replicas = new Set(replicaLanes(model));
      for (const device of this.#devices) {
        const name = this.#deviceOfLane.get(device.lane)!;
        if (device.kind === "replica") {
          if (replicas.has(device.lane)) this.#loadOn(device, model, model.cpu_replicas!.profile, 1, told);
        } else if (model.devices === undefined || model.devices.includes(name)) {
          const { speed } = devices.find((candidate) => candidate.name === name)!;
          this.#loadOn(device, model, model.profile!, 1 / speed, told);
        }
      }
    }
    for (const spec of best_effort) {
      const model = models.find(({ name }) => name === spec.model)!;
      this.#backlogs.push(new Backlog(this.#engine, model, spec, this.#seed));
    }
  }

  #loadOn(
    device: VirtualDevice,
    model: ScenarioModel,
    spec: NonNullable<ScenarioModel["profile"]>,
    factor: number,
    told: number,
  ): void {
    device.load(model.name, toProfile(spec, batchMax(model), factor), model.time_ratios);
    this.#engine.loaded(device.lane, model.name, { "": toProfile(spec, batchMax(model), factor * told) });
  }

  run(): SimulationResult {
    const { seed, scale = 1 } = this.#options;
    const scenario = this.#scenario;
    const stream = new ArrivalStream(scenario, { scale, ...(seed === undefined ? {} : { seed }) });
    const source = new ArrivalSource(this.#events, this.#engine, this.#statistics, scenario, stream);
    for (const backlog of this.#backlogs) backlog.fill();
    this.#runUntil(() => source.done && this.#statistics.open === 0 && this.#events.nowUs >= this.#endUs);
    // What is left has no deadline: it would only keep the devices busy for ever.
    for (const backlog of this.#backlogs) backlog.cancel();
    this.#runUntil(() => this.#devices.every((device) => !device.busy));
    return this.#result(scale);
  }

  #runUntil(done: () => boolean): void {
    let instantUs = -1;
    let events = 0;
    while (!done()) {
      if (!this.#events.next()) {
        if (this.#statistics.open === 0) return;
        throw new Error(`${this.#statistics.open} requests wait, but nothing is due: the policy lost a wake-up`);
      }
      if (this.#events.nowUs !== instantUs) {
        instantUs = this.#events.nowUs;
        events = 0;
      } else if (++events > EVENTS_PER_INSTANT_MAX) {
        throw new Error(`time stands still at ${instantUs} µs: the policy asks to be woken again and again`);
      }
    }
  }

  #result(scale: number): SimulationResult {
    const { name, warmup_s } = this.#scenario;
    const { total, models, devices } = this.#statistics.figures();
    const bound = planningBoundPerS(this.#scenario);
    const offered = Object.values(models).filter((figures) => figures.offered > 0);
    return {
      scenario: name,
      policy: this.#options.policy,
      seed: this.#seed,
      scale,
      warmup_s,
      measured_s: (this.#endUs - Math.round(warmup_s * 1e6)) / 1e6,
      planning_bound_per_s: bound,
      load: bound === null ? null : (scale * nominalRatePerS(this.#scenario)) / bound,
      total,
      models,
      attainment_worst_model: offered.reduce((worst, { attainment }) => Math.min(worst, attainment), 1),
      devices,
    };
  }
}

function requireProfiles({ name, models }: Scenario): void {
  const problems: string[] = [];
  models.forEach((model, i) => {
    if (model.profile === undefined && model.devices?.length !== 0) {
      problems.push(`models[${i}].profile: '${model.name}' needs a profile to be simulated`);
    }
  });
  if (problems.length > 0) throw new ScenarioError(`scenario '${name}'`, problems);
}

function requestOf(
  model: ScenarioModel,
  items: number,
  deadlineUs: number | null,
  explicit: boolean,
): InferenceRequest {
  const { name, tenant } = model;
  return { model: name, items, shape: "", inputs: [], outputs: null, deadlineUs, explicit, expiresUs: null, tenant };
}

/** Submits the stream's arrivals, each at its time. */
class ArrivalSource extends SimEvent {
  readonly #events: EventQueue;
  readonly #engine: Engine;
  readonly #fallbacks: Fallbacks;
  readonly #statistics: Statistics;
  readonly #models: readonly ScenarioModel[];
  /** Of the models, in the same order; undefined where a model has no fallback. */
  readonly #standIns: readonly (ScenarioModel | undefined)[];
  readonly #stream: ArrivalStream;
  #next: Arrival | null = null;

  constructor(events: EventQueue, engine: Engine, statistics: Statistics, scenario: Scenario, stream: ArrivalStream) {
    super();
    this.#events = events;
    this.#engine = engine;
    this.#fallbacks = new Fallbacks(engine);
    this.#statistics = statistics;
    const { models } = scenario;
    this.#models = models;
    this.#standIns = models.map(({ fallback }) => models.find(({ name }) => name === fallback));
    this.#stream = stream;
    this.#prepare();
  }

  get done(): boolean {
    return this.#next === null;
  }

  #prepare(): void {
    this.#next = this.#stream.take();
    if (this.#next !== null) this.#events.schedule(this, this.#next.atUs);
  }

  override fire(): void {
    const { atUs, model, items, budgetUs, explicit } = this.#next!;
    // The next arrival is scheduled first: of several at one instant, all come before what they cause.
    this.#prepare();
    const asked = this.#models[model]!;
    const deadlineUs = atUs + budgetUs;
    const offered: OfferedRequest = { model: asked.name, arrivedUs: atUs, deadlineUs };
    this.#statistics.offered(offered);
    const request = requestOf(asked, items, deadlineUs, explicit);
    const reply: Reply = (outcome, { fallback }) => {
      this.#statistics.replied(offered, outcome, fallback === "instead", this.#events.nowUs);
    };
    const standIn = this.#standIns[model];
    if (standIn === undefined) this.#engine.submit(request, reply);
    else this.#fallbacks.ask(request, replaceable(asked, standIn, request, reply));
  }
}

/** As the daemon takes a request whose model has a fallback. */
function replaceable(
  asked: ScenarioModel,
  standIn: ScenarioModel,
  request: InferenceRequest,
  reply: Reply,
): ReplaceableCall {
  const { items, explicit } = request;
  const deadlineUs = request.deadlineUs!;
  return {
    model: asked.name,
    deadlineUs,
    explicit,
    shedImplicit: asked.shed,
    standIn(_refused, ask) {
      if (items > batchMax(standIn)) return false;
      ask({ ...requestOf(standIn, items, deadlineUs, explicit), tenant: asked.tenant });
      return true;
    },
    again(ask) {
      ask(request);
      return true;
    },
    // Nobody goes before the answer.
    underWay() {},
    fellBack() {},
    reply,
    refused: (refused) => reply(refused!.outcome, refused!.request),
  };
}

/** Best-effort requests of one model: a number of them at the start, or as many as keep the backlog full. */
class Backlog {
  readonly #engine: Engine;
  readonly #model: ScenarioModel;
  readonly #spec: BestEffortSpec;
  readonly #random: Random;
  readonly #queued = new Set<RequestId>();
  #refill: boolean;

  constructor(engine: Engine, model: ScenarioModel, spec: BestEffortSpec, seed: number) {
    this.#engine = engine;
    this.#model = model;
    this.#spec = spec;
    this.#random = new Random(seed, `backlog:${model.name}`);
    this.#refill = spec.backlog === "infinite";
  }

  fill(): void {
    const { backlog, outstanding } = this.#spec;
    const count = backlog === "infinite" ? (outstanding ?? 4 * this.#model.max_batch) : backlog;
    for (let i = 0; i < count; i++) this.#submit();
  }

  cancel(): void {
    this.#refill = false;
    for (const id of this.#queued) this.#engine.cancel(id);
    this.#queued.clear();
  }

  #submit(): void {
    const items = this.#spec.items ?? this.#model.items;
    const count = typeof items === "number" ? items : this.#random.integer(items.min, items.max);
    const request = { ...requestOf(this.#model, count, null, false), tenant: this.#spec.tenant };
    this.#queued.add(this.#engine.submit(request, this.#reply));
  }

  readonly #reply: Reply = ({ type }, { id }) => {
    this.#queued.delete(id);
    // One that was refused is not replaced: the next would be refused as well, at the same instant.
    if (this.#refill && type === "answered") this.#submit();
  };
}
