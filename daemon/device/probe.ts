/** Checks one provider from the ground up, so that what is missing can be named: driver, device, libraries, a trial run. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { CUDA_DRIVER } from "./cuda-device.ts";
import type { ProbeRequest } from "./probe-types.ts";
import type { Provider } from "./provider.ts";
import { loadRuntime, sessionOptions } from "./runtime.ts";
import { scrubPaths } from "./scrub.ts";
import { vulkanAdapters } from "./vulkan.ts";

const require = createRequire(import.meta.url);

/** `x` FP32 [batch, 4] → `y` = `x` + 1. */
const TRIAL_MODEL =
  "CAkSCXNsYWNrbGluZTpeChAKAXgKA29uZRIBeSIDQWRkEgdhZGRfb25lKg0QAUIDb25lSgQAAIA/WhgKAXgSEwoRCAESDQoHEgViYXRjaAoCCARiGAoBeRITChEIARINCgcSBWJhdGNoCgIIBEIECgAQEQ==";

/** Resolves to the name of the hardware; rejects with the reason why the provider cannot be used. */
export async function probeProvider({ provider, allowSoftwareGpu }: ProbeRequest): Promise<string> {
  let name: string;
  switch (provider.name) {
    case "cuda":
      name = cudaDeviceName(provider.deviceId);
      checkCudaLibraries();
      break;
    case "webgpu":
      name = webgpuAdapterName(allowSoftwareGpu);
      break;
    case "cpu":
      name = "CPU";
      break;
  }
  await tryRun(provider);
  return name;
}

async function tryRun(provider: Provider): Promise<void> {
  const { InferenceSession, Tensor } = loadRuntime();
  const options = sessionOptions({ provider, threads: 1 });
  // Without this a provider that takes no node of the graph passes: the CPU does the work in its place.
  const extra = provider.name === "cpu" ? {} : { session: { disable_cpu_ep_fallback: "1" } };
  const executionProviders = options.executionProviders!.slice(0, 1);
  let values: Float32Array;
  try {
    const model = Buffer.from(TRIAL_MODEL, "base64");
    const session = await InferenceSession.create(model, { ...options, executionProviders, extra });
    const { y } = await session.run({ x: new Tensor("float32", Float32Array.of(1, 2, 3, 4), [1, 4]) });
    values = y!.data as Float32Array;
  } catch (error) {
    throw new Error(`a trial run failed: ${scrubPaths(error instanceof Error ? error.message : String(error))}`);
  }
  if (values.join() !== "2,3,4,5") throw new Error(`a trial run gave wrong results: ${values.join()}`);
}

function cudaDeviceName(deviceId: number): string {
  const koffi = require("koffi") as typeof import("koffi");
  let driver: import("koffi").LibraryHandle;
  try {
    driver = koffi.load(CUDA_DRIVER);
  } catch {
    throw new Error(`no NVIDIA driver (${CUDA_DRIVER} cannot be loaded)`);
  }
  const initialised: number = driver.func("int cuInit(unsigned int flags)")(0);
  if (initialised !== 0) throw new Error(`the NVIDIA driver does not start (cuInit gave ${initialised})`);
  const count = [0];
  driver.func("int cuDeviceGetCount(_Out_ int *count)")(count);
  if (count[0] === 0) throw new Error("the NVIDIA driver lists no device");
  if (deviceId >= count[0]!) throw new Error(`there is no device ${deviceId}: the NVIDIA driver lists ${count[0]}`);
  const name = Buffer.alloc(256);
  driver.func("int cuDeviceGetName(_Out_ uint8_t *name, int bytes, int device)")(name, name.length, deviceId);
  return name.toString("utf8", 0, name.indexOf(0));
}

/** The folder in which the runtime looks for provider libraries. */
export function runtimeFolder(): string {
  const root = path.dirname(require.resolve("onnxruntime-node/package.json"));
  return path.join(root, "bin", "napi-v6", process.platform, process.arch);
}

function checkCudaLibraries(): void {
  if (process.platform !== "linux") return;
  for (const library of ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"]) {
    if (!existsSync(path.join(runtimeFolder(), library))) {
      throw new Error(`provider library ${library} not found beside the runtime; run npm run setup:cuda`);
    }
  }
}

function webgpuAdapterName(allowSoftware: boolean): string {
  // Elsewhere the system's own interface (Metal, Direct3D) is there, and a trial run says whether it works.
  if (process.platform !== "linux") return "WebGPU adapter";
  const adapters = vulkanAdapters();
  const hardware = adapters.find(({ software }) => !software);
  if (hardware !== undefined) return hardware.name;
  if (adapters.length === 0) throw new Error("the Vulkan loader found no driver with an adapter");
  if (allowSoftware) return adapters[0]!.name;
  throw new Error(`only a software adapter (${adapters[0]!.name}); allow it with --allow-software-gpu`);
}
