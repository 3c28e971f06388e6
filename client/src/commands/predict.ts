/** `slackline-client predict`: a model over a file of any size, as best-effort work. */
import path from "node:path";
import { parseArgs } from "node:util";
import type { SlacklineClient } from "../client.ts";
import { invalidArgument, type SlacklineError } from "../errors.ts";
import { Answerer } from "../predict/answer.ts";
import { jsonInput } from "../predict/json-input.ts";
import { jsonOutput } from "../predict/json-output.ts";
import { describeModel, type PredictModel } from "../predict/model.ts";
import { npyInput } from "../predict/npy-input.ts";
import { npyFileOf, npyOutput } from "../predict/npy-output.ts";
import { count, Progress, rowsText } from "../predict/progress.ts";
import type { Existing, RowResult, RowSink, RowSource } from "../predict/rows.ts";
import { run as runRows } from "../predict/run.ts";
import { type Command, connect, countFlag, namesFlag, parsed, positiveFlag, UsageError } from "./command.ts";

const USAGE = `Usage: slackline-client predict MODEL --target HOST:PORT --input INPUT --output OUTPUT [options]

Runs a model over a file of any size, in time that no deadline of the server's other callers needs.

  --target HOST:PORT     the server
  --input FILE           JSON lines, one item on each: {"id": …, "inputs": {"NAME": nested arrays, …}}; - for standard input
  --input NAME=FILE.npy  or NumPy arrays, one for each input of the model, items along the first axis
  --output FILE          JSON lines, in the order of the input; - for standard output
  --output FOLDER/       or, of NumPy arrays, one NAME.npy for each output, and errors.jsonl (the slash tells them apart)
  --resume               go on with an output that is there
  --force                overwrite an output that is there
  --outputs A,B          only these outputs
  --version N            this version of the model (the server's choice)
  --tenant NAME          on whose behalf
  --tls                  connect with TLS
  --items-per-request N  items that share a request (an eighth of what the model batches)
  --outstanding N        items that are under way at once (4 times what the model batches, 4096 at most)
  --timeout-ms N         give a request up after so long (never)
  --connect-timeout-ms N how long to wait for the server at the start (10000)

Exit code: 0 where all rows were answered; 1 where some failed, or the run did; 2 for a wrong command line; 130 or 143 when
stopped by SIGINT or SIGTERM.
`;

const EXIT_OK = 0;
const EXIT_FAILED = 1;
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;
type Signal = keyof typeof SIGNALS;

/** Batches that are kept under way, so that the next is there whenever one ends. */
const OUTSTANDING_BATCHES = 4;
const OUTSTANDING_ITEMS_MAX = 4096;
/** Requests that make up a batch: small ones fit into short gaps between what has deadlines. */
const REQUESTS_PER_BATCH = 8;
/** Failed rows that are named on standard error; the output has them all. */
const FAILURES_TOLD_MAX = 3;

type Input =
  | { readonly type: "lines"; readonly file: string }
  | { readonly type: "arrays"; readonly files: ReadonlyMap<string, string> };

type Output = { readonly type: "lines"; readonly file: string } | { readonly type: "arrays"; readonly folder: string };

interface PredictOptions {
  readonly model: string;
  readonly target: string;
  readonly input: Input;
  readonly output: Output;
  readonly existing: Existing;
  readonly outputs: readonly string[] | null;
  readonly version: string | undefined;
  readonly tenant: string | undefined;
  readonly tls: boolean;
  readonly itemsPerRequest: number | null;
  readonly outstanding: number | null;
  readonly timeoutMs: number | null;
  readonly connectTimeoutMs: number;
}

function parse(argv: readonly string[]): PredictOptions {
  const { values, positionals } = parsed(() =>
    parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        target: { type: "string" },
        input: { type: "string", multiple: true, default: [] },
        output: { type: "string" },
        resume: { type: "boolean", default: false },
        force: { type: "boolean", default: false },
        outputs: { type: "string" },
        version: { type: "string" },
        tenant: { type: "string" },
        tls: { type: "boolean", default: false },
        "items-per-request": { type: "string" },
        outstanding: { type: "string" },
        "timeout-ms": { type: "string" },
        "connect-timeout-ms": { type: "string", default: "10000" },
      },
    }),
  );
  const [model, ...more] = positionals;
  if (model === undefined || more.length > 0) throw new UsageError("predict needs the name of one model");
  const { target } = values;
  if (target === undefined || values.input.length === 0 || values.output === undefined) {
    throw new UsageError("predict needs --target, --input and --output");
  }
  const input = inputOf(values.input);
  const output = outputOf(values.output, input);
  const { resume, force } = values;
  if (resume && force) throw new UsageError("--resume and --force exclude each other");
  if (resume && values.output === "-")
    throw new UsageError("--resume needs an output in a file: standard output is gone");
  const timeout = values["timeout-ms"];
  return {
    model,
    target,
    input,
    output,
    existing: resume ? "resume" : force ? "overwrite" : "refuse",
    outputs: namesFlag(values.outputs),
    version: values.version,
    tenant: values.tenant,
    tls: values.tls,
    itemsPerRequest: countFlag("items-per-request", values["items-per-request"]),
    outstanding: countFlag("outstanding", values.outstanding),
    timeoutMs: timeout === undefined ? null : positiveFlag("timeout-ms", timeout),
    connectTimeoutMs: positiveFlag("connect-timeout-ms", values["connect-timeout-ms"]),
  };
}

