/** `slackline-client predict`: a model over a file of any size, as best-effort work. */
import { stat } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import type { SlacklineClient } from "../client.ts";
import { invalidArgument, SlacklineError } from "../errors.ts";
import { Answerer, VERSION_GONE, versionGone } from "../predict/answer.ts";
import { jsonInput } from "../predict/json-input.ts";
import { jsonOutput, versionIn } from "../predict/json-output.ts";
import { describeModel, type PredictModel } from "../predict/model.ts";
import { npyInput } from "../predict/npy-input.ts";
import { filesOf, npyOutput } from "../predict/npy-output.ts";
import { isNotServed } from "../predict/passing.ts";
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

/** So long after a signal, what a pipe's reader has not taken is given up. */
const STOP_MS_MAX = 2_000;

/** Overwriting what is read would leave nothing of either, by whatever names they go. */
async function checkApart({ input, output }: PredictOptions, model: PredictModel): Promise<void> {
  const read = input.type === "lines" ? [streamFile(input.file, "/dev/stdin")] : [...input.files.values()];
  const written = output.type === "lines" ? [streamFile(output.file, "/dev/stdout")] : filesOf(output.folder, model);
  const readFiles = await Promise.all(read.map(fileId));
  for (const file of written) {
    const id = await fileId(file);
    if (id !== null && readFiles.includes(id)) throw invalidArgument(`${file} is input and output`);
  }
}

function streamFile(file: string, stream: string): string {
  return file === "-" ? stream : file;
}

/** What tells whether two names are of one file; null where there is none, or no regular one. */
async function fileId(file: string): Promise<string | null> {
  const stats = await stat(file, { bigint: true }).catch(() => null);
  return stats?.isFile() ? `${stats.dev}:${stats.ino}` : null;
}

function openSource({ input }: PredictOptions, model: PredictModel): Promise<RowSource> {
  return input.type === "lines" ? jsonInput(input.file, model) : npyInput(input.files, model);
}

function openSink({ output, existing }: PredictOptions, model: PredictModel, source: RowSource): Promise<RowSink> {
  return output.type === "lines"
    ? jsonOutput(output.file, model, existing)
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
    const describe = (wanted: string | undefined): Promise<PredictModel> =>
      describeModel(client, { name: options.model, version: wanted, outputs, timeoutMs: connectTimeoutMs });
    const model = version === undefined ? await describeAsBefore(options, describe) : await describe(version);
    const sizes = sizesOf(options, model);
    await checkApart(options, model);
    const source = await openSource(options, model);
    try {
      const sink = await openSink(options, model, source);
      try {
        return await predictRows(client, model, describe, options, sizes, source, sink);
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

/** The model as the version describes it that answered the rows before; without those as the one that speaks for it. */
async function describeAsBefore(
  { model, output, existing }: PredictOptions,
  describe: (version: string | undefined) => Promise<PredictModel>,
): Promise<PredictModel> {
  const resumes = existing === "resume" && output.type === "lines" && output.file !== "-";
  const before = resumes ? await versionIn(output.file) : undefined;
  try {
    return await describe(before);
  } catch (error) {
    if (before === undefined || !(error instanceof SlacklineError) || !isNotServed(error)) throw error;
    throw versionGone(model, before, error);
  }
}

/** Versions that get a share of the traffic may differ from the one that describes the model. */
function checkAlike(described: PredictModel, answered: PredictModel, version: string): void {
  if (isDeepStrictEqual(described, { ...answered, version: described.version })) return;
  throw new SlacklineError(
    "FAILED_PRECONDITION",
    `version ${version} of model '${described.name}' answered, but has other inputs, outputs or batches than the version that describes the model: choose one with --version`,
  );
}

/** How to go on with what was written; empty for a stream. */
function resumeHint({ output, existing }: PredictOptions, version: string | undefined): string {
  if (output.type === "lines" && output.file === "-") return "";
  const flags = `--resume${version === undefined ? "" : ` --version ${version}`}`;
  return `the same command with ${flags}${existing === "overwrite" ? " in place of --force" : ""} goes on from there`;
}

async function predictRows(
  client: SlacklineClient,
  model: PredictModel,
  describe: (version: string) => Promise<PredictModel>,
  options: PredictOptions,
  sizes: Sizes,
  source: RowSource,
  sink: RowSink,
): Promise<number> {
  const tally = new Tally(model.name, source, sink);
  const ownTerminal = options.output.type === "arrays" || options.output.file !== "-" || !process.stdout.isTTY;
  const progress = new Progress(process.stderr, process.stderr.isTTY && ownTerminal, () => tally.now());
  const stop = new AbortController();
  // Lines of JSON tell which version answered the rows before, arrays don't.
  const sameVersion = (): string | undefined =>
    options.output.type === "arrays" && options.version === undefined ? tally.version : undefined;
  const stopped = ({ message }: Stopped): string => {
    const hint = resumeHint(options, sameVersion());
    return `${tally.end()}, then ${message}${hint === "" ? "" : `; ${hint}`}`;
  };
  let giveUp: NodeJS.Timeout | undefined;
  const onSignal = (signal: Signal): void => {
    // A second one, of whichever kind, ends the process at once.
    for (const any of Object.keys(SIGNALS)) process.off(any, onSignal);
    const reason = new Stopped(signal);
    giveUp = setTimeout(() => {
      progress.say(stopped(reason));
      process.exit(SIGNALS[signal]);
    }, STOP_MS_MAX);
    stop.abort(reason);
  };
  for (const signal of Object.keys(SIGNALS)) process.on(signal, onSignal);
  try {
    const answerer = new Answerer(client, model, {
      version: options.version,
      versionBefore: sink.before.version,
      timeoutMs: options.timeoutMs,
      signal: stop.signal,
      answeredBy: async (version) => checkAlike(model, await describe(version), version),
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
    if (sink.lacking !== null) progress.say(sink.lacking);
    return tally.failed > 0 ? EXIT_FAILED : EXIT_OK;
  } catch (error) {
    if (error instanceof Stopped) {
      progress.say(stopped(error));
      return SIGNALS[error.signal];
    }
    if (tally.written > 0) {
      const gone = error instanceof SlacklineError && error.reason === VERSION_GONE;
      const hint = gone ? resumeHint(options, "N") : resumeHint(options, sameVersion());
      const when = gone ? "with N a version that is served" : "once the cause is mended";
      progress.say(`${tally.end()}, then the run failed${hint === "" ? "" : `; ${when}, ${hint}`}`);
    }
    throw error;
  } finally {
    clearTimeout(giveUp);
    for (const signal of Object.keys(SIGNALS)) process.off(signal, onSignal);
    // Nothing that is still under way is waited for.
    stop.abort();
    progress.stop();
  }
}

export const predict: Command = { usage: PREDICT_USAGE, run };
