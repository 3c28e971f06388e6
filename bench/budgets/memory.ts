/** What an idle daemon holds before any model is loaded. */
import path from "node:path";
import { DaemonProcess } from "../live/daemon-process.ts";
import { atMost, type BudgetLine } from "./budget.ts";

const MIB = 2 ** 20;
/** Start-up garbage is collected when the process has been idle for a while. */
const SETTLE_MS = 5_000;
const READY_MS = 30_000;

export async function idleMemory(models: string, folder: string): Promise<BudgetLine[]> {
  const daemon = await DaemonProcess.start({
    models,
    flags: ["--model-control", "explicit"],
    logFile: path.join(folder, "memory.log"),
    readyMs: READY_MS,
  });
  try {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const { rss_bytes, lanes } = await daemon.status();
    const lines = [atMost("resident memory, idle, no model: daemon", 130, "MiB", rss_bytes / MIB)];
    const processes = new Map(lanes.map(({ pid, lane, rss_bytes: rss }) => [pid, { lane, rss }] as const));
    for (const { lane, rss } of processes.values()) {
      if (rss !== null) lines.push(atMost(`resident memory, idle, no model: lane ${lane}`, 90, "MiB", rss / MIB));
    }
    return lines;
  } finally {
    await daemon.stop();
  }
}