function inputOf(inputs: readonly string[]): Input {
  const arrays = inputs.filter((input) => /^[^=]+=.*\.npy$/s.test(input));
  if (arrays.length === 0) {
    const [file, ...more] = inputs as [string, ...string[]];
    if (more.length > 0) throw new UsageError("--input takes one file of JSON lines, or NAME=FILE.npy for each input");
    if (file.endsWith(".npy")) throw new UsageError(`--input ${file}: which input is it? Say NAME=${file}`);
    return { type: "lines", file };
  }
  if (arrays.length < inputs.length) throw new UsageError("--input takes either JSON lines or .npy files, not both");
  const files = new Map<string, string>();
  for (const array of arrays) {
    const at = array.indexOf("=");
    const name = array.slice(0, at);
    if (files.has(name)) throw new UsageError(`--input gives '${name}' twice`);
    files.set(name, array.slice(at + 1));
  }
  return { type: "arrays", files };
}

function outputOf(output: string, input: Input): Output {
  if (output.endsWith("/") || output.endsWith(path.sep)) {
    if (input.type === "lines") {
      throw new UsageError(`--output ${output} is a folder of arrays, which needs an input of .npy files; name a file`);
    }
    return { type: "arrays", folder: output };
  }
  if (output.endsWith(".npy")) {
    throw new UsageError(
      `--output ${output}: arrays go to a folder, one file for each output; name it with a slash at its end`,
    );
  }
  return { type: "lines", file: output };
}

/** Overwriting what is read would leave nothing of either. */
function checkApart({ input, output }: PredictOptions, model: PredictModel): void {
  const read = (input.type === "lines" ? [input.file] : [...input.files.values()]).map((file) => path.resolve(file));
  const written =
    output.type === "lines" ? [output.file] : model.outputs.map(({ name }) => npyFileOf(output.folder, name));
  for (const file of written) {
    if (file !== "-" && read.includes(path.resolve(file))) throw invalidArgument(`${file} is input and output`);
  }
}

function openSource({ input }: PredictOptions, model: PredictModel): Promise<RowSource> {
  return input.type === "lines" ? jsonInput(input.file, model) : npyInput(input.files, model);
}

function openSink({ output, existing }: PredictOptions, model: PredictModel, source: RowSource): Promise<RowSink> {
  return output.type === "lines"
    ? jsonOutput(output.file, existing)
    : npyOutput(output.folder, model, source.total!, existing);
}

interface Sizes {
  readonly itemsPerRequest: number;
  readonly outstandingItems: number;
}

function sizesOf({ itemsPerRequest, outstanding }: PredictOptions, { name, maxBatchSize }: PredictModel): Sizes {
  const most = maxBatchSize ?? 1;
  if (itemsPerRequest !== null && itemsPerRequest > most) {
    const why = maxBatchSize === null ? "has no batch dimension" : `takes ${most} items at most`;
    throw invalidArgument(`--items-per-request is ${itemsPerRequest}, but model '${name}' ${why}`);
  }
  const outstandingItems = outstanding ?? Math.max(most, Math.min(OUTSTANDING_BATCHES * most, OUTSTANDING_ITEMS_MAX));
  const perRequest = itemsPerRequest ?? Math.ceil(most / REQUESTS_PER_BATCH);
  return { itemsPerRequest: Math.min(perRequest, outstandingItems), outstandingItems };
}

/** Why a run that was told to stop ended. */
class Stopped extends Error {
  readonly signal: Signal;

  constructor(signal: Signal) {
    super(`stopped by ${signal}`);
    this.signal = signal;
  }
}

