/** Counts the rows of a run, and says so. */
import type { SlacklineError } from "../errors.ts";
import type { RowResult, RowSink, RowSource } from "./rows.ts";

/** Failed rows that are named on standard error; the output has them all. */
const FAILURES_TOLD_MAX = 3;

export class Tally {
  readonly #model: string;
  readonly #source: RowSource;
  readonly #before: number;
  readonly #startMs = performance.now();
  #written = 0;
  #told = 0;
  #version: string | undefined;
  #failed: number;
  #waiting: SlacklineError | null = null;

  constructor(model: string, source: RowSource, sink: RowSink) {
    this.#model = model;
    this.#source = source;
    this.#before = sink.before.rows;
    this.#failed = sink.before.failed;
  }

  /** Rows that this run has written. */
  get written(): number {
    return this.#written;
  }

  /** The version of the model that answers; undefined as long as that is not known. */
  get version(): string | undefined {
    return this.#version;
  }

  /** Those of earlier runs included. */
  get failed(): number {
    return this.#failed;
  }

  waiting(error: SlacklineError): void {
    this.#waiting = error;
  }

  /** Gives what is to be said of failures. */
  add(results: readonly RowResult[], failed: number): string[] {
    this.#waiting = null;
    this.#written += results.length;
    this.#failed += failed;
    const lines: string[] = [];
    for (const result of results) {
      if (!("error" in result)) {
        this.#version = result.version;
        continue;
      }
      if (this.#told >= FAILURES_TOLD_MAX) continue;
      lines.push(`row ${result.row} failed: ${result.error.code}: ${result.error.message}`);
      if (++this.#told === FAILURES_TOLD_MAX) lines.push("further rows that fail are in the output only");
    }
    return lines;
  }

  now(): string {
    const { total, readShare } = this.#source;
    const of = total === null ? "" : ` of ${count(total)}`;
    const share = readShare === null ? "" : ` (${Math.floor(readShare * 100)} % read)`;
    const waiting = this.#waiting === null ? "" : `; waiting: ${this.#waiting.message.replaceAll(/\s+/g, " ").trim()}`;
    return `${this.#name}: ${count(this.#rows)}${of} rows${share}, ${this.#perSecond()} a second${this.#failures()}${waiting}`;
  }

  end(): string {
    const before = this.#before === 0 ? "" : ` (${count(this.#before)} of them before)`;
    const seconds = this.#seconds.toFixed(1);
    return `${this.#name}: ${rowsText(this.#rows)}${before}${this.#failures()} in ${seconds} s, ${this.#perSecond()} a second`;
  }

  get #name(): string {
    return this.#version === undefined ? this.#model : `${this.#model} version ${this.#version}`;
  }

  get #rows(): number {
    return this.#before + this.#written;
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

/** A whole number as people read it. */
function count(n: number): string {
  return Math.round(n).toLocaleString("en-US");
}

function rowsText(n: number): string {
  return `${count(n)} ${n === 1 ? "row" : "rows"}`;
}
