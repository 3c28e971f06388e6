/**
 * The engine's port to one incarnation of a lane: gathers batches into slots, hands them to the session thread of their model,
 * and presents outputs where they lie. Ends for good when the lane is lost; a restarted lane is a new one of these.
 */
import type {
  Device,
  DeviceEvents,
  Execution,
  ExecutionResult,
  ExecutionTimings,
  UnreadableRequests,
} from "../engine/ports.ts";
import type { Tensor, TensorData } from "../engine/tensors.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { LaneKind, RequestId } from "../scheduler/types.ts";
import { type Arena, OutOfArenaMemory } from "./arena.ts";
import { decodeStrings, encodeStrings } from "./frames.ts";
import { gatherRows, gatherStrings } from "./gather.ts";
import { executionLimitMs, type HangLimits, type Timer } from "./hang-limits.ts";
import type { ThreadChannel } from "./lane-host.ts";
import { type BatchLayout, endOfInputs, LayoutCache, product } from "./layout.ts";
import type { FromThread, OutputPlace } from "./messages.ts";
import { type Slot, type SlotEvents, SlotPool } from "./slots.ts";

type Ended = Extract<FromThread, { type: "done" | "failed" }>;

const NONE: UnreadableRequests = new Map();
/** What executes, what follows, and what is gathered behind them while the outputs of the batch before are still read. */
const DEVICE_SLOTS = 3;

interface PlacedModel {
  readonly version: ModelVersion;
  readonly channel: ThreadChannel;
  readonly layouts: LayoutCache;
  /** The largest warmed batch's inputs, and inputs with outputs. */
  readonly warmInputsBytes: number;
  readonly slotBytes: number;
}

interface Gathered {
  readonly execution: Execution;
  readonly slot: Slot;
  readonly unreadable: UnreadableRequests;
  readonly gatherUs: number;
}

/** A batch whose inputs lie ready, and what is told the session thread to execute it. */
interface Prepared extends Gathered {
  readonly channel: ThreadChannel;
  readonly strings: readonly Uint8Array[];
}

/** A batch that could not be prepared. */
interface Unprepared {
  readonly execution: Execution;
  readonly message: string;
  readonly unreadable: UnreadableRequests;
}

/** Started while another executes. */
interface Following {
  readonly batch: Prepared | Unprepared;
  /** Whether its thread has been told, and executes it as soon as the other has ended. */
  readonly sent: boolean;
  /** Tells its end, where a thread told that before the end of what executes was read. */
  ended: (() => void) | null;
}

/** Told by the device to whoever supervises the lane. */
export interface DeviceObserver {
  /** Only a new process helps. */
  fatal(model: string, message: string): void;
  /** A batch does not end. */
  hung(model: string, reason: string): void;
  /** Whether trial runs of a model that loads take turns with batches. */
  occupied(): boolean;
}

export class LaneDevice implements Device {
  readonly lane: string;
  readonly kind: LaneKind;
  readonly #observer: DeviceObserver;
  readonly #pool: SlotPool;
  readonly #models = new Map<string, PlacedModel>();
  #events: DeviceEvents | null = null;
  #staged: Gathered | null = null;
  readonly #limits: HangLimits;
  #running: Prepared | Unprepared | null = null;
  /** When what runs was begun. */
  #begunAtMs = 0;
  #following: Following | null = null;
  #watch: Timer | null = null;
  /** Slots whose outputs are still read, by execution. */
  readonly #held = new Map<number, Slot>();
  /** Batches that were sent to session threads: they execute in that order. */
  #turns = 0;
  #lost = false;

  constructor(lane: string, kind: LaneKind, arena: Arena | null, limits: HangLimits, observer: DeviceObserver) {
    this.lane = lane;
    this.kind = kind;
    this.#limits = limits;
    this.#observer = observer;
    const events: SlotEvents = {
      added: (region) => this.#tellAll({ type: "map", region }),
      removed: (region) => this.#tellAll({ type: "unmap", region }),
    };
    this.#pool = new SlotPool(arena, events, kind === "device" ? DEVICE_SLOTS : undefined);
  }

