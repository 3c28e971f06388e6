import type { Engine, EngineSnapshot } from "./engine/engine.ts";
import type { Device, Inference, InferenceRequest, Reply } from "./engine/ports.ts";
import type { Lifecycle } from "./lifecycle/lifecycle.ts";
import type { ModelHost } from "./lifecycle/ports.ts";
import type { ModelSpec, RequestId, ShapeProfiles } from "./scheduler/types.ts";

/** A lane that had no work with deadlines for so long is likely to have none for a moment longer. */
const QUIET_US = 1_000_000;

/** The engine as the lifecycle of models drives it. */
export class EngineHost implements ModelHost {
  readonly #engine: Engine;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  addModel(spec: ModelSpec): void {
    this.#engine.addModel(spec);
  }

  removeModel(key: string): void {
    this.#engine.removeModel(key);
  }

  addLane(device: Device): void {
    this.#engine.addLane(device);
  }

  removeLane(lane: string): Promise<void> {
    return this.#engine.removeLane(lane);
  }

  loaded(lane: string, key: string, profiles: ShapeProfiles): void {
    this.#engine.loaded(lane, key, profiles);
  }

  unloaded(lane: string, key: string): void {
    this.#engine.unloaded(lane, key);
  }

  isIdle(key: string): boolean {
    const { models, lanes } = this.#engine.snapshot();
    const queued = models.find((queue) => queue.model === key)?.queuedRequests ?? 0;
    return queued === 0 && !lanes.some((lane) => holds(lane, key));
  }

  isQuiet(lane: string): boolean {
    const { models, lanes } = this.#engine.snapshot();
    if (models.some(({ queuedItems, queuedBestEffortItems }) => queuedItems > queuedBestEffortItems)) return false;
    const one = lanes.find((other) => other.lane === lane);
    if (one === undefined || [one.executing, one.following].some((plan) => plan !== null && plan.reason !== "fill")) {
      return false;
    }
    return one.deadlineWorkUs === null || this.#engine.nowUs() - one.deadlineWorkUs >= QUIET_US;
  }

  executes(lane: string, key: string): boolean {
    return this.#engine.snapshot().lanes.some((one) => one.lane === lane && holds(one, key));
  }
}

/** Whether the lane was given a batch of the model that has not ended. */
function holds({ executing, following }: EngineSnapshot["lanes"][number], key: string): boolean {
  return executing?.model === key || following?.model === key;
}

/** The engine as the wire sees it: a request of a shape that no lane has a profile for yet is announced first. */
export class ShapedInference implements Inference {
  readonly #engine: Engine;
  readonly #lifecycle: Lifecycle;

  constructor(engine: Engine, lifecycle: Lifecycle) {
    this.#engine = engine;
    this.#lifecycle = lifecycle;
  }

  nowUs(): number {
    return this.#engine.nowUs();
  }

  submit(request: InferenceRequest, reply: Reply): RequestId {
    if (request.shape !== "") this.#lifecycle.announceShape(request.model, request.shape);
    return this.#engine.submit(request, reply);
  }

  cancel(id: RequestId): void {
    this.#engine.cancel(id);
  }
}
