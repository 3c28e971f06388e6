import os from "node:os";

/** Enough for the event loop to be scheduled first, little enough to matter to nobody else on the machine. */
const NICENESS = 5;

/**
 * Lets a process that executes on the CPU come after the daemon's own: the event loop that feeds it needs little, but at
 * once. To be called before it starts threads, which inherit the priority.
 */
export function yieldToDaemon(pid: number): void {
  try {
    os.setPriority(pid, NICENESS);
  } catch {
    // The process has just died, or the system does not allow it: then they compete as equals.
  }
}
