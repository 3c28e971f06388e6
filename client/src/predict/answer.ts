/** Gets answers to rows: waits out what passes, and finds the row that a request fails for. */
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { SlacklineClient } from "../client.ts";
import { SlacklineError, type SlacklineErrorCode } from "../errors.ts";
import { LANE_LOST } from "../failures.ts";
import type { PredictModel } from "./model.ts";
import { isNotServed, passes, pauseMsOf } from "./passing.ts";
import { type Batch, inputsOf, outputsOf } from "./requests.ts";
import type { ReadRow, RowResult } from "./rows.ts";
import { Turns } from "./turns.ts";

export interface AnswerOptions {
  /** The version of the model that was asked for; undefined: the one that is described, or else that answers first. */
  readonly version: string | undefined;
  /** The version that answered the rows before; undefined where there are none or they don't tell. */
  readonly versionBefore: string | undefined;
  /** How long a request may take, all attempts together, in milliseconds; null: as long as it takes. */
  readonly timeoutMs: number | null;
  readonly signal: AbortSignal;
  /** Told once which version it is, where that was not known before it answered; rejects where that one can't go on. */
  readonly answeredBy: (version: string) => Promise<void>;
  /** Told whenever a request is to be tried again later. */
  readonly waiting: (error: SlacklineError) => void;
}

/** Why a run ends whose version of the model is not served any more. */
export const VERSION_GONE = "version_gone";
/** What no other row would fare better with. */
const HOPELESS: ReadonlySet<SlacklineErrorCode> = new Set([
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "UNIMPLEMENTED",
  "CANCELLED",
]);

/** What rows of one request fail with all alike. */
const ALL_ALIKE: ReadonlySet<SlacklineErrorCode> = new Set(["DEADLINE_EXCEEDED", "FAILED_PRECONDITION"]);

/** Its requests go to one version of the model: rows that are answered by different ones could not be compared. */
export class Answerer {
  readonly #client: SlacklineClient;
  readonly #model: PredictModel;
  readonly #outputs: readonly string[];
  readonly #options: AnswerOptions;
  readonly #turns = new Turns();
  #version: string | undefined;
  #told: boolean;

  constructor(client: SlacklineClient, model: PredictModel, options: AnswerOptions) {
    this.#client = client;
    this.#model = model;
    this.#outputs = model.outputs.map(({ name }) => name);
    this.#options = options;
    this.#version = options.version ?? options.versionBefore ?? model.version;
    this.#told = this.#version !== undefined;
    // Every request that pauses listens to it.
    setMaxListeners(0, options.signal);
  }

  /** A result for each row; rejects where the run can't go on. */
  answer(batch: Batch): Promise<RowResult[]> {
    return this.#answer(batch, false);
  }

  /** @param alone whether no other request is under way, nor may be */
  async #answer(batch: Batch, alone: boolean): Promise<RowResult[]> {
    const { timeoutMs } = this.#options;
    const endMs = timeoutMs === null ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    const infer = (): Promise<RowResult[]> => this.#infer(batch, endMs - performance.now());
    for (let pauses = 0; ; pauses++) {
      let results: RowResult[];
      try {
        results = await (alone ? infer() : this.#turns.shared(infer));
      } catch (error) {
        if (!(error instanceof SlacklineError) || HOPELESS.has(error.code)) throw error;
        if (isNotServed(error)) throw this.#notServed(error);
        if (error.reason === LANE_LOST) {
          // A daemon gives a model up whose lane crashes again and again: a row that does it alone has done it for the last time.
          if (alone) return batch.map((row) => failed(row, error));
          this.#options.waiting(error);
          return this.#turns.alone(() => this.#oneByOne(batch, true));
        }
        const mayPass = passes(error);
        const pauseMs = pauseMsOf(error, pauses);
        if (mayPass && performance.now() + pauseMs < endMs) {
          this.#options.waiting(error);
          await sleep(pauseMs, undefined, { signal: this.#options.signal });
        } else if (batch.length === 1 || mayPass || ALL_ALIKE.has(error.code)) {
          return batch.map((row) => failed(row, error));
        } else {
          return this.#oneByOne(batch, alone);
        }
        continue;
      }
      await this.#tellVersion();
      return results;
    }
  }

  async #tellVersion(): Promise<void> {
    if (this.#told || this.#version === undefined) return;
    this.#told = true;
    await this.#options.answeredBy(this.#version);
  }

  async #infer(batch: Batch, leftMs: number): Promise<RowResult[]> {
    const { signal } = this.#options;
    const { outputs, version } = await this.#client.infer(this.#model.name, inputsOf(batch, this.#model), {
      version: this.#version,
      outputs: this.#outputs,
      bestEffort: true,
      // What is lost with its lane is tried again here, each row by itself.
      retry: false,
      signal,
      ...(Number.isFinite(leftMs) ? { deadlineMs: Math.max(1, leftMs) } : {}),
    });
    const parts = outputsOf(batch, outputs, this.#model);
    // Other servers than slackline may not say it.
    if (version !== "") this.#version ??= version;
    return batch.map(({ row, id }, i) => ({ row, id, version: this.#version, outputs: parts[i]! }));
  }

  #notServed(error: SlacklineError): SlacklineError {
    if (this.#version === undefined || this.#options.version !== undefined) return error;
    return versionGone(this.#model.name, this.#version, error);
  }

  async #oneByOne(batch: Batch, alone: boolean): Promise<RowResult[]> {
    const results: RowResult[] = [];
    for (const row of batch) results.push(...(await this.#answer([row], alone)));
    return results;
  }
}

/** Why the run can't go on without a version that was not asked for, but answered before. */
export function versionGone(model: string, version: string, error: SlacklineError): SlacklineError {
  const message = `version ${version} of model '${model}', which answered the rows before, is not served any more (${error.message}); --version N has another one answer those that are left`;
  return new SlacklineError(error.code, message, { reason: VERSION_GONE, cause: error });
}

function failed({ row, id }: ReadRow, { code, reason, message }: SlacklineError): RowResult {
  return { row, id, error: { code, reason: reason ?? null, message } };
}
