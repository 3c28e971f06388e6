/** Runs rows through a model in order, with as much under way as may be and no more of the input read than that. */
import { type Batch, bytesOf, isBatch, kindOf } from "./requests.ts";
import type { FailedRow, Row, RowResult, RowSink, RowSource } from "./rows.ts";

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

/** Bytes of inputs, and of the outputs expected for them, that may be between input and output; a request that is larger goes alone. */
const OUTSTANDING_BYTES_MAX = 64 * 2 ** 20;
/** Of a request of several rows: some of them are kept under way. */
const REQUEST_BYTES_MAX = OUTSTANDING_BYTES_MAX / 4;
/** Neighbours that have failed already and are written together. */
const FAILED_TOGETHER_MAX = 1024;

/** Resolves at the input's end; rejects with what the source, an answer or the sink fails with, or with the signal's reason. */
export async function run(options: RunOptions): Promise<void> {
  const failure = new AbortController();
  const signal = AbortSignal.any([options.signal, failure.signal]);
  const pipeline = new Pipeline(options, (error) => failure.abort(error));
  try {
    for await (const rows of options.source.read(options.sink.before, signal)) {
      await pipeline.add(rows);
      signal.throwIfAborted();
    }
    await pipeline.flush();
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
  /** Neighbours of one kind that wait for more of them. */
  #gathered: Row[] = [];
  #inputBytes = 0;
  #kind = "";
  #items = 0;
  #bytes = 0;
  /** The most that an item has had; null until something was answered. */
  #outputBytes: number | null = null;
  #tail: Promise<void> = Promise.resolve();
  #failed = false;
  #freed: () => void = () => {};

  constructor(options: RunOptions, fail: (error: unknown) => void) {
    this.#options = options;
    this.#fail = fail;
  }

  /** Resolves once there was room for all but those that wait for more, which they do only while something is under way. */
  async add(rows: readonly Row[]): Promise<void> {
    for (const row of rows) {
      const kind = kindOf(row);
      const inputBytes = "error" in row ? 0 : bytesOf(row.inputs.values());
      const bytes = this.#inputBytes + inputBytes + (this.#gathered.length + 1) * (this.#outputBytes ?? 0);
      const joins = kind === this.#kind && ("error" in row || bytes <= REQUEST_BYTES_MAX);
      if (!joins) await this.flush();
      this.#kind = kind;
      this.#gathered.push(row);
      this.#inputBytes += inputBytes;
      const most = "error" in row ? FAILED_TOGETHER_MAX : this.#options.itemsPerRequest;
      if (this.#gathered.length >= most) await this.flush();
    }
    if (this.#items === 0) await this.flush();
  }

  /** Resolves once there was room for what waits, which there is too where nothing will be written any more. */
  async flush(): Promise<void> {
    const rows = this.#gathered;
    const inputBytes = this.#inputBytes;
    this.#gathered = [];
    this.#inputBytes = 0;
    if (rows.length === 0) return;
    const bytesNow = (): number => (isBatch(rows) ? inputBytes + rows.length * (this.#outputBytes ?? 0) : 0);
    while (!this.#hasRoom(rows.length, bytesNow())) {
      await new Promise<void>((resolve) => {
        this.#freed = resolve;
      });
    }
    if (this.#failed) return;
    const bytes = bytesNow();
    this.#items += rows.length;
    this.#bytes += bytes;
    const results = isBatch(rows) ? this.#options.answer(rows) : Promise.resolve(rows as readonly FailedRow[]);
    // Looked at in its turn.
    results.catch(() => {});
    this.#tail = this.#tail.then(() => this.#write(results, rows.length, bytes));
  }

  /** Resolves once all that is under way is written or given up. */
  async drained(): Promise<void> {
    this.#gathered = [];
    await this.#tail;
  }

  #hasRoom(items: number, bytes: number): boolean {
    if (this.#items === 0 || this.#failed) return true;
    // The first answer tells how large outputs are, and which version gives them.
    if (this.#outputBytes === null) return false;
    return this.#items + items <= this.#options.outstandingItems && this.#bytes + bytes <= OUTSTANDING_BYTES_MAX;
  }

  async #write(results: Promise<readonly RowResult[]>, items: number, bytes: number): Promise<void> {
    if (this.#failed) return;
    try {
      const ready = await results;
      for (const result of ready) {
        if ("outputs" in result) {
          this.#outputBytes = Math.max(this.#outputBytes ?? 0, bytesOf(Object.values(result.outputs)));
        }
      }
      this.#options.written(ready, await this.#options.sink.write(ready));
    } catch (error) {
      this.#failed = true;
      this.#fail(error);
    }
    this.#items -= items;
    this.#bytes -= bytes;
    this.#freed();
    if (this.#items === 0) await this.flush();
  }
}
