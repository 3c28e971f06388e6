import { readdirSync, readlinkSync } from "node:fs";

/** Names of the SDK's shared-memory objects that this process has open although their names are gone. */
export function openObjects(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    let file: string;
    try {
      file = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The folder's own.
      return [];
    }
    return /^\/dev\/shm\/(slackline-[0-9a-f]{32}) \(deleted\)$/.exec(file)?.slice(1) ?? [];
  });
}
