/** A CUDA device by its driver: what the runtime does not offer. */
import { createRequire } from "node:module";
import type { Mapping } from "./arena.ts";

export const CUDA_DRIVER: string = process.platform === "win32" ? "nvcuda.dll" : "libcuda.so.1";
/** Locked for every context of the process, whichever was current. */
const PORTABLE = 1;

/** Bytes. */
export interface DeviceMemory {
  /** What nobody uses. */
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** By the device's number; a thread opens each once. */
const opened = new Map<number, CudaDevice>();

export class CudaDevice {
  readonly #push: () => number;
  readonly #pop: () => number;
  readonly #register: (address: bigint, bytes: number) => number;
  readonly #unregister: (address: bigint) => number;
  readonly #memory: (free: number[], total: number[]) => number;
  readonly #locked = new Set<bigint>();

  private constructor(driver: import("koffi").LibraryHandle, deviceId: number) {
    const getDevice = driver.func("int cuDeviceGet(_Out_ int *device, int ordinal)");
    const retain = driver.func("int cuDevicePrimaryCtxRetain(_Out_ uintptr_t *context, int device)");
    const push = driver.func("int cuCtxPushCurrent_v2(uintptr_t context)");
    const pop = driver.func("int cuCtxPopCurrent_v2(_Out_ uintptr_t *context)");
    const register = driver.func("int cuMemHostRegister_v2(uintptr_t address, size_t bytes, unsigned int flags)");
    const unregister = driver.func("int cuMemHostUnregister(uintptr_t address)");
    const memory = driver.func("int cuMemGetInfo_v2(_Out_ size_t *free, _Out_ size_t *total)");
    check("cuInit", driver.func("int cuInit(unsigned int flags)")(0));
    const device = [0];
    check("cuDeviceGet", getDevice(device, deviceId));
    // The context that the runtime's sessions use as well. It is never given back: it lasts as long as the process.
    const context: (number | bigint)[] = [0];
    check("cuDevicePrimaryCtxRetain", retain(context, device[0]));
    this.#push = () => push(context[0]);
    this.#pop = () => pop([0]);
    this.#register = (address, bytes) => register(address, bytes, PORTABLE);
    this.#unregister = (address) => unregister(address);
    this.#memory = (free, total) => memory(free, total);
  }

  /** @throws with the reason, where the driver can't be used */
  static open(deviceId: number): CudaDevice {
    let device = opened.get(deviceId);
    if (device === undefined) {
      const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
      device = new CudaDevice(koffi.load(CUDA_DRIVER), deviceId);
      opened.set(deviceId, device);
    }
    return device;
  }

  /**
   * Locks memory into place, until it is unlocked: what is not locked the driver copies by way of a buffer of its own, at a fraction of the speed.
   *
   * @throws with the reason, where the driver refuses
   */
  lock({ address, bytes }: Mapping): void {
    if (this.#locked.has(address)) return;
    this.#inContext("cuMemHostRegister", () => this.#register(address, bytes));
    this.#locked.add(address);
  }

  /**
   * Before the memory is unmapped; what was not locked is left alone.
   *
   * @throws with the reason, where the driver refuses
   */
  unlock({ address }: Mapping): void {
    if (this.#locked.delete(address)) this.#inContext("cuMemHostUnregister", () => this.#unregister(address));
  }

  /** @throws with the reason, where the driver refuses */
  memory(): DeviceMemory {
    const free = [0];
    const total = [0];
    this.#inContext("cuMemGetInfo", () => this.#memory(free, total));
    return { freeBytes: Number(free[0]), totalBytes: Number(total[0]) };
  }

  #inContext(call: string, use: () => number): void {
    check("cuCtxPushCurrent", this.#push());
    try {
      check(call, use());
    } finally {
      this.#pop();
    }
  }
}

function check(call: string, result: number): void {
  if (result !== 0) throw new Error(`${call} gave ${result}`);
}
