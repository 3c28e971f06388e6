/** `slackline-client predict`: a model over a file of any size, as best-effort work. */
import path from "node:path";
import type { SlacklineClient } from "../client.ts";
import { invalidArgument } from "../errors.ts";
import { Answerer } from "../predict/answer.ts";
import { jsonInput } from "../predict/json-input.ts";
import { jsonOutput } from "../predict/json-output.ts";
import { describeModel, type PredictModel } from "../predict/model.ts";
import { npyInput } from "../predict/npy-input.ts";
import { npyFileOf, npyOutput } from "../predict/npy-output.ts";
import { Progress } from "../predict/progress.ts";
import type { RowSink, RowSource } from "../predict/rows.ts";
import { run as runRows } from "../predict/run.ts";
import { Tally } from "../predict/tally.ts";
import { type Command, connect } from "./command.ts";
import { PREDICT_USAGE, type PredictOptions, parsePredict } from "./predict-options.ts";

const EXIT_OK = 0;
const EXIT_FAILED = 1;
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;
type Signal = keyof typeof SIGNALS;

/** Batches that are kept under way, so that the next is there whenever one ends. */
const OUTSTANDING_BATCHES = 4;
const OUTSTANDING_ITEMS_MAX = 4096;
/** Requests that make up a batch: small ones fit into short gaps between what has deadlines. */
const REQUESTS_PER_BATCH = 8;

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
  const options = parsePredict(argv);
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

function resumeHint({ output, existing }: PredictOptions): string {
  if (output.type === "lines" && output.file === "-") return "";
  return `; the same command with --resume${existing === "overwrite" ? " in place of --force" : ""} goes on from there`;
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
        for (const line of tally.add(results, failed)) progress.say(line);
      },
    });
    progress.say(tally.end());
    return tally.failed > 0 ? EXIT_FAILED : EXIT_OK;
  } catch (error) {
    const stopped = error instanceof Stopped;
    if (stopped || tally.written > 0) {
      progress.say(`${tally.end()}, then ${stopped ? error.message : "the run failed"}${resumeHint(options)}`);
    }
    if (stopped) return SIGNALS[error.signal];
    throw error;
  } finally {
    for (const signal of Object.keys(SIGNALS)) process.off(signal, onSignal);
    // Nothing that is still under way is waited for.
    stop.abort();
    progress.stop();
  }
}

export const predict: Command = { usage: PREDICT_USAGE, run };