  /** The model that is executing, null while idle. */
  get executing(): string | null {
    const running = this.#running;
    return running !== null && "slot" in running ? running.execution.plan.model : null;
  }

  attach(events: DeviceEvents): void {
    this.#events = events;
  }

  stage(execution: Execution): void {
    if (this.#lost || !this.#models.has(execution.plan.model)) return;
    try {
      this.#staged = this.#gather(execution, false);
    } catch {
      // What is wrong with it will come up again, and be told, when it starts.
      this.#staged = null;
    }
  }

  start(execution: Execution): void {
    if (this.#lost) return;
    if (this.#following !== null) throw new Error(`lane ${this.lane} was told to start a third batch`);
    const batch = this.#prepare(execution);
    if (this.#running === null) {
      this.#begin(batch, false);
      return;
    }
    // Batches that lie ready on the lane would keep trial runs from ever getting a turn.
    const sent = "slot" in batch && !this.#observer.occupied();
    if (sent) this.#send(batch);
    this.#following = { batch, sent, ended: null };
  }

  #prepare(execution: Execution): Prepared | Unprepared {
    const { plan } = execution;
    const model = this.#models.get(plan.model);
    if (model === undefined) {
      return { execution, message: `model "${plan.model}" is not loaded on lane ${this.lane}`, unreadable: NONE };
    }
    let gathered: Gathered;
    let strings: Uint8Array[];
    try {
      strings = this.#strings(model, execution);
      gathered = this.#gather(execution, true)!;
      this.#staged = null;
    } catch (error) {
      this.#dropStaged();
      return { execution, message: error instanceof Error ? error.message : String(error), unreadable: NONE };
    }
    const { slot, unreadable, gatherUs } = gathered;
    if (unreadable.size === execution.requests.length) {
      this.#pool.release(slot);
      return { execution, message: "no request of the batch could be read", unreadable };
    }
    return { execution, slot, unreadable, gatherUs, channel: model.channel, strings };
  }

  #begin(batch: Prepared | Unprepared, sent: boolean): void {
    if (!("slot" in batch)) {
      // Until its end is told it is what runs, and no end of another may be told before.
      this.#running = batch;
      this.#failLater(batch);
      return;
    }
    this.#running = batch;
    this.#begunAtMs = performance.now();
    this.#watchOver(batch.execution);
    if (!sent) this.#send(batch);
  }

  #send({ execution, slot, channel, strings }: Prepared): void {
    const { execution: id, model, shape, bucket } = execution.plan;
    const turn = this.#turns++;
    const run = { type: "run", execution: id, model, shape, bucket, region: slot.region, turn } as const;
    if (slot.region === null) {
      const buffer = slot.buffer!;
      slot.buffer = null;
      channel.send(run, strings, buffer);
    } else {
      channel.send(run, strings);
    }
  }

  release(execution: Execution): void {
    const id = execution.plan.execution;
    const slot = this.#held.get(id);
    if (slot === undefined) return;
    this.#held.delete(id);
    this.#pool.release(slot);
  }

