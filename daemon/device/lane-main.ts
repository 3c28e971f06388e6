/**
 * Entry of a lane's process. It starts session threads and reports their ends; batches go past it, straight from the daemon
 * to the threads. It loads nothing that a lane without models does not need.
 */
import { Worker } from "node:worker_threads";
import type { ThreadData } from "./messages.ts";
import { siblingModule } from "./sibling.ts";
import { createToken } from "./token.ts";

export interface LaneStart {
  readonly type: "open-thread";
  readonly thread: number;
  readonly address: string;
  readonly secret: string;
  /** Descriptor of the arena's file in this process. */
  readonly arenaFd: number;
}

export type LaneReport =
  | { readonly type: "ready" }
  /** A session thread failed; its sessions are gone. */
  | { readonly type: "thread-failed"; readonly thread: number; readonly message: string };

const token = createToken();

function report(message: LaneReport): void {
  process.send?.(message);
}

function openThread({ thread, address, secret, arenaFd }: LaneStart): void {
  const workerData: ThreadData = { token, socket: { address, secret, thread }, arenaFd };
  const worker = new Worker(siblingModule(import.meta.url, "session-thread"), { workerData });
  worker.on("error", (error) => report({ type: "thread-failed", thread, message: error.message }));
}

// The daemon decides when a lane ends: a Ctrl-C that reaches the whole process group must not cut short what it drains.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
// Without the daemon there is nobody to serve, and threads in native code cannot be ended in an orderly way.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
process.on("message", (message) => openThread(message as LaneStart));
report({ type: "ready" });
