/**
 * How many requests a second the wire carries: a bare grpc-js client and server with the same messages, the SDK's unary calls,
 * its streams, and its streams with tensors in shared memory, closed loop, alternating in one run so that a noisy machine is noisy for all.
 */
import { fork } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import { type Datatype, SlacklineClient, SlacklineError } from "slackline-client";
import { killOnExit } from "../tools/command-line/clean-up.ts";
import { checkWritable, writeJson } from "../tools/command-line/output-file.ts";
import { COUNT, hostPort, numberOf, numbersOf, runTool, SECONDS, ToolError } from "../tools/command-line/run-tool.ts";
import { processCpuUs } from "./wire/process-cpu.ts";
import { bareUnary, type Payload, payloadOf, sdk, type Variant } from "./wire/variants.ts";

const USAGE = `usage: npm run -s bench:wire -- [options]

How many requests a second the wire carries: a bare gRPC client, the SDK's unary calls, its streams, and shared memory.
Without a target the SDK talks to the echo server too: that is the SDK's own cost. With one, which should serve a model
that does next to nothing, the bare client talks to both.

  --target HOST:PORT  a daemon
  --model NAME        that it serves (default noop)
  --input NAME        of the model (default: its first)
  --pid PID           the daemon's process, whose CPU time is then told too
  --sizes A,B         bytes of a request's tensor (default 64,12288,602112)
  --rounds N          (default 5)
  --seconds S         of each variant in a round (default 1.5)
  --concurrency N     requests outstanding at once, of large tensors fewer (default 64)
  --json FILE         writes the result as JSON
`;

interface Settings {
  readonly rounds: number;
  readonly seconds: number;
  readonly concurrency: number;
}

/** Bytes outstanding at once, so that large messages measure throughput and not queueing. */
const OUTSTANDING_BYTES_MAX = 8 * 1024 * 1024;

interface InputSpec {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
}

async function inputOf(target: string, model: string, input: string | undefined): Promise<InputSpec> {
  const client = new SlacklineClient({ target });
  try {
    await client.waitForReady({ models: [model] });
    const { inputs } = await client.modelMetadata(model);
    const found = input === undefined ? inputs[0] : inputs.find(({ name }) => name === input);
    if (found === undefined) throw new ToolError(`model '${model}' has no input '${input ?? ""}'`);
    return found;
  } finally {
    client.close();
  }
}

interface Throughput {
  readonly perSecond: number;
  /** CPU time of this process, which a busy machine changes less than the rate. */
  readonly clientCpuUs: number;
  /** Of the server's, with its children; NaN where its process is not known. */
  readonly serverCpuUs: number;
}

/** A way of making a request, and the process that answers it where that is known. */
interface Measured {
  readonly variant: Variant;
  readonly pid: number | undefined;
}

/** Makes requests for a while, with `outstanding` of them under way at any time. */
async function throughput({ variant, pid }: Measured, outstanding: number, forSeconds: number): Promise<Throughput> {
  const startMs = performance.now();
  const cpuBefore = process.cpuUsage();
  const serverCpuUs = (): number => (pid === undefined ? Number.NaN : processCpuUs(pid));
  const serverBefore = serverCpuUs();
  const endMs = startMs + forSeconds * 1000;
  let answered = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() < endMs) {
      await variant.request();
      answered++;
    }
  };
  await Promise.all(Array.from({ length: outstanding }, caller));
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    perSecond: answered / ((performance.now() - startMs) / 1000),
    clientCpuUs: (user + system) / answered,
    serverCpuUs: (serverCpuUs() - serverBefore) / answered,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const round1 = (value: number): number => Math.round(value * 10) / 10;
const round2 = (value: number): number => Math.round(value * 100) / 100;

interface SizeResult {
  readonly bytes: number;
  readonly outstanding: number;
  /** Requests a second: the median of the rounds, and each round. */
  readonly requests_per_s: Readonly<Record<string, { readonly median: number; readonly rounds: readonly number[] }>>;
  /** CPU time of the client's process for each request, median of the rounds. */
  readonly client_cpu_us: Readonly<Record<string, number>>;
  /** Of the server's process and its children; null where it is not known. */
  readonly server_cpu_us: Readonly<Record<string, number | null>>;
  /** Medians of the rounds' own ratios. */
  readonly ratios: Readonly<Record<string, number>>;
}

interface Server {
  readonly target: string;
  readonly pid: number | undefined;
}

