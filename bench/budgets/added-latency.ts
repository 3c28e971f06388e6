/** What the way through an idle daemon adds to one item's execution. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type InferInputs, SlacklineClient, type Tensor } from "slackline-client";
import { loadRuntime, sessionOptions, stringTensor, tensorOver } from "../../daemon/device/runtime.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { makeInputs } from "../load/payloads.ts";
import { figure } from "../report/format.ts";
import { atMost, type BudgetLine } from "./budget.ts";
import { quantile } from "./quantile.ts";

const LIMIT_MS = 1;
/** The three ways take turns, so that whatever else the machine does disturbs all alike. */
const ROUNDS = 30;
const CALLS_PER_ROUND = 8;
const WARMUP_ROUNDS = 3;
/** Calls of the quickest model on each way, some at a time, before anything is measured: V8 compiles what has run some thousand times. */
const COMPILING_CALLS = 10_000;
const COMPILING_AT_ONCE = 4;
/** Idle time before a call: none, and enough for cores and caches to turn to something else. */
const GAPS_MS = [0, 2];

/** `echo` is the same message to a bare grpc-js server on a stream: what the wire alone takes. */
const WAYS = ["direct", "stream", "unary", "echo"] as const;
type Way = (typeof WAYS)[number];

export interface ModelToMeasure {
  readonly name: string;
  /** Path of its `model.onnx`. */
  readonly file: string;
}

/** @param models on the device, each measured by itself */
export async function addedLatency(
  address: string,
  status: DaemonStatus,
  models: readonly ModelToMeasure[],
): Promise<BudgetLine[]> {
  const server = fork(new URL("../wire/echo-server.js", import.meta.url), [], { execArgv: [] });
  const client = new SlacklineClient({ target: address });
  const echo = new SlacklineClient({ target: `127.0.0.1:${await portOf(server)}` });
  try {
    await compile([client, echo], status);
    const lines: BudgetLine[] = [];
    for (const gapMs of GAPS_MS) {
      for (const model of models) lines.push(await measure({ client, echo }, status, model, gapMs));
    }
    return lines;
  } finally {
    client.close();
    echo.close();
    server.disconnect();
  }
}

/** Lets the daemon, the echo server and this process compile the way of a request, which is the same for every model. */
async function compile(clients: readonly SlacklineClient[], { models }: DaemonStatus): Promise<void> {
  const itemMs = ({ profile_ms }: DaemonStatus["models"][number]): number =>
    profile_ms?.[0]?.[1] ?? Number.POSITIVE_INFINITY;
  const [quickest] = models.filter(({ state }) => state === "READY").sort((a, b) => itemMs(a) - itemMs(b));
  if (quickest === undefined) throw new Error("no model is ready");
  const inputs = await inputsOf(clients[0]!, quickest.name);
  for (const client of clients) {
    for (const transport of ["stream", "unary"] as const) {
      let left = COMPILING_CALLS;
      const caller = async (): Promise<void> => {
        while (left-- > 0) await client.infer(quickest.name, inputs, { transport, deadlineMs: 5_000, timings: true });
      };
      await Promise.all(Array.from({ length: COMPILING_AT_ONCE }, caller));
    }
  }
}

async function portOf(server: ChildProcess): Promise<number> {
  const [port] = await once(server, "message");
  return port as number;
}

async function inputsOf(client: SlacklineClient, model: string): Promise<InferInputs> {
  const { inputs } = await client.modelMetadata(model);
  const { max_batch_size } = await client.modelConfig(model);
  return makeInputs(inputs, max_batch_size > 0, 1, {}, 1);
}

async function measure(
  { client, echo }: { readonly client: SlacklineClient; readonly echo: SlacklineClient },
  status: DaemonStatus,
  { name, file }: ModelToMeasure,
  gapMs: number,
): Promise<BudgetLine> {
  const inputs = await inputsOf(client, name);
  const threads = status.lanes.find(({ kind }) => kind === "device")?.threads ?? 1;
  const session = await loadRuntime().InferenceSession.create(
    file,
    sessionOptions({ provider: { name: status.device.provider, deviceId: 0 }, threads }),
  );
  const feeds = Object.fromEntries(Object.entries(inputs).map(([input, tensor]) => [input, runtimeTensor(tensor)]));
  const call: Record<Way, () => Promise<unknown>> = {
    direct: () => session.run(feeds),
    stream: async () => {
      const { timings } = await client.infer(name, inputs, { transport: "stream", deadlineMs: 5_000, timings: true });
      executedMs.push((timings?.executeUs ?? Number.NaN) / 1000);
    },
    unary: () => client.infer(name, inputs, { transport: "unary", deadlineMs: 5_000 }),
    echo: () => echo.infer(name, inputs, { transport: "stream", deadlineMs: 5_000 }),
  };
  const took: Record<Way, number[]> = { direct: [], stream: [], unary: [], echo: [] };
  const executedMs: number[] = [];
  for (let round = -WARMUP_ROUNDS; round < ROUNDS; round++) {
    for (const way of WAYS) {
      for (let n = 0; n < CALLS_PER_ROUND; n++) {
        if (gapMs > 0) await new Promise((resolve) => setTimeout(resolve, gapMs));
        const started = performance.now();
        await call[way]();
        if (round >= 0) took[way].push(performance.now() - started);
      }
    }
  }
  await session.release();
  const median = (way: Way): number => quantile(took[way], 0.5);
  const note = `direct ${figure(median("direct"))} ms, stream ${figure(median("stream"))} ms (of it execution ${figure(quantile(executedMs, 0.5))} ms), unary ${figure(median("unary"))} ms; bare gRPC stream ${figure(median("echo"))} ms`;
  const added = median("stream") - median("direct");
  const pace = gapMs === 0 ? "one call after the other" : `${gapMs} ms between calls`;
  return atMost(`added latency, idle daemon, one item of ${name}, ${pace}`, LIMIT_MS, "ms", added, note, "median");
}

function runtimeTensor({ datatype, shape, data }: Tensor) {
  if (datatype === "BYTES") return stringTensor(data, shape);
  if (datatype === "BF16") throw new Error("the runtime takes no BF16");
  return tensorOver(datatype, data.buffer as ArrayBuffer, data.byteOffset, shape);
}
