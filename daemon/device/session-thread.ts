/** Entry of a session thread: hosts the sessions of one model, or of all where the provider wants one thread. */
import { connect } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { mapRegion, type Region } from "./arena.ts";
import { portChannel, socketChannel } from "./channels.ts";
import { encodeHeader } from "./frames.ts";
import { type Executed, ExecutionError, HostedModel } from "./hosted-model.ts";
import { LoadError } from "./load-error.ts";
import type {
  Channel,
  FromThread,
  Hello,
  LoadRequest,
  NumberedRun,
  ThreadData,
  ToThread,
  WarmRequest,
} from "./messages.ts";
import { PageLocks } from "./page-locks.ts";
import { ExecutionToken } from "./token.ts";

const data = workerData as ThreadData;
const token = new ExecutionToken(data.token);
const models = new Map<string, HostedModel>();
const mapped = new Map<string, ArrayBuffer>();
/** The lane's process passes on what is written here to the daemon's log. */
const pageLocks = new PageLocks((problem) => {
  process.stderr.write(`large tensors are copied to the GPU at less than full speed: ${problem}\n`);
});

/** Errors after which a GPU answers nothing any more until its process is gone. */
const FATAL =
  /CUDA (?:error|failure)|cudaError|CUDNN_STATUS_(?:EXECUTION|INTERNAL)|device (?:was |is )?lost|VK_ERROR_DEVICE_LOST/i;

function openChannel(): Channel<FromThread, ToThread> {
  if (data.socket === null) return portChannel(parentPort!);
  const { address, secret, thread } = data.socket;
  const socket = connect(address);
  const hello: Hello = { secret, thread };
  socket.write(encodeHeader(hello, 0));
  socket.once("close", end);
  return socketChannel(socket);
}

function regionKey(region: Region): string {
  return `${region.offset}+${region.bytes}`;
}

function slotOf(region: Region): ArrayBuffer {
  const key = regionKey(region);
  let buffer = mapped.get(key);
  if (buffer === undefined) {
    buffer = mapRegion(data.arenaFd!, region);
    mapped.set(key, buffer);
  }
  return buffer;
}

/** The daemon gives up a region only when no execution uses it, and names it in none that follows. */
function unmap(region: Region): void {
  const key = regionKey(region);
  const buffer = mapped.get(key);
  if (buffer !== undefined) pageLocks.giveUp(buffer);
  mapped.delete(key);
}

/** The line is closed only after all models were unloaded, so nothing is executing and nothing will. */
function end(): void {
  for (const buffer of mapped.values()) pageLocks.giveUp(buffer);
  process.exit();
}

async function load(request: LoadRequest): Promise<void> {
  try {
    const tell = (activity: string) => channel.send({ type: "progress", model: request.model, activity });
    const trialMemory = pageLocks.trialMemory(request.provider);
    const { model, warmed } = await HostedModel.load(request, token.trialTurn, tell, { trialMemory });
    models.set(request.model, model);
    channel.send({ type: "loaded", model: request.model, result: warmed });
  } catch (error) {
    const { code, message } = error instanceof LoadError ? error : new LoadError("invalid", String(error));
    channel.send({ type: "load-failed", model: request.model, code, message });
  }
}

async function warm(request: WarmRequest): Promise<void> {
  try {
    const model = models.get(request.model);
    if (model === undefined) throw new Error(`model "${request.model}" is not loaded here`);
    channel.send({ type: "warmed", us: await model.warm(request) });
  } catch (error) {
    channel.send({ type: "warm-failed", message: error instanceof Error ? error.message : String(error) });
  }
}

async function unload(key: string): Promise<void> {
  const model = models.get(key);
  models.delete(key);
  await model?.release();
  channel.send({ type: "unloaded", model: key });
}

/** Takes the batch's turn before it yields, whatever becomes of it: the thread may have the next one already. */
async function execute(
  request: NumberedRun,
  strings: Uint8Array,
  transferred: ArrayBuffer | null,
): Promise<Executed & { readonly slot: ArrayBuffer }> {
  const turn = token.batchTurn(request.turn);
  const model = models.get(request.model);
  let slot: ArrayBuffer;
  try {
    if (model === undefined) throw new ExecutionError(`model "${request.model}" is not loaded here`, null);
    slot = transferred ?? slotOf(request.region!);
  } catch (error) {
    return await turn(() => Promise.reject(error));
  }
  const { executeUs, outputs, payload } = await model.execute(slot, request.shape, request.bucket, strings, turn);
  return { executeUs, outputs, payload, slot };
}

async function run(request: NumberedRun, strings: Uint8Array, transferred: ArrayBuffer | null): Promise<void> {
  const { execution } = request;
  try {
    const { executeUs, outputs, payload, slot } = await execute(request, strings, transferred);
    channel.send({ type: "done", execution, executeUs, outputs }, payload, transferred ?? undefined);
    if (transferred === null) pageLocks.used(slot);
  } catch (error) {
    const { message, executeUs } = error instanceof ExecutionError ? error : new ExecutionError(String(error), null);
    const fatal = FATAL.test(message);
    channel.send({ type: "failed", execution, message, executeUs, fatal }, [], transferred ?? undefined);
  }
}

function handle(message: ToThread, payload: Uint8Array, buffer: ArrayBuffer | null): void {
  switch (message.type) {
    case "load":
      void load(message.request);
      break;
    case "warm":
      void warm(message);
      break;
    case "unload":
      void unload(message.model);
      break;
    case "map":
      slotOf(message.region);
      break;
    case "unmap":
      unmap(message.region);
      break;
    case "run":
      void run(message, payload, buffer);
      break;
  }
}

const channel = openChannel();
channel.onMessage(handle);