async function run(argv: readonly string[]): Promise<number> {
  const options = parse(argv);
  const { target, tls, tenant, outputs, version, connectTimeoutMs, outstanding } = options;
  const client = connect(target, tls, {
    ...(tenant === undefined ? {} : { tenant }),
    // All that is under way may wait for a stream.
    ...(outstanding === null ? {} : { queueMax: outstanding }),
  });
  try {
    const model = await describeModel(client, { name: options.model, version, outputs, timeoutMs: connectTimeoutMs });
    const sizes = sizesOf(options, model);
    checkApart(options, model);
    const source = await openSource(options, model);
    try {
      const sink = await openSink(options, model, source);
      try {
        return await predictRows(client, model, options, sizes, source, sink);
      } finally {
        await sink.close();
      }
    } finally {
      await source.close();
    }
  } finally {
    client.close();
  }
}

async function predictRows(
  client: SlacklineClient,
  model: PredictModel,
  options: PredictOptions,
  sizes: Sizes,
  source: RowSource,
  sink: RowSink,
): Promise<number> {
  const tally = new Tally(model.name, source, sink);
  const ownTerminal = options.output.type === "arrays" || options.output.file !== "-" || !process.stdout.isTTY;
  const progress = new Progress(process.stderr, process.stderr.isTTY && ownTerminal, () => tally.now());
  const stop = new AbortController();
  const onSignal = (signal: Signal): void => stop.abort(new Stopped(signal));
  // A second one ends the process at once.
  for (const signal of Object.keys(SIGNALS)) process.once(signal, onSignal);
  try {
    const answerer = new Answerer(client, model, {
      timeoutMs: options.timeoutMs,
      signal: stop.signal,
      waiting: (error) => tally.waiting(error),
    });
    await runRows({
      source,
      sink,
      answer: (batch) => answerer.answer(batch),
      ...sizes,
      signal: stop.signal,
      written: (results, failed) => {
        for (const line of tally.written(results, failed)) progress.say(line);
      },
    });
    progress.say(tally.end());
    return tally.failed > 0 ? EXIT_FAILED : EXIT_OK;
  } catch (error) {
    const file = options.output.type === "lines" && options.output.file === "-";
    const next = file || tally.rows === 0 ? "" : "; the same command with --resume goes on from there";
    progress.say(`${tally.end()}, then ${error instanceof Stopped ? error.message : "the run failed"}${next}`);
    if (error instanceof Stopped) return SIGNALS[error.signal];
    throw error;
  } finally {
    for (const signal of Object.keys(SIGNALS)) process.off(signal, onSignal);
    // Nothing that is still under way is waited for.
    stop.abort();
    progress.stop();
  }
}

/** Counts what has been written, and says so. */
class Tally {
  readonly #model: string;
  readonly #source: RowSource;
  readonly #before: number;
  readonly #startMs = performance.now();
  #written = 0;
  #told = 0;
  #failed: number;
  #waiting: SlacklineError | null = null;

  constructor(model: string, source: RowSource, sink: RowSink) {
    this.#model = model;
    this.#source = source;
    this.#before = sink.before.rows;
    this.#failed = sink.before.failed;
  }

  /** Rows in the output, those of earlier runs included. */
  get rows(): number {
    return this.#before + this.#written;
  }

  get failed(): number {
    return this.#failed;
  }

  waiting(error: SlacklineError): void {
    this.#waiting = error;
  }

  /** Gives what is to be said of failures. */
  written(results: readonly RowResult[], failed: number): string[] {
    this.#waiting = null;
    this.#written += results.length;
    this.#failed += failed;
    const lines: string[] = [];
    for (const result of results) {
      if (!("error" in result) || this.#told >= FAILURES_TOLD_MAX) continue;
      lines.push(`row ${result.row} failed: ${result.error.code}: ${result.error.message}`);
      if (++this.#told === FAILURES_TOLD_MAX) lines.push("further rows that fail are in the output only");
    }
    return lines;
  }

  now(): string {
    const { total, readShare } = this.#source;
    const of = total === null ? "" : ` of ${count(total)}`;
    const share = readShare === null ? "" : ` (${Math.floor(readShare * 100)} % read)`;
    const waiting = this.#waiting === null ? "" : `; waiting: ${this.#waiting.message}`;
    return `${this.#model}: ${count(this.rows)}${of} rows${share}, ${this.#perSecond()} a second${this.#failures()}${waiting}`;
  }

  end(): string {
    const before = this.#before === 0 ? "" : ` (${count(this.#before)} of them before)`;
    const seconds = this.#seconds.toFixed(1);
    return `${this.#model}: ${rowsText(this.rows)}${before}${this.#failures()} in ${seconds} s, ${this.#perSecond()} a second`;
  }

  get #seconds(): number {
    return (performance.now() - this.#startMs) / 1000;
  }

  #perSecond(): string {
    return count(this.#written / this.#seconds);
  }

  #failures(): string {
    return this.#failed === 0 ? "" : `, ${count(this.#failed)} failed`;
  }
}

export const predict: Command = { usage: USAGE, run };