  /** Takes a model that has loaded into service; throws `OutOfArenaMemory` where its batches find no room. */
  place(version: ModelVersion, channel: ThreadChannel, slotBytes: number, warmShapes: readonly string[]): void {
    this.#pool.resize(Math.max(slotBytes, this.#pool.capacityBytes));
    const layouts = new LayoutCache(version);
    const warmInputsBytes = Math.max(0, ...warmShapes.map((shape) => layouts.get(shape).inputsBytes));
    this.#models.set(version.key, { version, channel, layouts, warmInputsBytes, slotBytes });
    for (const region of this.#pool.regions) channel.send({ type: "map", region });
  }

  /** Its batches must have ended or be the one that is executing. */
  remove(model: string): void {
    if (this.#staged?.execution.plan.model === model) this.#dropStaged();
    const others = [...this.#models.values()].filter(({ version }) => version.key !== model);
    const needed = Math.max(0, ...others.map(({ slotBytes }) => slotBytes));
    // While the model still counts, so that its thread is told too of regions that go.
    if (needed < this.#pool.capacityBytes) this.#shrink(needed);
    this.#models.delete(model);
  }

  #shrink(bytes: number): void {
    try {
      this.#pool.resize(bytes);
    } catch (error) {
      // New ones find no room beside the old: these are large enough.
      if (!(error instanceof OutOfArenaMemory)) throw error;
    }
  }

  /** A thread's word on an execution that was started. */
  ended(message: Ended, payload: Uint8Array, buffer: ArrayBuffer | null): void {
    const following = this.#following;
    if (following?.batch.execution.plan.execution === message.execution) {
      following.ended = () => this.#conclude(message, payload, buffer);
      return;
    }
    this.#conclude(message, payload, buffer);
    following?.ended?.();
  }

  #conclude(message: Ended, payload: Uint8Array, buffer: ArrayBuffer | null): void {
    const running = this.#running;
    if (running === null || !("slot" in running) || running.execution.plan.execution !== message.execution) return;
    const { execution, slot, gatherUs, unreadable } = running;
    const waitedUs = Math.round((performance.now() - this.#begunAtMs) * 1000);
    this.#watch?.cancel();
    this.#beginFollowing();
    if (buffer !== null) slot.buffer = buffer;
    if (message.type === "failed") {
      this.#pool.release(slot);
      const { executeUs } = message;
      const timings = executeUs === null ? null : { gatherUs, executeUs, collectUs: Math.max(0, waitedUs - executeUs) };
      if (message.fatal) this.#observer.fatal(execution.plan.model, message.message);
      this.#end(execution, { ok: false, message: message.message, timings }, unreadable);
      return;
    }
    const model = this.#models.get(execution.plan.model);
    if (model === undefined) {
      this.#pool.release(slot);
      this.#end(execution, { ok: false, message: "the model was unloaded", timings: null });
      return;
    }
    const outputs = presentOutputs(model.version, slot.buffer!, message.outputs, payload);
    // The hand-over counts as collecting: what is left of the wait when execution is taken off. Nothing is left where the
    // batch lay ready, and its execution began before the end of the one before was known here.
    const timings: ExecutionTimings = {
      gatherUs,
      executeUs: message.executeUs,
      collectUs: Math.max(0, waitedUs - message.executeUs),
    };
    this.#held.set(execution.plan.execution, slot);
    this.#end(execution, { ok: true, outputs, timings }, unreadable);
  }

  #beginFollowing(): void {
    const following = this.#following;
    this.#running = null;
    this.#following = null;
    if (following !== null) this.#begin(following.batch, following.sent);
  }

  /** The lane is gone. Outputs that are still being read stay readable until they are released. */
  lose(reason: string): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#watch?.cancel();
    for (const batch of [this.#running, this.#following?.batch]) {
      if (batch != null && "slot" in batch) this.#pool.release(batch.slot);
    }
    this.#running = null;
    this.#following = null;
    this.#dropStaged();
    this.#models.clear();
    this.#pool.resize(0);
    this.#events?.lost(this.lane, reason);
  }

  #watchOver({ plan }: Execution): void {
    const predictedUs = plan.steps.reduce((sum, step) => sum + step.predictedUs, 0);
    const limitMs = executionLimitMs(this.#limits, predictedUs);
    const timer = this.#limits.startTimer(limitMs, () => {
      if (this.#observer.occupied()) timer.restart();
      else {
        const predicted = `predicted were ${predictedUs / 1000} ms`;
        this.#observer.hung(plan.model, `a batch of ${plan.model} did not end within ${limitMs} ms (${predicted})`);
      }
    });
    this.#watch = timer;
  }

  #end(execution: Execution, result: ExecutionResult, unreadable: UnreadableRequests = NONE): void {
    this.#events?.ended(this.lane, execution, unreadable.size === 0 ? result : { ...result, unreadable });
  }

  /** Ends are never told from within `start`. */
  #failLater(batch: Unprepared): void {
    const { execution, message, unreadable } = batch;
    setImmediate(() => {
      if (this.#running !== batch) return;
      const following = this.#following;
      this.#beginFollowing();
      this.#end(execution, { ok: false, message, timings: null }, unreadable);
      following?.ended?.();
    });
  }

  #dropStaged(): void {
    if (this.#staged !== null) this.#pool.release(this.#staged.slot);
    this.#staged = null;
  }

  /**
   * Brings the batch into a slot: into the staged one where there is one, keeping the members that both have in front.
   * Returns null where no slot is free and none may be made. After an error nothing is staged.
   */
  #gather(execution: Execution, extraSlot: boolean): Gathered | null {
    const begunMs = performance.now();
    const { plan, requests } = execution;
    const model = this.#models.get(plan.model)!;
    const layout = model.layouts.get(plan.shape);
    const bytes = neededBytes(model, layout);
    // Outputs that find no place in the slot travel in a message.
    const leastBytes = endOfInputs(layout, plan.bucket);
    const staged = this.#staged;
    const alike = staged?.execution.plan.model === plan.model && staged.execution.plan.shape === plan.shape;
    let from = 0;
    let earlierUs = 0;
    const unreadable = new Map<RequestId, Error>();
    let slot: Slot | null;
    if (staged !== null && staged.slot.bytes >= (alike ? leastBytes : bytes)) {
      slot = staged.slot;
      if (alike) {
        from = commonPrefix(staged.execution, execution);
        earlierUs = staged.gatherUs;
        for (const { id } of requests.slice(0, from)) {
          const error = staged.unreadable.get(id);
          if (error !== undefined) unreadable.set(id, error);
        }
      }
    } else {
      this.#dropStaged();
      slot = this.#pool.acquire(bytes, extraSlot, leastBytes);
    }
    if (slot === null) return null;
    try {
      gatherRows(new Uint8Array(slot.buffer!), layout, requests, plan.bucket, from, unreadable);
    } catch (error) {
      this.#pool.release(slot);
      this.#staged = null;
      throw error;
    }
    return { execution, slot, unreadable, gatherUs: earlierUs + Math.round((performance.now() - begunMs) * 1000) };
  }

