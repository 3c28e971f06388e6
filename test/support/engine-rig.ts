import { Engine, type EngineOptions } from "../../daemon/engine/engine.ts";
import type { InferenceRequest, Outcome } from "../../daemon/engine/ports.ts";
import type { ModelSpec, Profile, RequestId } from "../../daemon/scheduler/types.ts";
import { EdfScheduler } from "./edf-scheduler.ts";
import { ManualClock } from "./manual-clock.ts";
import { PuppetDevice } from "./puppet-device.ts";

/** A model spec with generous limits. */
export function modelSpec(model: string, overrides: Partial<ModelSpec> = {}): ModelSpec {
  return {
    model,
    maxBatch: 4,
    sloUs: 100_000,
    weight: 1,
    minShare: 0,
    shedImplicit: false,
    queueItemsMax: 1000,
    queueBytesMax: 1 << 30,
    ...overrides,
  };
}

/** 1 ms an item on top of 1 ms, every size up to `max` its own bucket. */
export function linearProfile(max: number): Profile {
  return Array.from({ length: max }, (_, i) => ({ bucket: i + 1, us: 1000 * (i + 2) }));
}

/** A request of one item with a deadline 100 ms after the clock's origin. */
export function request(overrides: Partial<InferenceRequest> = {}): InferenceRequest {
  return {
    model: "m",
    items: 1,
    shape: "",
    inputs: [],
    outputs: null,
    deadlineUs: 100_000,
    explicit: true,
    expiresUs: null,
    tenant: "",
    ...overrides,
  };
}

/** An engine on a puppet lane that serves model `m`, and the outcomes of what was submitted through the rig. */
export class EngineRig {
  readonly clock: ManualClock = new ManualClock();
  readonly device: PuppetDevice = new PuppetDevice();
  readonly engine: Engine;
  readonly outcomes: Map<RequestId, Outcome> = new Map();

  constructor(options: Partial<EngineOptions> = {}) {
    this.engine = new Engine({ clock: this.clock, scheduler: new EdfScheduler(), ...options });
    this.engine.addLane(this.device);
    this.engine.addModel(modelSpec("m"));
    this.engine.loaded("gpu0", "m", { "": linearProfile(4) });
  }

  readonly submit = (overrides: Partial<InferenceRequest> = {}): RequestId => {
    return this.engine.submit(request(overrides), (outcome, { id }) => {
      if (this.outcomes.has(id)) throw new Error(`request ${id} was answered twice`);
      this.outcomes.set(id, outcome);
    });
  };
}
