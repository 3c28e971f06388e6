/** What executes models: an ONNX Runtime execution provider, and for those with several devices, which one. */

export type ProviderName = "cuda" | "webgpu" | "cpu";

export interface Provider {
  readonly name: ProviderName;
  /** Index among the provider's devices; 0 for the first, and for providers that have but one. */
  readonly deviceId: number;
}

export const CPU_PROVIDER: Provider = { name: "cpu", deviceId: 0 };

/** `cpu`, `webgpu`, `cuda` or `cuda:1`. */
export function parseProvider(text: string): Provider | null {
  const match = /^(cuda|webgpu|cpu)(?::(\d+))?$/.exec(text);
  if (match === null) return null;
  const name = match[1] as ProviderName;
  if (match[2] !== undefined && name !== "cuda") return null;
  return { name, deviceId: Number(match[2] ?? 0) };
}

export function providerText(provider: Provider): string {
  return provider.deviceId === 0 ? provider.name : `${provider.name}:${provider.deviceId}`;
}

/** Whether sessions of one process may run and load in several threads with this provider. */
export function allowsThreads(provider: Provider): boolean {
  // Dawn's device is shared by all sessions of a process and is not to be used from two threads.
  return provider.name !== "webgpu";
}
