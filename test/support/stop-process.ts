import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Stops a process (Linux) and resolves once none of its threads runs. The signal alone stops them when one of them takes it:
 * on a busy machine the others may do much before.
 */
export async function stopProcess(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  while (!(await threadStates(pid)).every((state) => state === "T")) await sleep(1);
}

/** One letter for each thread, as the kernel gives it: `R` runs, `S` sleeps, `T` is stopped. */
async function threadStates(pid: number): Promise<string[]> {
  const threads = await readdir(`/proc/${pid}/task`);
  const stats = await Promise.all(threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/stat`, "utf8")));
  // The thread's name before it, in parentheses, may hold anything.
  return stats.map((stat) => stat.slice(stat.lastIndexOf(")") + 2)[0]!);
}
