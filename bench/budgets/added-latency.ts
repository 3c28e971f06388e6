/** What the way through an idle daemon adds to one item's execution. */
import { SlacklineClient, type Tensor } from "slackline-client";
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
/** Gap between calls, so that the daemon is idle when the next comes. */
const GAP_MS = 2;

type Way = "direct" | "stream" | "unary";

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
  const client = new SlacklineClient({ target: address });
  try {
    const lines: BudgetLine[] = [];
    for (const model of models) lines.push(await measure(client, status, model));
    return lines;
  } finally {
    client.close();
  }
}

async function measure(
  client: SlacklineClient,
  status: DaemonStatus,
  { name, file }: ModelToMeasure,
): Promise<BudgetLine> {
  const { inputs: specs } = await client.modelMetadata(name);
  const { max_batch_size } = await client.modelConfig(name);
  const inputs = makeInputs(specs, max_batch_size > 0, 1, {}, 1);
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
  };
  const took: Record<Way, number[]> = { direct: [], stream: [], unary: [] };
  const executedMs: number[] = [];
  for (let round = -WARMUP_ROUNDS; round < ROUNDS; round++) {
    for (const way of ["direct", "stream", "unary"] as const) {
      for (let n = 0; n < CALLS_PER_ROUND; n++) {
        await new Promise((resolve) => setTimeout(resolve, GAP_MS));
        const started = performance.now();
        await call[way]();
        if (round >= 0) took[way].push(performance.now() - started);
      }
    }
  }
  await session.release();
  const median = (way: Way): number => quantile(took[way], 0.5);
  const note = `direct ${figure(median("direct"))} ms, stream ${figure(median("stream"))} ms (of it execution ${figure(quantile(executedMs, 0.5))} ms), unary ${figure(median("unary"))} ms`;
  const added = median("stream") - median("direct");
  return atMost(`added latency, idle daemon, one item of ${name}`, LIMIT_MS, "ms", added, note, "median");
}

function runtimeTensor({ datatype, shape, data }: Tensor) {
  if (datatype === "BYTES") return stringTensor(data, shape);
  if (datatype === "BF16") throw new Error("the runtime takes no BF16");
  return tensorOver(datatype, data.buffer as ArrayBuffer, data.byteOffset, shape);
}
