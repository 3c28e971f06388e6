/** Where a lane's session threads run: a child process with shared memory, or worker threads of the daemon itself. */
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { Arena } from "./arena.ts";
import { portChannel, socketChannel } from "./channels.ts";
import type { LaneReport, LaneStart } from "./lane-main.ts";
import type { Channel, FromThread, Hello, ThreadData, ToThread } from "./messages.ts";
import { siblingModule } from "./sibling.ts";
import { createToken } from "./token.ts";

export type ThreadChannel = Channel<ToThread, FromThread>;

export interface HostEvents {
  /**
   * A host that had started is gone, and not because it was closed; at most once.
   *
   * @param culprit as `kill` was told; undefined where it was not, or went by itself
   */
  lost(reason: string, culprit: Culprit): void;
  /** A line that a process wrote to its standard output or error. */
  output(line: string): void;
}

/** The model whose batch is why a host ends; null where no batch is, undefined where nobody knows. */
export type Culprit = string | null | undefined;

export interface LaneHost {
  /** null for worker threads of the daemon. */
  readonly pid: number | null;
  openThread(): Promise<ThreadChannel>;
  /** Ends a thread whose models have been unloaded. */
  closeThread(channel: ThreadChannel): void;
  /** Ends everything at once, as a crash would: `lost` follows with what the first call says. Until then other batches may begin. */
  kill(reason: string, culprit?: Culprit): void;
  /** Ends everything at once; resolves when it has, or when it can't be waited for any longer. */
  close(): Promise<void>;
}

/** Descriptor under which the child finds the arena's file. */
const ARENA_FD = 4;
const START_TIMEOUT_MS = 30_000;
/** A process that a driver holds back may be killed and not end; it is given up then. */
const KILL_TIMEOUT_MS = 5_000;

/** Starts a lane process, or another one that `entry` names and that is driven alike; rejects where it does not come up. */
export async function startProcessHost(
  arena: Arena,
  events: HostEvents,
  entry: URL = siblingModule(import.meta.url, "lane-main"),
): Promise<LaneHost> {
  const child = fork(entry, [], {
    // Flags of the daemon (a debugger's port, the test runner) are not for its children.
    execArgv: [],
    stdio: ["ignore", "pipe", "pipe", "ipc", arena.fd],
  });
  const host = new ProcessHost(child, events);
  try {
    await host.ready;
  } catch (error) {
    child.kill("SIGKILL");
    await host.close();
    throw error;
  }
  return host;
}

class ProcessHost implements LaneHost {
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  readonly #events: HostEvents;
  readonly #exited: Promise<void>;
  readonly #server: Server;
  readonly #secret = randomBytes(16).toString("hex");
  // An abstract address leaves no file behind and needs no writable folder; the secret keeps strangers out.
  readonly #address = `\0slackline-${process.pid}-${randomBytes(8).toString("hex")}`;
  readonly #opening = new Map<number, (socket: Socket) => void>();
  readonly #refused = new Set<(error: Error) => void>();
  #threads = 0;
  #started = false;
  #closing = false;
  /** null while it is alive. */
  #endedBecause: string | null = null;
  #lastLines: string[] = [];
  #killedFor: { readonly reason: string; readonly culprit: Culprit } | null = null;

