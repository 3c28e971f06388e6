/** Locks the slots that a thread's batches use into place for a GPU that copies from and to them. */
import { mappingOf } from "./arena.ts";
import { CudaDevice } from "./cuda-device.ts";
import type { Provider } from "./provider.ts";

/** Locking takes milliseconds: a slot that was made for one batch is not worth it. */
const USES_BEFORE = 2;

export class PageLocks {
  /** undefined: no model has asked for it yet; null: there is none to lock for, or it can't be used. */
  #device: CudaDevice | null | undefined;
  readonly #uses = new WeakMap<ArrayBuffer, number>();
  readonly #warn: (problem: string) => void;
  #warned = false;

  /** @param warn told once where it does not work: all goes on without, only slower */
  constructor(warn: (problem: string) => void) {
    this.#warn = warn;
  }

  /** Before the slots of a model on this provider are used. */
  prepare({ name, deviceId }: Provider): void {
    if (name !== "cuda" || this.#device !== undefined) return;
    this.#device = null;
    this.#try(() => {
      this.#device = CudaDevice.open(deviceId);
    });
  }

  /** After a batch used the slot, once its answer is on its way. */
  used(slot: ArrayBuffer): void {
    const device = this.#device;
    if (!device) return;
    const uses = (this.#uses.get(slot) ?? 0) + 1;
    this.#uses.set(slot, uses);
    if (uses === USES_BEFORE) this.#try(() => device.lock(mappingOf(slot)!));
  }

  /** Before the slot is unmapped. */
  release(slot: ArrayBuffer): void {
    const device = this.#device;
    if (device) this.#try(() => device.unlock(mappingOf(slot)!));
  }

  #try(use: () => void): void {
    try {
      use();
    } catch (error) {
      if (!this.#warned) this.#warn((error as Error).message);
      this.#warned = true;
    }
  }
}