  #strings(model: PlacedModel, { plan, requests }: Execution): Uint8Array[] {
    const layout = model.layouts.get(plan.shape);
    const parts: Uint8Array[] = [];
    for (const [input, place] of layout.inputs.entries()) {
      if (place.itemBytes < 0) parts.push(encodeStrings(gatherStrings(layout, input, requests, plan.bucket)));
    }
    return parts;
  }

  #tellAll(message: { type: "map" | "unmap"; region: { offset: number; bytes: number } }): void {
    for (const channel of new Set([...this.#models.values()].map((model) => model.channel))) channel.send(message);
  }
}

/** Room for a batch of this shape: outputs of shapes that were never seen are guessed in proportion to the inputs. */
function neededBytes(model: PlacedModel, layout: BatchLayout): number {
  const outputsBytes = model.slotBytes - model.warmInputsBytes;
  const growth = model.warmInputsBytes === 0 ? 1 : Math.max(1, layout.inputsBytes / model.warmInputsBytes);
  return layout.inputsBytes + Math.ceil(outputsBytes * growth);
}

/** How many requests stand first in both, in the same order. */
function commonPrefix(staged: Execution, execution: Execution): number {
  const { ids } = execution.plan;
  let count = 0;
  while (count < ids.length && ids[count] === staged.plan.ids[count]) count++;
  return count;
}

function presentOutputs(
  version: ModelVersion,
  slot: ArrayBuffer,
  places: readonly OutputPlace[],
  payload: Uint8Array,
): Tensor[] {
  let position = 0;
  return version.outputs.map((spec, index): Tensor => {
    const { shape, offset, bytes } = places[index]!;
    let data: TensorData;
    if (offset >= 0) {
      data = new Uint8Array(slot, offset, bytes);
    } else if (spec.datatype === "BYTES") {
      data = decodeStrings(payload, position, product(shape)).elements;
      position += bytes;
    } else {
      data = payload.subarray(position, position + bytes);
      position += bytes;
    }
    return { name: spec.name, datatype: spec.datatype, shape, data };
  });
}
