/** The calls that register memory; requests then name it. */
import type { GRPCInferenceServiceHandlers } from "../../proto/generated/inference/GRPCInferenceService.ts";
import { notOffered, unary } from "./control-service.ts";
import { type ErrorStyle, RpcError } from "./errors.ts";
import { Peer } from "./peer.ts";
import type { RpcLogger } from "./ports.ts";
import type { RegionStatus, SharedMemoryRegions } from "./shared-memory.ts";
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

export function sharedMemoryHandlers(
  regions: SharedMemoryRegions,
  style: ErrorStyle,
  logger: RpcLogger,
): SharedMemoryHandlers {
  return {
    SystemSharedMemoryStatus: unary(
      ({ name }, call) => {
        const found = regions.status(name, new Peer(call));
        const entry = ({ name, key, offset, byteSize }: RegionStatus) => ({ name, key, offset, byte_size: byteSize });
        return { regions: Object.fromEntries(found.map((region) => [region.name, entry(region)])) };
      },
      style,
      logger,
    ),
    SystemSharedMemoryRegister: unary(
      ({ name, key, offset, byte_size }, call) => {
        const region = { name, key, offset: Number(offset), byteSize: Number(byte_size) };
        regions.register(region, new Peer(call));
        return {};
      },
      style,
      logger,
    ),
    SystemSharedMemoryUnregister: unary(
      ({ name }, call) => {
        regions.unregister(name, new Peer(call));
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
