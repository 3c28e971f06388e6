/** What the shared memory of one target asks of its daemon. */
import type { Endpoint } from "../endpoint.ts";
import type { ModelConfig__Output } from "../generated/inference/ModelConfig.ts";
import type { ModelConfigResponse__Output } from "../generated/inference/ModelConfigResponse.ts";
import type { ServerMetadataResponse__Output } from "../generated/inference/ServerMetadataResponse.ts";
import type { Queries } from "../queries.ts";

export interface RegionCalls {
  /** Names of what the server offers. */
  extensions(): Promise<readonly string[]>;
  /** Registers an object of this name and size as a region of the same name. */
  register(name: string, bytes: number): Promise<unknown>;
  /** @param wait for a connection, where there is none; a daemon that can't be reached lets go by itself after a while */
  unregister(name: string, wait: boolean): Promise<unknown>;
  modelConfig(model: string, version: string): Promise<ModelConfig__Output | null>;
}

const TIMEOUT_MS = 2_000;

export function regionCalls(endpoint: Endpoint, queries: Queries): RegionCalls {
  const options = { target: endpoint.target, timeoutMs: TIMEOUT_MS };
  return {
    async extensions() {
      const { extensions } = await queries.ask<ServerMetadataResponse__Output>(
        (stub, ...rest) => stub.ServerMetadata({}, ...rest),
        options,
      );
      return extensions;
    },
    register: (name, bytes) =>
      queries.ask(
        (stub, ...rest) =>
          stub.SystemSharedMemoryRegister({ name, key: `/${name}`, offset: 0, byte_size: bytes }, ...rest),
        options,
      ),
    async unregister(name, wait) {
      if (!endpoint.connected && !wait) return;
      await queries.ask((stub, ...rest) => stub.SystemSharedMemoryUnregister({ name }, ...rest), options);
    },
    async modelConfig(name, version) {
      const { config } = await queries.ask<ModelConfigResponse__Output>(
        (stub, ...rest) => stub.ModelConfig({ name, version }, ...rest),
        options,
      );
      return config;
    },
  };
}
