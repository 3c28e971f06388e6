import type { Device, DeviceEvents, Execution, ExecutionResult } from "../../daemon/engine/ports.ts";
import type { BatchPlan, LaneKind, Profile } from "../../daemon/scheduler/types.ts";
import type { Random } from "../scenario/random.ts";
import { type EventQueue, SimEvent } from "./event-queue.ts";

/** A factor on execution times never strays further from 1 than this many standard deviations. */
export const NOISE_DEVIATIONS_MAX = 3;

export interface VirtualDeviceOptions {
  readonly lane: string;
  readonly kind: LaneKind;
  readonly events: EventQueue;
  /** Standard deviation of execution times relative to the profile. */
  readonly noise: number;
  readonly random: Random;
  readonly gatherUs: number;
  /** How long it stays idle before it executes a batch that was not started behind another. */
  readonly handoverUs: number;
}

interface Run {
  readonly execution: Execution;
  readonly gatherUs: number;
  readonly gatheredAtUs: number;
  readonly executeUs: number;
}

/** A lane that takes as long as its models' profiles say, and computes nothing. */
export class VirtualDevice extends SimEvent implements Device {
  readonly lane: string;
  readonly kind: LaneKind;
  readonly #options: VirtualDeviceOptions;
  /** By model: time by executed bucket, in microseconds. */
  readonly #timesUs = new Map<string, Float64Array>();
  /** By model: factors on its times to draw from, where there are any. */
  readonly #timeRatios = new Map<string, readonly number[]>();
  #attached: DeviceEvents | null = null;
  #running: Run | null = null;
  #following: Run | null = null;
  #staged: BatchPlan | null = null;
  #stagedAtUs = 0;

  constructor(options: VirtualDeviceOptions) {
    super();
    this.lane = options.lane;
    this.kind = options.kind;
    this.#options = options;
  }

  get busy(): boolean {
    return this.#running !== null;
  }

  /** Lets the lane execute a model, in the time that the profile gives for each bucket times one of `timeRatios` or noise. */
  load(model: string, profile: Profile, timeRatios?: readonly number[]): void {
    if (timeRatios !== undefined) this.#timeRatios.set(model, timeRatios);
    const times = new Float64Array(profile.at(-1)!.bucket + 1).fill(Number.NaN);
    for (const { bucket, us } of profile) times[bucket] = us;
    this.#timesUs.set(model, times);
  }

  attach(events: DeviceEvents): void {
    this.#attached = events;
  }

  stage({ plan }: Execution): void {
    this.#staged = plan;
    this.#stagedAtUs = this.#options.events.nowUs;
  }

  start(execution: Execution): void {
    const { plan } = execution;
    const { events } = this.#options;
    if (this.#following !== null) throw new Error(`lane '${this.lane}' was told to start a third batch`);
    const gatherUs = this.#gatherLeftUs(plan);
    const run = { execution, gatherUs, gatheredAtUs: events.nowUs + gatherUs, executeUs: this.#executionUs(plan) };
    this.#staged = null;
    if (this.#running !== null) this.#following = run;
    else this.#execute(run, run.gatheredAtUs + this.#options.handoverUs);
  }

  #execute(run: Run, atUs: number): void {
    this.#running = run;
    this.#options.events.schedule(this, atUs + run.executeUs);
  }

  release(): void {}

  override fire(): void {
    const { execution, gatherUs, executeUs } = this.#running!;
    const following = this.#following;
    this.#running = null;
    this.#following = null;
    if (following !== null) this.#execute(following, Math.max(this.#options.events.nowUs, following.gatheredAtUs));
    const result: ExecutionResult = { ok: true, outputs: NO_OUTPUTS, timings: { gatherUs, executeUs, collectUs: 0 } };
    this.#attached!.ended(this.lane, execution, result);
  }

  /** What of the gathering is still to do: nothing of it, part of it or all, by what was staged and when. */
  #gatherLeftUs(plan: BatchPlan): number {
    const { gatherUs, events } = this.#options;
    if (gatherUs === 0) return 0;
    const staged = this.#staged;
    if (staged === null || staged.model !== plan.model || !isPrefix(plan.ids, staged.ids)) return gatherUs;
    return Math.max(0, this.#stagedAtUs + gatherUs - events.nowUs);
  }

  #executionUs({ model, bucket }: BatchPlan): number {
    const us = this.#timesUs.get(model)?.[bucket];
    if (us === undefined || Number.isNaN(us)) {
      throw new Error(`lane '${this.lane}' was told to run bucket ${bucket} of '${model}', which it does not have`);
    }
    const { noise, random } = this.#options;
    const ratios = this.#timeRatios.get(model);
    if (ratios !== undefined) return Math.max(1, Math.round(us * ratios[random.integer(0, ratios.length - 1)]!));
    if (noise === 0) return us;
    let z = random.normal();
    while (Math.abs(z) > NOISE_DEVIATIONS_MAX) z = random.normal();
    return Math.max(1, Math.round(us * (1 + noise * z)));
  }
}

const NO_OUTPUTS: readonly [] = [];

function isPrefix(ids: readonly number[], of: readonly number[]): boolean {
  if (ids.length > of.length) return false;
  for (let i = 0; i < ids.length; i++) if (ids[i] !== of[i]) return false;
  return true;
}
