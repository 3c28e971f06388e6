/** CPU time of another process and its children, all threads: what a request costs the server, however busy the machine is. */
import { readdirSync, readFileSync } from "node:fs";

/** Microseconds since the process began, of those of its threads and children that are still there; Linux only. */
export function processCpuUs(pid: number): number {
  let us = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${thread}`;
    try {
      us += Number(readFileSync(`${folder}/schedstat`, "utf8").split(" ")[0]) / 1000;
      const children = readFileSync(`${folder}/children`, "utf8").split(" ").filter(Boolean);
      for (const child of children) us += processCpuUs(Number(child));
    } catch (error) {
      // A thread or child that ended meanwhile.
      if (!["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }
  return us;
}
