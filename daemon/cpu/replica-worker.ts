/** A replica: one session of one model in a thread of the pool. */
import { move, transferableSymbol, valueSymbol, workerData } from "piscina";
import { mapRegion, type Region } from "../device/arena.ts";
import { type Executed, ExecutionError, HostedModel } from "../device/hosted-model.ts";
import { LoadError, type LoadErrorCode } from "../device/load-error.ts";
import type { LoadRequest, RunRequest, WarmedModel } from "../device/messages.ts";
import type { Turn } from "../device/token.ts";

export interface ReplicaData {
  /** Descriptor of the arena's file; null where slots come with the tasks. */
  readonly arenaFd: number | null;
  /** Two counts: replicas that wait to load, and trial runs that they have made since. */
  readonly gathered: SharedArrayBuffer;
  readonly replicas: number;
}

interface RunTask {
  readonly type: "run";
  readonly request: RunRequest;
  readonly strings: Uint8Array;
  /** The slot, where memory is not shared. */
  readonly buffer: ArrayBuffer | null;
}

export type ReplicaTask = { readonly type: "load"; readonly request: LoadRequest } | RunTask;

/** Failures are results too: of an error that a thread throws, only the message would arrive. */
export type ReplicaResult =
  | { readonly type: "loaded"; readonly warmed: WarmedModel }
  | { readonly type: "load-failed"; readonly code: LoadErrorCode; readonly message: string }
  | { readonly type: "done"; readonly executed: Executed; readonly buffer: ArrayBuffer | null }
  | {
      readonly type: "failed";
      readonly message: string;
      readonly executeUs: number | null;
      readonly buffer: ArrayBuffer | null;
    }
  /** The thread took the place of one that died, and has no session. */
  | { readonly type: "vacant" };

const data = workerData as ReplicaData;
/** Replicas execute side by side, and the pool gives each one task at a time. */
const atOnce: Turn = (execute) => execute();
const mapped = new Map<string, ArrayBuffer>();
let model: HostedModel | null = null;

function slotOf(region: Region): ArrayBuffer {
  const key = `${region.offset}+${region.bytes}`;
  let buffer = mapped.get(key);
  if (buffer === undefined) {
    buffer = mapRegion(data.arenaFd!, region);
    mapped.set(key, buffer);
  }
  return buffer;
}

/**
 * Waits until every replica has its load task: the pool gives a task to whichever thread is free, and one thread must not
 * take two. All then measure at once, so that the profile is that of replicas that keep each other company.
 */
async function waitForOthers(): Promise<void> {
  const count = new Int32Array(data.gathered);
  if (Atomics.add(count, 0, 1) + 1 >= data.replicas) Atomics.notify(count, 0);
  for (;;) {
    const seen = Atomics.load(count, 0);
    if (seen >= data.replicas) return;
    await Atomics.waitAsync(count, 0, seen).value;
  }
}

async function load(request: LoadRequest): Promise<ReplicaResult> {
  await waitForOthers();
  try {
    const { model: hosted, warmed } = await HostedModel.load(request, atOnce, () => {
      Atomics.add(new Int32Array(data.gathered), 1, 1);
    });
    model = hosted;
    return { type: "loaded", warmed };
  } catch (error) {
    const { code, message } = error instanceof LoadError ? error : new LoadError("invalid", String(error));
    return { type: "load-failed", code, message };
  }
}

async function run({ request, strings, buffer }: RunTask): Promise<ReplicaResult> {
  if (model === null) return { type: "vacant" };
  try {
    const slot = buffer ?? slotOf(request.region!);
    const executed = await model.execute(slot, request.shape, request.bucket, strings, atOnce);
    return { type: "done", executed, buffer };
  } catch (error) {
    const { message, executeUs } = error instanceof ExecutionError ? error : new ExecutionError(String(error), null);
    return { type: "failed", message, executeUs, buffer };
  }
}

/** The result, with the slot handed over rather than copied. */
function handOver(result: ReplicaResult): ReplicaResult {
  if (!("buffer" in result) || result.buffer === null) return result;
  return move({ [transferableSymbol]: [result.buffer], [valueSymbol]: result }) as unknown as ReplicaResult;
}

async function perform(task: ReplicaTask): Promise<ReplicaResult> {
  return handOver(task.type === "load" ? await load(task.request) : await run(task));
}

export default perform;
