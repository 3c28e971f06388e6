/** Locks memory into place for a GPU that copies from and to it: the slots that a thread's batches use, and those of trial runs. */
import { Arena, type Mapping, mappingOf, mapRegion, unmapNow } from "./arena.ts";
import { CudaDevice } from "./cuda-device.ts";
import type { Provider } from "./provider.ts";
import { HEAP, type TrialMemory } from "./trial-memory.ts";

/** Locking takes milliseconds: a slot that was made for one batch is not worth it. */
const USES_BEFORE = 2;

/** Of a device what locks memory; throws with the reason where that does not work. */
export interface LockingDevice {
  lock(mapping: Mapping): void;
  unlock(mapping: Mapping): void;
}

export class PageLocks {
  /** undefined: no model has asked for it yet; null: there is none to lock for, or it can't be used. */
  #device: LockingDevice | null | undefined;
  readonly #uses = new WeakMap<ArrayBuffer, number>();
  readonly #warn: (problem: string) => void;
  readonly #open: (deviceId: number) => LockingDevice;
  #warned = false;

  /** @param warn told once where it does not work: all goes on without, only slower */
  constructor(warn: (problem: string) => void, open: (deviceId: number) => LockingDevice = CudaDevice.open) {
    this.#warn = warn;
    this.#open = open;
  }

  /** For the trial runs of a model on this provider, whose profile would else be of slower copies than its batches'. */
  trialMemory({ name, deviceId }: Provider): TrialMemory {
    if (name !== "cuda") return HEAP;
    return { take: (bytes) => this.#take(bytes, deviceId), giveBack: (buffer) => this.giveUp(buffer) };
  }

  /** After a batch used the slot, once its answer is on its way. */
  used(slot: ArrayBuffer): void {
    const device = this.#device;
    if (!device) return;
    const uses = (this.#uses.get(slot) ?? 0) + 1;
    this.#uses.set(slot, uses);
    if (uses === USES_BEFORE) this.#try(() => device.lock(mappingOf(slot)!));
  }

  /** Unmaps what nothing will touch any more, locked or not. */
  giveUp(buffer: ArrayBuffer): void {
    const mapping = mappingOf(buffer);
    if (mapping === undefined) return;
    this.#try(() => this.#device?.unlock(mapping));
    unmapNow(buffer);
  }

  #take(bytes: number, deviceId: number): ArrayBuffer {
    if (this.#device === undefined) {
      this.#device = null;
      this.#try(() => {
        this.#device = this.#open(deviceId);
      });
    }
    const device = this.#device;
    if (device === null) return HEAP.take(bytes);
    return (
      this.#try(() => {
        const buffer = mapAlone(bytes);
        this.#try(() => device.lock(mappingOf(buffer)!));
        return buffer;
      }) ?? HEAP.take(bytes)
    );
  }

  #try<Result>(use: () => Result): Result | undefined {
    try {
      return use();
    } catch (error) {
      if (!this.#warned) this.#warn((error as Error).message);
      this.#warned = true;
      return undefined;
    }
  }
}

/** Memory by the page, which the heap's is not, and which goes with its mapping. */
function mapAlone(bytes: number): ArrayBuffer {
  const arena = Arena.open();
  try {
    return mapRegion(arena.fd, arena.reserve(bytes));
  } finally {
    arena.close();
  }
}
