import type { Provider } from "../status.ts";

/** One device to make a lane for. */
export interface DeviceName {
  readonly provider: Provider;
  /** Ordinal among the provider's devices; 0 for those that have only one. */
  readonly index: number;
}

/** `auto`: the best that works; otherwise exactly these, in order. */
export type DeviceSelection = "auto" | readonly DeviceName[];

export const DEVICES_ALLOWED = "auto, or a list of cuda, cuda:N, webgpu, cpu (such as cuda:0,cuda:1)";

/** Parses `auto`, `cpu`, `cuda:0,cuda:1`; returns the sentence of what is wrong where something is. */
export function parseDevices(names: readonly string[]): DeviceSelection | { readonly problem: string } {
  if (names.length === 1 && names[0] === "auto") return "auto";
  const devices: DeviceName[] = [];
  for (const name of names) {
    const match = /^(?:(cuda)(?::(\d{1,3}))?|(webgpu|cpu))$/.exec(name);
    if (match === null) {
      const alone = name === "auto" ? "'auto' stands alone" : `'${name}' is not a device`;
      return { problem: `${alone}; expected ${DEVICES_ALLOWED}` };
    }
    const device: DeviceName = { provider: (match[1] ?? match[3]) as Provider, index: Number(match[2] ?? 0) };
    if (devices.some((other) => other.provider === device.provider && other.index === device.index)) {
      return { problem: `'${name}' is listed twice` };
    }
    devices.push(device);
  }
  return devices.length === 0 ? { problem: `got an empty list; expected ${DEVICES_ALLOWED}` } : devices;
}

/** `cuda:0`, `webgpu`, `cpu`: the inverse of parsing. */
export function deviceText(device: DeviceName): string {
  return device.provider === "cuda" ? `cuda:${device.index}` : device.provider;
}
