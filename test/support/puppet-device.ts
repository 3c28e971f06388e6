import type {
  Device,
  DeviceEvents,
  Execution,
  ExecutionTimings,
  UnreadableRequests,
} from "../../daemon/engine/ports.ts";
import type { Tensor } from "../../daemon/engine/tensors.ts";
import type { LaneKind } from "../../daemon/scheduler/types.ts";

const TIMINGS: ExecutionTimings = { gatherUs: 10, executeUs: 1000, collectUs: 5 };

/** A lane that does nothing until told: it shows what it was given, and ends, fails or dies on command. */
export class PuppetDevice implements Device {
  readonly lane: string;
  readonly kind: LaneKind;
  /** What it is executing. */
  running: Execution | null = null;
  /** What it was given meanwhile. */
  following: Execution | null = null;
  /** The batch staged last. */
  staged: Execution | null = null;
  readonly started: Execution[] = [];
  readonly released: Execution[] = [];
  #events: DeviceEvents | null = null;

  constructor(lane = "gpu0", kind: LaneKind = "device") {
    this.lane = lane;
    this.kind = kind;
  }

  attach(events: DeviceEvents): void {
    if (this.#events !== null) throw new Error(`lane '${this.lane}' was attached twice`);
    this.#events = events;
  }

  stage(execution: Execution): void {
    this.staged = execution;
  }

  start(execution: Execution): void {
    if (this.following !== null) throw new Error(`lane '${this.lane}' was told to start a third batch`);
    if (this.running === null) this.running = execution;
    else this.following = execution;
    this.started.push(execution);
  }

  release(execution: Execution): void {
    if (!this.started.includes(execution)) throw new Error(`lane '${this.lane}' never ran what it is told to release`);
    if (this.released.includes(execution)) throw new Error(`lane '${this.lane}' was told twice to release a batch`);
    this.released.push(execution);
  }

  /** Ends the running batch with these outputs. */
  complete(
    outputs: readonly Tensor[] = [],
    timings: Partial<ExecutionTimings> = {},
    unreadable: UnreadableRequests = new Map(),
  ): void {
    const result = { ok: true as const, outputs, timings: { ...TIMINGS, ...timings }, unreadable };
    this.#events!.ended(this.lane, this.#take(), result);
  }

  /** The running batch fails in the runtime. */
  fail(message: string): void {
    this.#events!.ended(this.lane, this.#take(), { ok: false, message, timings: null });
  }

  /** The lane dies, with what it runs. */
  die(reason: string): void {
    this.running = null;
    this.following = null;
    this.#events!.lost(this.lane, reason);
  }

  #take(): Execution {
    if (this.running === null) throw new Error(`lane '${this.lane}' runs nothing`);
    const execution = this.running;
    this.running = this.following;
    this.following = null;
    return execution;
  }
}
