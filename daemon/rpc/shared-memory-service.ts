/** The calls that register memory; requests then name it. */
import type { GRPCInferenceServiceHandlers } from "../../proto/generated/inference/GRPCInferenceService.ts";
import { notOffered, unary } from "./control-service.ts";
import { RpcError } from "./errors.ts";
import type { RpcLogger } from "./ports.ts";
import type { RpcSettings } from "./settings.ts";
import type { SharedMemoryRegions } from "./shared-memory.ts";
import { shown } from "./text.ts";

export type SharedMemoryHandlers = Pick<
  GRPCInferenceServiceHandlers,
  | "SystemSharedMemoryStatus"
  | "SystemSharedMemoryRegister"
  | "SystemSharedMemoryUnregister"
  | "CudaSharedMemoryStatus"
  | "CudaSharedMemoryRegister"
  | "CudaSharedMemoryUnregister"
>;

const NO_CUDA = "CUDA shared memory is not offered; use system shared memory";

/** Whether a call's peer (`ADDRESS:PORT`) is on the loopback. */
export function isLoopback(peer: string): boolean {
  const address = peer.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return address === "::1" || /^(?:::ffff:)?127\./.test(address);
}

export function sharedMemoryHandlers(
  regions: SharedMemoryRegions,
  settings: Pick<RpcSettings, "errors" | "sharedMemoryPeers">,
  logger: RpcLogger,
): SharedMemoryHandlers {
  const style = settings.errors;
  return {
    SystemSharedMemoryStatus: unary(
      ({ name }) => {
        const found = regions.status(name);
        const entry = ({ name, key, offset, byteSize }: (typeof found)[number]) => ({
          name,
          key,
          offset,
          byte_size: byteSize,
        });
        return { regions: Object.fromEntries(found.map((region) => [region.name, entry(region)])) };
      },
      style,
      logger,
    ),
    SystemSharedMemoryRegister: unary(
      ({ name, key, offset, byte_size }, call) => {
        // Whoever may open regions reads and writes this host's memory objects with the daemon's rights.
        if (settings.sharedMemoryPeers === "loopback" && !isLoopback(call.getPeer())) {
          throw new RpcError(
            "FAILED_PRECONDITION",
            "refused",
            "shared memory can be registered by callers on the daemon's own host only, over its loopback address; send tensors in the message",
          );
        }
        regions.register({ name, key, offset: Number(offset), byteSize: Number(byte_size) });
        return {};
      },
      style,
      logger,
    ),
    SystemSharedMemoryUnregister: unary(
      ({ name }) => {
        regions.unregister(name);
        return {};
      },
      style,
      logger,
    ),
    CudaSharedMemoryStatus: unary(
      ({ name }) => {
        if (name !== "")
          throw new RpcError("NOT_FOUND", "not_found", `CUDA shared memory region '${shown(name)}' is not registered`);
        return { regions: {} };
      },
      style,
      logger,
    ),
    CudaSharedMemoryRegister: unary(
      () => {
        throw notOffered(NO_CUDA);
      },
      style,
      logger,
    ),
    // Clients unregister everything before they begin, whatever they use afterwards.
    CudaSharedMemoryUnregister: unary(
      ({ name }) => {
        if (name !== "") throw notOffered(NO_CUDA);
        return {};
      },
      style,
      logger,
    ),
  };
}
