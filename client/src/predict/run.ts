/** Runs rows through a model in order, with as much under way as may be and no more of the input read than that. */
import { type Batch, batchesOf, bytesOf } from "./requests.ts";
import type { FailedRow, RowResult, RowSink, RowSource } from "./rows.ts";

export interface RunOptions {
  readonly source: RowSource;
  readonly sink: RowSink;
  /** Rejects where the run can't go on. */
  readonly answer: (batch: Batch) => Promise<readonly RowResult[]>;
  readonly itemsPerRequest: number;
  /** Rows that may be between input and output. */
  readonly outstandingItems: number;
  /** Ends the run early. */
  readonly signal: AbortSignal;
  /** Told what has been written. */
  readonly written: (results: readonly RowResult[], failed: number) => void;
}

/** Bytes of inputs that may be between input and output; a request that is larger goes alone. */
const OUTSTANDING_BYTES_MAX = 64 * 2 ** 20;

/** Resolves at the input's end; rejects with what the source, an answer or the sink fails with, or with the signal's reason. */
export async function run(options: RunOptions): Promise<void> {
  const failure = new AbortController();
  const signal = AbortSignal.any([options.signal, failure.signal]);
  const pipeline = new Pipeline(options, (error) => failure.abort(error));
  try {
    for await (const rows of options.source.read(options.sink.before, signal)) {
      for (const next of batchesOf(rows, options.itemsPerRequest)) {
        await pipeline.take(next);
        signal.throwIfAborted();
      }
    }
    signal.throwIfAborted();
  } catch (error) {
    // What the source throws because it was aborted says less than why it was.
    throw signal.aborted ? signal.reason : error;
  } finally {
    await pipeline.drained();
  }
  signal.throwIfAborted();
}

/** What is between input and output, written in order. */
class Pipeline {
  readonly #options: RunOptions;
  readonly #fail: (error: unknown) => void;
  #items = 0;
  #bytes = 0;
  #tail: Promise<void> = Promise.resolve();
  #failed = false;
  #freed: () => void = () => {};

  constructor(options: RunOptions, fail: (error: unknown) => void) {
    this.#options = options;
    this.#fail = fail;
  }

  /** Resolves once there was room, which there is too where nothing will be written any more. */
  async take(next: Batch | FailedRow): Promise<void> {
    const isBatch = "length" in next;
    const items = isBatch ? next.length : 1;
    const bytes = isBatch ? bytesOf(next) : 0;
    while (!this.#hasRoom(items, bytes)) {
      await new Promise<void>((resolve) => {
        this.#freed = resolve;
      });
    }
    if (this.#failed) return;
    this.#items += items;
    this.#bytes += bytes;
    const results = isBatch ? this.#options.answer(next) : Promise.resolve([next]);
    // Looked at in its turn.
    results.catch(() => {});
    this.#tail = this.#tail.then(() => this.#write(results, items, bytes));
  }

  /** Resolves once all that was taken is written or given up. */
  async drained(): Promise<void> {
    await this.#tail;
  }

  #hasRoom(items: number, bytes: number): boolean {
    if (this.#items === 0 || this.#failed) return true;
    return this.#items + items <= this.#options.outstandingItems && this.#bytes + bytes <= OUTSTANDING_BYTES_MAX;
  }

  async #write(results: Promise<readonly RowResult[]>, items: number, bytes: number): Promise<void> {
    if (this.#failed) return;
    try {
      const ready = await results;
      this.#options.written(ready, await this.#options.sink.write(ready));
    } catch (error) {
      this.#failed = true;
      this.#fail(error);
    }
    this.#items -= items;
    this.#bytes -= bytes;
    this.#freed();
  }
}
