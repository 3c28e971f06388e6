import { readFileSync } from "node:fs";

/** How many files, connections among them, this process may have open at once; infinite where the system does not tell. */
export function openFilesMax(): number {
  let limits: string;
  try {
    limits = readFileSync("/proc/self/limits", "utf8");
  } catch {
    return Number.POSITIVE_INFINITY;
  }
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
}