  constructor(child: ChildProcess, events: HostEvents) {
    this.#child = child;
    this.#events = events;
    this.#exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        const how = signal === null ? `its process exited with code ${code}` : `its process was ended by ${signal}`;
        this.#ended(this.#killedFor?.reason ?? how);
        resolve();
      });
      child.on("error", (error) => {
        this.#ended(`its process could not be ${this.#started ? "reached" : "started"}: ${error.message}`);
        resolve();
      });
    });
    // Where descriptors ran out there are none.
    for (const stream of [child.stdout, child.stderr]) if (stream) this.#forwardLines(stream);
    this.#server = createServer((socket) => this.#greet(socket));
    const listening = new Promise<void>((resolve, reject) => {
      // One that comes later is of a line that could not be accepted: the load that waits for it has its time limit.
      this.#server.on("error", reject);
      this.#server.listen(this.#address, resolve);
    });
    const up = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the lane's process did not answer in time")), START_TIMEOUT_MS);
      child.on("message", (message) => {
        clearTimeout(timer);
        this.#report(message as LaneReport, resolve);
      });
      void this.#exited.then(() => {
        clearTimeout(timer);
        reject(new Error(`the lane did not start: ${this.#endedBecause}`));
      });
    });
    this.ready = Promise.all([listening, up]).then(() => {
      this.#started = true;
    });
  }

  get pid(): number | null {
    return this.#child.pid ?? null;
  }

  openThread(): Promise<ThreadChannel> {
    const thread = ++this.#threads;
    return new Promise((resolve, reject) => {
      if (this.#endedBecause !== null) {
        reject(new Error("the lane's process is gone"));
        return;
      }
      this.#refused.add(reject);
      this.#opening.set(thread, (socket) => {
        this.#refused.delete(reject);
        resolve(socketChannel(socket));
      });
      const start: LaneStart = {
        type: "open-thread",
        thread,
        address: this.#address,
        secret: this.#secret,
        arenaFd: ARENA_FD,
      };
      this.#child.send(start);
    });
  }

  closeThread(channel: ThreadChannel): void {
    // With its line closed the thread has nothing left to wait for, and ends.
    channel.close();
  }

  kill(reason: string, culprit?: Culprit): void {
    this.#killedFor ??= { reason, culprit };
    this.#child.kill("SIGKILL");
    setTimeout(() => this.#ended(`${reason}; its process does not end`), KILL_TIMEOUT_MS).unref();
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#child.kill("SIGKILL");
    await Promise.race([this.#exited, delay(KILL_TIMEOUT_MS, undefined, { ref: false })]);
    this.#server.close();
  }

  /** The first frame on a new connection says which thread it is; it is small and comes in one piece. */
  #greet(socket: Socket): void {
    socket.once("error", () => socket.destroy());
    socket.once("data", (chunk: Buffer) => {
      socket.pause();
      let hello: Partial<Hello> = {};
      try {
        hello = JSON.parse(chunk.toString("utf8", 8));
      } catch {
        // Not one of ours.
      }
      const opened = hello.secret === this.#secret ? this.#opening.get(hello.thread ?? -1) : undefined;
      if (opened === undefined) {
        socket.destroy();
        return;
      }
      this.#opening.delete(hello.thread!);
      opened(socket);
      socket.resume();
    });
  }

  #report(message: LaneReport, ready: () => void): void {
    switch (message.type) {
      case "ready":
        ready();
        break;
      case "thread-failed":
        // Its session may have been the one that a batch is waiting for; starting over is always right.
        this.kill(`a session thread failed: ${message.message}`);
        break;
    }
  }

  #ended(reason: string): void {
    if (this.#endedBecause !== null) return;
    this.#endedBecause = `${reason}${this.#lastWords()}`;
    this.#server.close();
    for (const refuse of this.#refused) refuse(new Error(reason));
    this.#refused.clear();
    // Whoever waits for it to start learns of it by that.
    if (this.#started && !this.#closing) this.#events.lost(this.#endedBecause, this.#killedFor?.culprit);
  }

  #lastWords(): string {
    return this.#lastLines.length === 0 ? "" : `; its last words: ${this.#lastLines.slice(-3).join(" | ")}`;
  }

  #forwardLines(stream: NodeJS.ReadableStream): void {
    let rest = "";
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!.slice(-4096);
      for (const line of lines) {
        if (line.trim() === "") continue;
        this.#lastLines = [...this.#lastLines.slice(-9), line];
        this.#events.output(line);
      }
    });
  }
}

/** Worker threads of this process, for platforms where memory cannot be shared with a child. */
export function startThreadHost(
  events: HostEvents,
  entry: URL = siblingModule(import.meta.url, "session-thread"),
): LaneHost {
  const token = createToken();
  const workers = new Map<ThreadChannel, Worker>();
  let gone = false;

  function end(reason: string, culprit?: Culprit): void {
    if (gone) return;
    gone = true;
    events.lost(reason, culprit);
  }

  async function terminateAll(): Promise<void> {
    await Promise.all([...workers.values()].map((worker) => worker.terminate()));
    workers.clear();
  }

  return {
    pid: null,
    async openThread() {
      const workerData: ThreadData = { token, socket: null, arenaFd: null };
      const worker = new Worker(entry, { workerData });
      const channel: ThreadChannel = portChannel(worker);
      worker.once("error", (error) => end(`a session thread failed: ${error.message}`));
      worker.once("exit", () => {
        if (workers.delete(channel)) end("a session thread ended");
      });
      workers.set(channel, worker);
      return channel;
    },
    closeThread(channel) {
      const worker = workers.get(channel);
      workers.delete(channel);
      void worker?.terminate();
    },
    kill(reason, culprit) {
      void terminateAll();
      end(reason, culprit);
    },
    async close() {
      gone = true;
      await terminateAll();
    },
  };
}
