/**
 * Entry of the process in which CPU replicas run: a pool of threads for each model, driven over one line from the daemon as
 * a session thread would be. (Where memory can't be shared it is a thread of the daemon, for one model.)
 */
import { connect } from "node:net";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { Piscina } from "piscina";
import { portChannel, socketChannel } from "../device/channels.ts";
import { encodeHeader } from "../device/frames.ts";
import type { LaneReport, LaneStart } from "../device/lane-main.ts";
import type { LoadErrorCode } from "../device/load-error.ts";
import type {
  Channel,
  FromThread,
  Hello,
  LoadRequest,
  RunRequest,
  ThreadData,
  ToThread,
  WarmedModel,
} from "../device/messages.ts";
import { siblingModule } from "../device/sibling.ts";
import { mergeWarmed } from "./merge-warmed.ts";
import type { ReplicaData, ReplicaResult, ReplicaTask } from "./replica-worker.ts";

/** A load request with the number of copies to make. */
export interface PoolLoadRequest extends LoadRequest {
  readonly replicas: number;
}

type Pool = Piscina<ReplicaTask, ReplicaResult>;

/** Between looks at whether replicas that load are alive. */
const PROGRESS_MS = 1_000;

function startPool(replicas: number, arenaFd: number | null, gathered: SharedArrayBuffer): Pool {
  const data: ReplicaData = { arenaFd, gathered, replicas };
  return new Piscina<ReplicaTask, ReplicaResult>({
    filename: siblingModule(import.meta.url, "replica-worker").href,
    minThreads: replicas,
    maxThreads: replicas,
    workerData: data,
    // Loading may take as long as it takes; threads stay for as long as the model does.
    idleTimeout: Number.POSITIVE_INFINITY,
    execArgv: [],
  });
}

/** Serves one model's replicas over a line. */
function serve(channel: Channel<FromThread, ToThread>, arenaFd: number | null): void {
  let pool: Pool | null = null;

  async function load(request: PoolLoadRequest): Promise<void> {
    const { replicas, ...task } = request;
    const gathered = new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT);
    const starting = startPool(replicas, arenaFd, gathered);
    const telling = tellProgress(request.model, new Int32Array(gathered));
    const loads = Array.from({ length: replicas }, () => starting.run({ type: "load", request: task }));
    const warmed: WarmedModel[] = [];
    let failure: { readonly code: LoadErrorCode; readonly message: string } | null = null;
    for (const one of await Promise.allSettled(loads)) {
      if (one.status === "rejected") failure = { code: "crashed", message: String(one.reason) };
      else if (one.value.type === "loaded") warmed.push(one.value.warmed);
      else if (one.value.type === "load-failed") failure ??= one.value;
    }
    clearInterval(telling);
    if (failure !== null) {
      await starting.destroy();
      channel.send({ type: "load-failed", model: request.model, code: failure.code, message: failure.message });
      return;
    }
    pool = starting;
    channel.send({ type: "loaded", model: request.model, result: mergeWarmed(warmed) });
  }

  /** Workers of the pool have no line of their own. */
  function tellProgress(model: string, gathered: Int32Array): NodeJS.Timeout {
    let told = 0;
    return setInterval(() => {
      const runs = Atomics.load(gathered, 1);
      if (runs !== told) channel.send({ type: "progress", model, activity: `trial run ${runs}` });
      told = runs;
    }, PROGRESS_MS);
  }

  async function run(request: RunRequest, strings: Uint8Array, slot: ArrayBuffer | null): Promise<void> {
    const { execution } = request;
    const transfer = slot === null ? {} : { transferList: [slot] };
    const result = await pool!
      .run({ type: "run", request, strings, buffer: slot }, transfer)
      .catch((error: unknown) => ({ type: "vacant", reason: String(error) }) as const);
    switch (result.type) {
      case "done": {
        const { executeUs, outputs, payload } = result.executed;
        channel.send({ type: "done", execution, executeUs, outputs }, payload, result.buffer ?? undefined);
        return;
      }
      case "failed": {
        const { message, executeUs, buffer } = result;
        channel.send({ type: "failed", execution, message, executeUs, fatal: false }, [], buffer ?? undefined);
        return;
      }
      default: {
        // A thread died and took its session along; the one in its place has none. Starting over brings all back.
        const message = "reason" in result ? result.reason : "its thread had died";
        channel.send({ type: "failed", execution, message, executeUs: null, fatal: true });
      }
    }
  }

  async function unload(model: string): Promise<void> {
    // Nothing executes any more: ending a thread within native code would end the process.
    await pool?.destroy();
    pool = null;
    channel.send({ type: "unloaded", model });
  }

  channel.onMessage((message, payload, buffer) => {
    switch (message.type) {
      case "load":
        void load(message.request as PoolLoadRequest);
        break;
      case "unload":
        void unload(message.model);
        break;
      case "run":
        void run(message, payload, buffer);
        break;
      // Replicas map what they are given when they first use it; a range of the arena stays what it is.
      case "map":
      case "unmap":
      // On a CPU no shape is cold.
      case "warm":
        break;
    }
  });
}

function openLine({ thread, address, secret, arenaFd }: LaneStart): void {
  const socket = connect(address);
  const hello: Hello = { secret, thread };
  socket.write(encodeHeader(hello, 0));
  serve(socketChannel(socket), arenaFd);
}

if (isMainThread) {
  // The daemon decides when this ends: a Ctrl-C that reaches the whole process group must not cut short what it drains.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => {});
  process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
  process.on("message", (message) => openLine(message as LaneStart));
  const ready: LaneReport = { type: "ready" };
  process.send?.(ready);
} else {
  serve(portChannel(parentPort!), (workerData as ThreadData).arenaFd);
}
