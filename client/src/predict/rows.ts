/** What is predicted: one row of the input after the other, each an item of the model. */
import type { SlacklineErrorCode } from "../errors.ts";
import type { Tensor } from "../tensor.ts";

/** Of a file at a time. */
export const READ_BYTES: number = 2 ** 20;

export type RowId = string | number;

export interface RowError {
  readonly code: SlacklineErrorCode;
  /** The cause in one word, where there is one: the daemon's, the client's, or `input` where the row could not be read. */
  readonly reason: string | null;
  readonly message: string;
}

interface Numbered {
  /** Counts from 0. */
  readonly row: number;
  /** What the input calls it. */
  readonly id?: RowId | undefined;
}

/** Tensors of one item by name, without a batch dimension where the model has one. */
export interface ReadRow extends Numbered {
  readonly inputs: ReadonlyMap<string, Tensor>;
}

/** A row that is done for: it could not be read, or its request failed for good. */
export interface FailedRow extends Numbered {
  readonly error: RowError;
}

export type Row = ReadRow | FailedRow;

export interface AnsweredRow extends Numbered {
  /** Of the model; undefined where the server does not say it. */
  readonly version: string | undefined;
  readonly outputs: Readonly<Record<string, Tensor>>;
}

export type RowResult = AnsweredRow | FailedRow;

/** Rows in order. */
export interface RowSource {
  /** Rows of the whole input; null where that shows only at its end. */
  readonly total: number | null;
  /** Share of the input that has been read, 0 to 1; null where its size is not known. */
  readonly readShare: number | null;
  /**
   * The rows that come after those in the output already, by what was read together. Throws SlacklineError where it can't go on, and
   * ends or throws early when the signal aborts.
   */
  read(before: Earlier, signal: AbortSignal): AsyncIterable<readonly Row[]>;
  close(): Promise<void>;
}

/** What an earlier run wrote. */
export interface Earlier {
  readonly rows: number;
  readonly failed: number;
  /** The last row's, undefined where it has none or that was not kept. */
  readonly lastId: RowId | undefined;
  /** The version of the model that answered last, undefined where there is none or that was not kept. */
  readonly version: string | undefined;
}

/** Takes results in the order of rows. */
export interface RowSink {
  /** What was there before; all zero unless it is resumed. */
  readonly before: Earlier;
  /** What the output lacks although every row was written, for people; null for nothing. */
  readonly lacking: string | null;
  /** Resolves once there is room for more, with how many of the rows are written as failed. */
  write(results: readonly RowResult[]): Promise<number>;
  close(): Promise<void>;
}

export const NOTHING_BEFORE: Earlier = { rows: 0, failed: 0, lastId: undefined, version: undefined };

/** What becomes of output that is there already. */
export type Existing = "refuse" | "overwrite" | "resume";
