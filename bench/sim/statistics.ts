import type { EngineObserver } from "../../daemon/engine/observer.ts";
import type { Execution, ExecutionResult, Outcome, RequestTimings } from "../../daemon/engine/ports.ts";
import type { DeviceFigures, Figures } from "./result.ts";
import { Samples } from "./samples.ts";

/** A request with a deadline, as its caller knows it: whichever model answers, it is one of the model that was asked for. */
export interface OfferedRequest {
  readonly model: string;
  readonly arrivedUs: number;
  readonly deadlineUs: number;
}

class ModelStatistics {
  offered = 0;
  onTime = 0;
  late = 0;
  readonly shed = new Map<string, number>();
  fallback = 0;
  readonly latencyUs = new Samples();
  batches = 0;
  items = 0;
  bestEffortAnswered = 0;
  bestEffortItems = 0;

  figures(measuredS: number): Figures {
    const shed = [...this.shed.values()].reduce((sum, n) => sum + n, 0);
    return {
      offered: this.offered,
      on_time: this.onTime,
      late: this.late,
      shed,
      shed_causes: Object.fromEntries(this.shed),
      fallback: this.fallback,
      attainment: this.offered === 0 ? 1 : this.onTime / this.offered,
      goodput_per_s: this.onTime / measuredS,
      latency_ms: this.latencyUs.latencyMs(),
      batch_size_mean: this.batches === 0 ? null : this.items / this.batches,
      best_effort: { answered: this.bestEffortAnswered, items_per_s: this.bestEffortItems / measuredS },
    };
  }

  add(other: ModelStatistics): void {
    this.offered += other.offered;
    this.onTime += other.onTime;
    this.late += other.late;
    for (const [cause, n] of other.shed) this.shed.set(cause, (this.shed.get(cause) ?? 0) + n);
    this.fallback += other.fallback;
    this.latencyUs.addAll(other.latencyUs);
    this.batches += other.batches;
    this.items += other.items;
    this.bestEffortAnswered += other.bestEffortAnswered;
    this.bestEffortItems += other.bestEffortItems;
  }
}

class DeviceStatistics {
  lanes = 0;
  busyUs = 0;
  bestEffortUs = 0;
  executions = 0;
  items = 0;
  buckets = 0;

  figures(measuredUs: number): DeviceFigures {
    const available = this.lanes * measuredUs;
    return {
      busy_share: this.busyUs / available,
      best_effort_share: this.bestEffortUs / available,
      batch_size_mean: this.executions === 0 ? 0 : this.items / this.executions,
      executions: this.executions,
      padding_share: this.buckets === 0 ? 0 : 1 - this.items / this.buckets,
    };
  }
}

/** Counts what becomes of the requests of a run, and what the engine tells of executions. */
export class Statistics implements EngineObserver {
  /** Requests with a deadline that have arrived and not ended. */
  open = 0;
  readonly #fromUs: number;
  readonly #toUs: number;
  readonly #models = new Map<string, ModelStatistics>();
  readonly #devices = new Map<string, DeviceStatistics>();
  readonly #deviceOfLane: ReadonlyMap<string, string>;
  readonly #startedUs = new Map<string, number>();

  /** @param deviceOfLane names the device of each lane */
  constructor(models: readonly string[], deviceOfLane: ReadonlyMap<string, string>, fromUs: number, toUs: number) {
    this.#fromUs = fromUs;
    this.#toUs = toUs;
    for (const model of models) this.#models.set(model, new ModelStatistics());
    this.#deviceOfLane = deviceOfLane;
    for (const device of deviceOfLane.values()) {
      const known = this.#devices.get(device) ?? new DeviceStatistics();
      known.lanes++;
      this.#devices.set(device, known);
    }
  }

  #within(nowUs: number): boolean {
    return nowUs >= this.#fromUs && nowUs < this.#toUs;
  }

  offered({ model, arrivedUs }: OfferedRequest): void {
    this.open++;
    if (this.#within(arrivedUs)) this.#models.get(model)!.offered++;
  }

  /** @param instead whether the model's fallback answered */
  replied(
    { model: name, arrivedUs, deadlineUs }: OfferedRequest,
    outcome: Outcome,
    instead: boolean,
    nowUs: number,
  ): void {
    this.open--;
    if (!this.#within(arrivedUs)) return;
    const model = this.#models.get(name)!;
    if (outcome.type === "shed") {
      model.shed.set(outcome.cause, (model.shed.get(outcome.cause) ?? 0) + 1);
      return;
    }
    if (outcome.type !== "answered") throw new Error(`a simulated request ended with ${outcome.type}`);
    if (nowUs <= deadlineUs) model.onTime++;
    else model.late++;
    if (instead) model.fallback++;
    model.latencyUs.add(nowUs - arrivedUs);
  }

  started({ plan }: Execution, nowUs: number): void {
    this.#startedUs.set(plan.lane, nowUs);
    if (!this.#within(nowUs)) return;
    const device = this.#deviceOf(plan.lane);
    device.executions++;
    device.items += plan.items;
    device.buckets += plan.bucket;
    const model = this.#models.get(plan.model)!;
    model.batches++;
    model.items += plan.items;
  }

  ended(
    { plan, requests }: Execution,
    result: ExecutionResult,
    timings: readonly (RequestTimings | null)[],
    nowUs: number,
  ): void {
    if (!result.ok) throw new Error(`a virtual lane failed: ${result.message}`);
    const model = this.#models.get(plan.model)!;
    let deadlines = 0;
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i]!;
      if (request.deadlineUs === null) {
        if (timings[i] === null || !this.#within(nowUs)) continue;
        model.bestEffortAnswered++;
        model.bestEffortItems += request.items;
        continue;
      }
      deadlines++;
    }
    const us = Math.min(nowUs, this.#toUs) - Math.max(this.#startedUs.get(plan.lane)!, this.#fromUs);
    if (us <= 0) return;
    const device = this.#deviceOf(plan.lane);
    device.busyUs += us;
    if (deadlines === 0) device.bestEffortUs += us;
  }

  #deviceOf(lane: string): DeviceStatistics {
    return this.#devices.get(this.#deviceOfLane.get(lane)!)!;
  }

  figures(): { total: Figures; models: Record<string, Figures>; devices: Record<string, DeviceFigures> } {
    const measuredUs = this.#toUs - this.#fromUs;
    const total = new ModelStatistics();
    const models: Record<string, Figures> = {};
    for (const [name, model] of this.#models) {
      models[name] = model.figures(measuredUs / 1e6);
      total.add(model);
    }
    const devices: Record<string, DeviceFigures> = {};
    for (const [name, device] of this.#devices) devices[name] = device.figures(measuredUs);
    return { total: total.figures(measuredUs / 1e6), models, devices };
  }
}
