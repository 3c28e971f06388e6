/** Locks memory into place for a CUDA device: what is not locked its driver copies by way of a buffer of its own, at a fraction of the speed. */
import { createRequire } from "node:module";
import type { Mapping } from "./arena.ts";

/** The driver's interface, in the version that its names end in. */
export const CUDA_DRIVER: string = process.platform === "win32" ? "nvcuda.dll" : "libcuda.so.1";
/** Locked for every context of the process, whichever was current. */
const PORTABLE = 1;

export class PageLock {
  readonly #inContext: <T>(use: () => T) => T;
  readonly #register: (address: bigint, bytes: number) => number;
  readonly #unregister: (address: bigint) => number;
  readonly #locked = new Set<bigint>();

  private constructor(driver: import("koffi").LibraryHandle, deviceId: number) {
    const getDevice = driver.func("int cuDeviceGet(_Out_ int *device, int ordinal)");
    const retain = driver.func("int cuDevicePrimaryCtxRetain(_Out_ uintptr_t *context, int device)");
    const push = driver.func("int cuCtxPushCurrent_v2(uintptr_t context)");
    const pop = driver.func("int cuCtxPopCurrent_v2(_Out_ uintptr_t *context)");
    const register = driver.func("int cuMemHostRegister_v2(uintptr_t address, size_t bytes, unsigned int flags)");
    const unregister = driver.func("int cuMemHostUnregister(uintptr_t address)");
    check("cuInit", driver.func("int cuInit(unsigned int flags)")(0));
    const device = [0];
    check("cuDeviceGet", getDevice(device, deviceId));
    // The context that the runtime's sessions use as well. It is never given back: it lasts as long as the process.
    const context: (number | bigint)[] = [0];
    check("cuDevicePrimaryCtxRetain", retain(context, device[0]));
    this.#inContext = (use) => {
      check("cuCtxPushCurrent", push(context[0]));
      try {
        return use();
      } finally {
        pop([0]);
      }
    };
    this.#register = (address, bytes) => register(address, bytes, PORTABLE);
    this.#unregister = (address) => unregister(address);
  }

  /** @throws with the reason, where the driver can't be used */
  static forDevice(deviceId: number): PageLock {
    const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
    return new PageLock(koffi.load(CUDA_DRIVER), deviceId);
  }

  /** @throws with the reason, where the driver refuses */
  lock({ address, bytes }: Mapping): void {
    this.#inContext(() => check("cuMemHostRegister", this.#register(address, bytes)));
    this.#locked.add(address);
  }

  /** Before the memory is unmapped; what was not locked is left alone. */
  unlock({ address }: Mapping): void {
    if (this.#locked.delete(address)) this.#inContext(() => this.#unregister(address));
  }
}

function check(call: string, result: number): void {
  if (result !== 0) throw new Error(`${call} gave ${result}`);
}
