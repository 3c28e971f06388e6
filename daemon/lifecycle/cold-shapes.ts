import { setTimeout as delay } from "node:timers/promises";
import type { ShapeProfiles } from "../scheduler/types.ts";
import type { LifecycleLogger, ModelLane } from "./ports.ts";

export interface ColdShapesParts {
  /** Whether the lane has no work with deadlines, and had none for a while. */
  isQuiet(lane: string): boolean;
  /** The lane is prepared for the shape: from now on it may run before deadlines. */
  warmed(lane: string, key: string, profiles: ShapeProfiles): void;
  readonly logger: LifecycleLogger;
  /** Waits until it is worth looking again whether a lane is quiet; some time by default. */
  readonly pause?: () => Promise<void>;
}

const LOOK_MS = 100;
/** Callers choose the shapes: for each model and lane only so many are prepared for. */
const SHAPES_MAX = 64;
/** A shape that the model cannot take, or that takes the lane down, is not tried again and again. */
const FAILURES_MAX = 2;

interface ColdShape {
  readonly key: string;
  readonly shape: string;
}

/**
 * Shapes that requests came with and that a lane has not prepared for, on devices that prepare for each: they run as fill
 * until the lane has time to be prepared, a batch size at a time while nothing with a deadline needs it.
 */
export class ColdShapes {
  readonly #parts: ColdShapesParts;
  /** By lane, then by model: what was asked for. */
  readonly #asked = new Map<string, Map<string, Set<string>>>();
  readonly #waiting = new Map<string, ColdShape[]>();
  readonly #failures = new Map<string, number>();
  readonly #pause: () => Promise<void>;
  #closed = false;

  constructor(parts: ColdShapesParts) {
    this.#parts = parts;
    this.#pause = parts.pause ?? (() => delay(LOOK_MS, undefined, { ref: false }));
  }

  /** A request of this shape is on its way, which the lane is not prepared for. */
  wanted(lane: ModelLane, key: string, shape: string): void {
    const asked = this.#askedOf(lane.lane, key);
    if (asked.has(shape) || asked.size >= SHAPES_MAX || this.#closed) return;
    if ((this.#failures.get(`${key} ${shape}`) ?? 0) >= FAILURES_MAX) return;
    asked.add(shape);
    if (asked.size === SHAPES_MAX) {
      const text = `${key}: requests have come in ${SHAPES_MAX} shapes; more are not prepared for, and run only in idle time`;
      this.#parts.logger.warn({ model: key }, text);
    }
    const waiting = this.#waiting.get(lane.lane);
    if (waiting !== undefined) {
      waiting.push({ key, shape });
      return;
    }
    const queue = [{ key, shape }];
    this.#waiting.set(lane.lane, queue);
    void this.#work(lane, queue);
  }

  /** What it was prepared for went with its process. */
  forgetLane(lane: string): void {
    this.#asked.delete(lane);
  }

  forgetModel(key: string): void {
    for (const models of this.#asked.values()) models.delete(key);
    for (const failed of [...this.#failures.keys()]) if (failed.startsWith(`${key} `)) this.#failures.delete(failed);
  }

  close(): void {
    this.#closed = true;
  }

  #askedOf(lane: string, key: string): Set<string> {
    let models = this.#asked.get(lane);
    if (models === undefined) {
      models = new Map();
      this.#asked.set(lane, models);
    }
    let shapes = models.get(key);
    if (shapes === undefined) {
      shapes = new Set();
      models.set(key, shapes);
    }
    return shapes;
  }

  async #work(lane: ModelLane, queue: ColdShape[]): Promise<void> {
    for (let next = queue.shift(); next !== undefined && !this.#closed; next = queue.shift()) {
      const { key, shape } = next;
      try {
        const profiles = await lane.warm(key, shape, () => this.#quiet(lane.lane));
        this.#parts.warmed(lane.lane, key, profiles);
        this.#parts.logger.info({ model: key, lane: lane.lane, shape }, `${key} is warm for shape ${shape}`);
      } catch (error) {
        if (this.#closed) return;
        const failed = `${key} ${shape}`;
        this.#failures.set(failed, (this.#failures.get(failed) ?? 0) + 1);
        const reason = (error as Error).message;
        this.#parts.logger.warn({ model: key, shape }, `${key}: shape ${shape} could not be warmed: ${reason}`);
      }
    }
    this.#waiting.delete(lane.lane);
  }

  async #quiet(lane: string): Promise<void> {
    while (!this.#closed && !this.#parts.isQuiet(lane)) await this.#pause();
    if (this.#closed) throw new Error("the daemon ends");
  }
}
