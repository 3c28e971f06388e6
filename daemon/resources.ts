/**
 * What this process may use of the machine. Node knows a container's limit of memory; it does not know (up to version 20) its limit
 * of processor time, and takes memory that holds files for used.
 */
import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** Where the figures come from; another one in tests. */
export interface Machine {
  readonly cores: number;
  readonly memoryBytes: number;
  /** What can be had before something is swapped or killed, whatever the limit of this process. */
  readonly freeBytes: number;
  /** Limit of this process's control group; above `memoryBytes`, or 0, where there is none. */
  readonly limitBytes: number;
  /** What is left below the limit, files that the kernel keeps in memory counted as used. */
  readonly belowLimitBytes: number;
  /** Where control groups are mounted. */
  readonly cgroupRoot: string;
  /** The groups of this process as `/proc/self/cgroup` has them. */
  readonly membership: string;
}

/** Cores that this process can keep busy: those that it may run on, or fewer where a container limits its time. At least 1. */
export function availableCores(machine: Machine = thisMachine()): number {
  let cores = machine.cores;
  for (const group of groups(machine, "cpu")) {
    const limit = read(group, "cpu.max") ?? `${read(group, "cpu.cfs_quota_us")} ${read(group, "cpu.cfs_period_us")}`;
    const [quotaUs, periodUs] = limit.split(" ").map(Number) as [number, number];
    // Without a quota the first is "max" or -1, and without the files neither is a number.
    if (quotaUs > 0 && periodUs > 0) cores = Math.min(cores, Math.floor(quotaUs / periodUs));
  }
  return Math.max(1, cores);
}

/** Memory that this process may use, in bytes: the container's limit where there is one. */
export function memoryBytesMax(machine: Machine = thisMachine()): number {
  return isLimited(machine) ? machine.limitBytes : machine.memoryBytes;
}

/** Memory that can be had before something is killed, in bytes. */
export function availableMemoryBytes(machine: Machine = thisMachine()): number {
  if (!isLimited(machine)) return machine.freeBytes;
  // The kernel lets files go before it kills; a container that has read large models would otherwise look full for ever.
  return Math.min(machine.freeBytes, machine.belowLimitBytes + fileBytes(machine));
}

function thisMachine(): Machine {
  const { constrainedMemory, availableMemory } = process as Partial<
    Record<"constrainedMemory" | "availableMemory", () => number>
  >;
  const freeBytes = os.freemem();
  return {
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    freeBytes,
    limitBytes: constrainedMemory?.() ?? 0,
    belowLimitBytes: availableMemory?.() ?? freeBytes,
    cgroupRoot: "/sys/fs/cgroup",
    membership: read("/proc/self", "cgroup") ?? "",
  };
}

function isLimited({ limitBytes, memoryBytes }: Machine): boolean {
  return limitBytes > 0 && limitBytes < memoryBytes;
}

/** Files in memory that count against the limit. */
function fileBytes(machine: Machine): number {
  for (const group of groups(machine, "memory")) {
    const stat = read(group, "memory.stat");
    if (stat === null) continue;
    // Version 1 of control groups counts those below under names of their own.
    const names = stat.includes("\ntotal_active_file ")
      ? /^total_(?:in)?active_file (\d+)$/gm
      : /^(?:in)?active_file (\d+)$/gm;
    return [...stat.matchAll(names)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
  }
  return 0;
}

/** Folders of the process's own group and of those above it, whose limits hold as well. In a container the own one is the root. */
function groups({ cgroupRoot, membership }: Machine, controller: string): string[] {
  const folders: string[] = [];
  for (const [, controllers, own] of membership.matchAll(/^\d+:([^:\n]*):(\/.*)$/gm)) {
    // Version 2 has one hierarchy for all, which names none.
    if (controllers !== "" && !controllers!.split(",").includes(controller)) continue;
    const mount = controllers === "" ? cgroupRoot : path.join(cgroupRoot, controller);
    for (let group = own!; ; group = path.dirname(group)) {
      folders.push(path.join(mount, group));
      if (group === "/") break;
    }
  }
  return folders;
}

function read(folder: string, name: string): string | null {
  try {
    return readFileSync(path.join(folder, name), "utf8").trim();
  } catch {
    return null;
  }
}
