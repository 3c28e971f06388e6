/** Lists Vulkan's adapters: WebGPU on Linux runs on Vulkan, and the runtime does not say what it found. */
import { createRequire } from "node:module";

export interface VulkanAdapter {
  readonly name: string;
  /** Computes on the CPU. */
  readonly software: boolean;
}

const STRUCTURE_TYPE_INSTANCE_CREATE_INFO = 1;
/** Larger than any version of the structures that are passed. */
const STRUCTURE_BYTES = 4096;
const DEVICE_TYPE_OFFSET = 16;
const DEVICE_NAME_OFFSET = 20;
const DEVICE_NAME_BYTES = 256;
const DEVICE_TYPE_CPU = 4;
const ADAPTERS_MAX = 16;

/** Throws, with the reason in words, where there is no Vulkan. */
export function vulkanAdapters(): VulkanAdapter[] {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  let vulkan: import("koffi").LibraryHandle;
  try {
    vulkan = koffi.load("libvulkan.so.1");
  } catch {
    throw new Error("no Vulkan loader (libvulkan.so.1); install libvulkan1 and the GPU's driver");
  }
  const createInstance = vulkan.func(
    "int vkCreateInstance(const uint8_t *info, const void *allocator, _Out_ uint64_t *i)",
  );
  const listDevices = vulkan.func(
    "int vkEnumeratePhysicalDevices(uint64_t instance, _Inout_ uint32_t *count, _Out_ uint64_t *devices)",
  );
  const getProperties = vulkan.func("void vkGetPhysicalDeviceProperties(uint64_t device, _Out_ uint8_t *properties)");
  const destroyInstance = vulkan.func("void vkDestroyInstance(uint64_t instance, const void *allocator)");

  const info = Buffer.alloc(STRUCTURE_BYTES);
  info.writeUInt32LE(STRUCTURE_TYPE_INSTANCE_CREATE_INFO, 0);
  const instance = new BigUint64Array(1);
  const created: number = createInstance(info, null, instance);
  if (created !== 0) {
    // NVIDIA's driver is found and refuses where these are missing, which the loader says nowhere but there.
    const hint = "NVIDIA's needs libglvnd0, libx11-6 and libxext6; VK_LOADER_DEBUG=all vulkaninfo says more";
    throw new Error(`the Vulkan loader finds no usable driver (vkCreateInstance gave ${created}; ${hint})`);
  }
  try {
    const count = Uint32Array.of(ADAPTERS_MAX);
    const devices = new BigUint64Array(ADAPTERS_MAX);
    listDevices(instance[0], count, devices);
    return [...devices.subarray(0, count[0])].map((device) => {
      const properties = Buffer.alloc(STRUCTURE_BYTES);
      getProperties(device, properties);
      const nameEnd = properties.indexOf(0, DEVICE_NAME_OFFSET);
      const name = properties.toString(
        "utf8",
        DEVICE_NAME_OFFSET,
        Math.min(nameEnd, DEVICE_NAME_OFFSET + DEVICE_NAME_BYTES),
      );
      return { name, software: properties.readUInt32LE(DEVICE_TYPE_OFFSET) === DEVICE_TYPE_CPU };
    });
  } finally {
    destroyInstance(instance[0], null);
  }
}
