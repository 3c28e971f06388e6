/** Gets answers to rows: waits out what passes, and finds the row that a request fails for. */
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { SlacklineClient } from "../client.ts";
import { SlacklineError, type SlacklineErrorCode } from "../errors.ts";
import type { PredictModel } from "./model.ts";
import { type Batch, inputsOf, outputsOf } from "./requests.ts";
import type { ReadRow, RowResult } from "./rows.ts";

export interface AnswerOptions {
  /** How long a request may take, all attempts together, in milliseconds; null: as long as it takes. */
  readonly timeoutMs: number | null;
  readonly signal: AbortSignal;
  /** Told whenever a request is to be tried again later. */
  readonly waiting: (error: SlacklineError) => void;
}

const PAUSE_MS_MIN = 20;
const PAUSE_MS_MAX = 5_000;
/** Attempts at a row alone with which a device's lane was lost: it may be what brings the lane down. */
const LOST_TRIES_MAX = 3;
const LOST = "lost";
/** The client's and the daemon's causes of RESOURCE_EXHAUSTED that pass although no hint says when. */
const PASSING: ReadonlySet<string | undefined> = new Set([
  "client_queue",
  "queue_items",
  "queue_bytes",
  "stream_requests",
  "unread_answers",
]);
/** What no other row would fare better with. */
const HOPELESS: ReadonlySet<SlacklineErrorCode> = new Set([
  "NOT_FOUND",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "UNIMPLEMENTED",
  "CANCELLED",
]);

export class Answerer {
  readonly #client: SlacklineClient;
  readonly #model: PredictModel;
  readonly #outputs: readonly string[];
  readonly #options: AnswerOptions;

  constructor(client: SlacklineClient, model: PredictModel, options: AnswerOptions) {
    this.#client = client;
    this.#model = model;
    this.#outputs = model.outputs.map(({ name }) => name);
    this.#options = options;
    // Every request that pauses listens to it.
    setMaxListeners(0, options.signal);
  }

  /** A result for each row; rejects where the run can't go on. */
  async answer(batch: Batch): Promise<RowResult[]> {
    const { timeoutMs } = this.#options;
    const endMs = timeoutMs === null ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    let lost = 0;
    for (let pauses = 0; ; pauses++) {
      try {
        return await this.#infer(batch, endMs - performance.now());
      } catch (error) {
        if (!(error instanceof SlacklineError) || HOPELESS.has(error.code)) throw error;
        const mayPass = error.reason === LOST ? batch.length === 1 && ++lost < LOST_TRIES_MAX : passes(error);
        const pauseMs = pauseOf(error, pauses);
        if (mayPass && performance.now() + pauseMs < endMs) {
          this.#options.waiting(error);
          await sleep(pauseMs, undefined, { signal: this.#options.signal });
        } else if (batch.length === 1 || error.code === "DEADLINE_EXCEEDED" || mayPass) {
          return batch.map((row) => failed(row, error));
        } else {
          return this.#oneByOne(batch);
        }
      }
    }
  }

  async #infer(batch: Batch, leftMs: number): Promise<RowResult[]> {
    const { signal } = this.#options;
    const { outputs } = await this.#client.infer(this.#model.name, inputsOf(batch, this.#model), {
      version: this.#model.version,
      outputs: this.#outputs,
      bestEffort: true,
      signal,
      ...(Number.isFinite(leftMs) ? { deadlineMs: Math.max(1, leftMs) } : {}),
    });
    const parts = outputsOf(batch, outputs, this.#model);
    return batch.map(({ row, id }, i) => ({ row, id, outputs: parts[i]! }));
  }

  /** One after the other: where one brings a lane down, the others are not lost with it. */
  async #oneByOne(batch: Batch): Promise<RowResult[]> {
    const results: RowResult[] = [];
    for (const row of batch) results.push(...(await this.answer([row])));
    return results;
  }
}

function passes({ code, reason, retryAfterMs }: SlacklineError): boolean {
  if (code === "UNAVAILABLE") return true;
  // Without hint or known cause it may be the message itself that is too large, today and tomorrow.
  return code === "RESOURCE_EXHAUSTED" && (retryAfterMs !== undefined || PASSING.has(reason));
}

function pauseOf({ retryAfterMs }: SlacklineError, pauses: number): number {
  const backoffMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** pauses);
  return Math.max(retryAfterMs ?? 0, backoffMs * (0.5 + Math.random() / 2));
}

function failed({ row, id }: ReadRow, { code, reason, message }: SlacklineError): RowResult {
  return { row, id, error: { code, reason: reason ?? null, message } };
}
