/**
 * The slots of a lane: each holds one batch's inputs and outputs. One is executing and the next is gathered; where that waits on the
 * lane already, the outputs of the batch before are still read while a third is gathered. One more than there are is made for a moment.
 */
import { type Arena, mapRegion, OutOfArenaMemory, type Region } from "./arena.ts";

export interface Slot {
  /** null while it is handed over to a thread, where memory is not shared. */
  buffer: ArrayBuffer | null;
  readonly bytes: number;
  /** null where memory is not shared. */
  readonly region: Region | null;
}

export interface SlotEvents {
  /** A region was mapped here and should be mapped at the other side before it is needed. */
  added(region: Region): void;
  removed(region: Region): void;
}

/** Without a second one nothing could be gathered while a batch executes. */
const SLOTS_MIN = 2;

/** Slots do not grow by more for the sake of a shape that may never come again: callers choose the shapes. */
const GROWTH_MAX = 4;
/** … or than to this. */
const GROWTH_BYTES_MAX = 64 * 2 ** 20;

export class SlotPool {
  readonly #arena: Arena | null;
  readonly #events: SlotEvents;
  readonly #wanted: number;
  #capacityBytes = 0;
  #free: Slot[] = [];
  readonly #busy = new Set<Slot>();
  /** Busy slots that will not be used again. */
  readonly #retired = new Set<Slot>();

  /** @param wanted how many slots are kept where there is room; at least two */
  constructor(arena: Arena | null, events: SlotEvents, wanted: number = SLOTS_MIN) {
    this.#arena = arena;
    this.#events = events;
    this.#wanted = wanted;
  }

  get capacityBytes(): number {
    return this.#capacityBytes;
  }

  /** Regions in use at this side, for a thread that starts later. */
  get regions(): Region[] {
    return [...this.#free, ...this.#busy].flatMap(({ region }) => (region === null ? [] : [region]));
  }

  /**
   * Makes slots of this size, as many as are wanted; throws `OutOfArenaMemory`, changing nothing, where not even two can be had.
   * Slots in use stay valid until they are released.
   */
  resize(bytes: number): void {
    if (bytes === this.#capacityBytes) return;
    const made: Slot[] = [];
    try {
      while (bytes > 0 && made.length < this.#wanted) made.push(this.#make(bytes));
    } catch (error) {
      if (made.length < SLOTS_MIN || !(error instanceof OutOfArenaMemory)) {
        for (const slot of made) this.#destroy(slot);
        throw error;
      }
    }
    for (const slot of this.#free) this.#destroy(slot);
    for (const slot of this.#busy) this.#retired.add(slot);
    this.#free = made;
    this.#capacityBytes = bytes;
  }

  /**
   * A slot of at least this size, or where memory is short or the size out of all proportion, of `leastBytes`; null where none is free
   * and no extra one is wanted. Throws `OutOfArenaMemory`, changing nothing.
   */
  acquire(bytes: number, extra: boolean, leastBytes: number = bytes): Slot | null {
    const free = this.#free.at(-1);
    if (free === undefined && !extra) return null;
    const outsized = bytes > Math.max(GROWTH_MAX * this.#capacityBytes, GROWTH_BYTES_MAX);
    const slot = outsized ? this.#holding(free, leastBytes) : this.#fitting(free, bytes, leastBytes);
    if (slot === free) this.#free.pop();
    else if (free === undefined || outsized) this.#retired.add(slot);
    else this.#destroy(this.#free.pop()!);
    this.#busy.add(slot);
    return slot;
  }

  release(slot: Slot): void {
    if (!this.#busy.delete(slot)) return;
    // Handed over and never given back, as when a thread died: as good as gone.
    if (slot.buffer === null) slot.buffer = new ArrayBuffer(slot.bytes);
    if (this.#retired.delete(slot)) this.#destroy(slot);
    else this.#free.push(slot);
  }

  /** Gives everything back; for a lane that ends. */
  close(): void {
    for (const slot of [...this.#free, ...this.#busy]) this.#destroy(slot);
    this.#free = [];
    this.#busy.clear();
    this.#retired.clear();
    this.#capacityBytes = 0;
  }

  #fitting(free: Slot | undefined, bytes: number, leastBytes: number): Slot {
    if (free !== undefined && free.bytes >= bytes) return free;
    try {
      // A shape larger than those that were warmed: the slot grows, with room to spare for the next.
      return this.#make(free === undefined ? Math.max(bytes, this.#capacityBytes) : Math.ceil(1.25 * bytes));
    } catch (error) {
      if (!(error instanceof OutOfArenaMemory)) throw error;
      return this.#holding(free, leastBytes);
    }
  }

  #holding(free: Slot | undefined, bytes: number): Slot {
    return free !== undefined && free.bytes >= bytes ? free : this.#make(bytes);
  }

  #make(bytes: number): Slot {
    if (this.#arena === null) return { buffer: new ArrayBuffer(bytes), bytes, region: null };
    const region = this.#arena.reserve(bytes);
    const buffer = mapRegion(this.#arena.fd, region);
    this.#events.added(region);
    return { buffer, bytes: region.bytes, region };
  }

  #destroy(slot: Slot): void {
    slot.buffer = null;
    if (slot.region === null) return;
    this.#events.removed(slot.region);
    this.#arena!.free(slot.region);
  }
}