async function measureSize(
  payload: Payload,
  echo: Server,
  server: Server,
  { rounds, seconds, concurrency }: Settings,
): Promise<SizeResult> {
  const bytes = payload.tensor.data.byteLength;
  const outstanding = Math.max(4, Math.min(concurrency, Math.floor(OUTSTANDING_BYTES_MAX / bytes)));
  const { target, pid } = server;
  const variants: Measured[] = [
    { variant: bareUnary("bare_unary_echo", echo.target, payload), pid: echo.pid },
    ...(server === echo ? [] : [{ variant: bareUnary("bare_unary", target, payload), pid }]),
    { variant: sdk("sdk_unary", target, payload, { transport: "unary", sharedMemory: "off" }), pid },
    { variant: sdk("sdk_stream", target, payload, { transport: "stream", sharedMemory: "off" }), pid },
    // The echo server has none; of small tensors this is the same as the streams.
    ...(server === echo
      ? []
      : [{ variant: sdk("sdk_shared_memory", target, payload, { transport: "stream", sharedMemory: "auto" }), pid }]),
  ];
  const empty = (): Map<string, number[]> => new Map(variants.map(({ variant }) => [variant.name, []]));
  const measured = empty();
  const cpu = empty();
  const serverCpu = empty();
  try {
    for (const variant of variants) await throughput(variant, outstanding, seconds / 3);
    for (let round = 0; round < rounds; round++) {
      for (const variant of variants) {
        const { perSecond, clientCpuUs, serverCpuUs } = await throughput(variant, outstanding, seconds);
        const { name } = variant.variant;
        measured.get(name)!.push(round1(perSecond));
        cpu.get(name)!.push(clientCpuUs);
        serverCpu.get(name)!.push(serverCpuUs);
      }
    }
  } finally {
    for (const { variant } of variants) variant.close();
  }
  const ratio = (of: string, to: string): number =>
    round2(median(measured.get(of)!.map((value, index) => value / measured.get(to)![index]!)));
  const unary = server === echo ? "sdk_unary" : "bare_unary";
  const medians = (of: Map<string, number[]>) => [...of].map(([name, each]) => [name, round1(median(each))] as const);
  return {
    bytes,
    outstanding,
    requests_per_s: Object.fromEntries(
      [...measured].map(([name, each]) => [name, { median: median(each), rounds: each }]),
    ),
    client_cpu_us: Object.fromEntries(medians(cpu)),
    server_cpu_us: Object.fromEntries(medians(serverCpu).map(([name, us]) => [name, Number.isNaN(us) ? null : us])),
    ratios: {
      unary_to_bare_echo: ratio(unary, "bare_unary_echo"),
      sdk_unary_to_bare_echo: ratio("sdk_unary", "bare_unary_echo"),
      sdk_stream_to_sdk_unary: ratio("sdk_stream", "sdk_unary"),
      sdk_stream_to_bare_echo: ratio("sdk_stream", "bare_unary_echo"),
      ...(server === echo ? {} : { sdk_shared_memory_to_sdk_unary: ratio("sdk_shared_memory", "sdk_unary") }),
    },
  };
}

function print({ bytes, outstanding, requests_per_s, client_cpu_us, server_cpu_us, ratios }: SizeResult): void {
  console.log(`${bytes} B, ${outstanding} outstanding`);
  for (const [name, { median: each }] of Object.entries(requests_per_s)) {
    console.log(
      `  ${name.padEnd(18)} ${each.toFixed(0).padStart(8)} requests/s, µs of CPU each: client ${client_cpu_us[name]}, server ${server_cpu_us[name] ?? "unknown"}`,
    );
  }
  for (const [name, value] of Object.entries(ratios)) console.log(`  ${name.padEnd(26)} ${value.toFixed(2)}`);
}

await runTool(
  {
    name: "bench:wire",
    usage: USAGE,
    options: {
      target: { type: "string" },
      pid: { type: "string" },
      model: { type: "string", default: "noop" },
      input: { type: "string" },
      sizes: { type: "string", default: "64,12288,602112" },
      rounds: { type: "string", default: "5" },
      seconds: { type: "string", default: "1.5" },
      concurrency: { type: "string", default: "64" },
      json: { type: "string" },
    },
    expected: [SlacklineError],
  },
  async ({ values: { model, input: asked, json, ...values } }) => {
    const target = values.target === undefined ? undefined : hostPort("--target", values.target);
    const pid = numberOf("--pid", values.pid, COUNT);
    const bytes = numbersOf("--sizes", values.sizes, COUNT);
    const settings: Settings = {
      rounds: numberOf("--rounds", values.rounds, COUNT),
      seconds: numberOf("--seconds", values.seconds, SECONDS),
      concurrency: numberOf("--concurrency", values.concurrency, COUNT),
    };
    if (json !== undefined) checkWritable(json);
    const echoServer = fork(path.join(import.meta.dirname, "wire", "echo-server.js"));
    killOnExit(echoServer);
    const port = await new Promise<number>((resolve, reject) => {
      echoServer.once("message", (message) => resolve(message as number));
      echoServer.once("exit", (code) => reject(new ToolError(`the echo server ended with ${code}`)));
    });
    const echo: Server = { target: `127.0.0.1:${port}`, pid: echoServer.pid };
    const server: Server = target === undefined ? echo : { target, pid };
    const input: InputSpec =
      target === undefined
        ? { name: asked ?? "x", datatype: "FP32", shape: [-1, -1] }
        : await inputOf(target, model, asked);
    const sizes: SizeResult[] = [];
    for (const size of bytes) {
      const payload = payloadOf(model, input.name, input.datatype, input.shape, size);
      if (payload === null) {
        console.log(`${size} B: skipped, input '${input.name}' of model '${model}' has one size only`);
        continue;
      }
      const result = await measureSize(payload, echo, server, settings);
      print(result);
      sizes.push(result);
    }
    echoServer.disconnect();
    if (json === undefined) return 0;
    const machine = { cpu: cpus()[0]?.model ?? "", cores: availableParallelism(), node: process.version };
    const { rounds, seconds } = settings;
    const setting = { target: target === undefined ? "echo" : "daemon", model, rounds, seconds };
    writeJson(json, { at: new Date().toISOString(), machine, ...setting, sizes });
    return 0;
  },
);
