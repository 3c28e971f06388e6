/**
 * Lets what executes have a core of its own, which so stands for a GPU, and keeps everything else, servers' own work and load generator, on the
 * others. Servers that execute in several processes at once would else be given more than one device.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

const DEVICE_CORE = 0;

/** This process and whatever it starts from now on. */
export function leaveDeviceCore(): void {
  const cores = availableParallelism();
  if (cores < 2) throw new Error("two cores are needed: one stands for the device");
  pin(process.pid, `1-${cores - 1}`);
}

export function ontoDeviceCore(pid: number): void {
  pin(pid, String(DEVICE_CORE));
}

function pin(pid: number, cores: string): void {
  execFileSync("taskset", ["--all-tasks", "--cpu-list", "--pid", cores, String(pid)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
}

export function childrenOf(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  return tasks.flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  );
}
