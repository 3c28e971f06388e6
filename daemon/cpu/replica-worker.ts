/** A replica: one session of one model in a thread of the pool. */
import { workerData } from "piscina";
import { mapRegion, type Region } from "../device/arena.ts";
import { type Executed, HostedModel } from "../device/hosted-model.ts";
import type { LoadRequest, RunRequest, WarmedModel } from "../device/messages.ts";
import { createToken, ExecutionToken } from "../device/token.ts";

export interface ReplicaData {
  /** Descriptor of the arena's file; null where slots come with the tasks. */
  readonly arenaFd: number | null;
  /** Counts replicas that wait to load. */
  readonly gathered: SharedArrayBuffer;
  readonly replicas: number;
}

export type ReplicaTask =
  | { readonly type: "load"; readonly request: LoadRequest }
  | {
      readonly type: "run";
      readonly request: RunRequest;
      readonly strings: Uint8Array;
      /** The slot, where memory is not shared. */
      readonly buffer: ArrayBuffer | null;
    };

export type ReplicaResult =
  | { readonly type: "loaded"; readonly warmed: WarmedModel }
  | { readonly type: "done"; readonly executed: Executed; readonly buffer: ArrayBuffer | null };

const data = workerData as ReplicaData;
// Nobody shares this token: replicas execute side by side.
const token = new ExecutionToken(createToken());
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

async function perform(task: ReplicaTask): Promise<ReplicaResult> {
  if (task.type === "load") {
    await waitForOthers();
    const { model: hosted, warmed } = await HostedModel.load(task.request, token, () => {});
    model = hosted;
    return { type: "loaded", warmed };
  }
  const { request, strings, buffer } = task;
  const executed = await model!.execute(buffer ?? slotOf(request.region!), request.shape, request.bucket, strings);
  return { type: "done", executed, buffer };
}

export default perform;
