import type { Endpoint } from "../endpoint.ts";
import type { Queries } from "../queries.ts";
import { regionCalls } from "./region-calls.ts";
import { leadsToThisHost } from "./same-host.ts";
import { SharedMemory } from "./shared-memory.ts";

/** Gives shared memory to the endpoints that may have it. Those that are told of connections later must be made later. */
export function shareMemory(
  endpoints: readonly Endpoint[],
  queries: Queries,
  bytesMax: number,
): ReadonlyMap<Endpoint, SharedMemory> {
  const memories = new Map<Endpoint, SharedMemory>();
  if (bytesMax === 0 || process.platform !== "linux") return memories;
  for (const endpoint of endpoints) {
    if (!leadsToThisHost(endpoint.target)) continue;
    const memory = new SharedMemory(endpoint.target, regionCalls(endpoint, queries), bytesMax);
    endpoint.memory = memory;
    endpoint.onConnected(() => memory.reconnected());
    memories.set(endpoint, memory);
  }
  return memories;
}
