/** A daemon under load, called through the client SDK. */
import { type SlacklineClient, SlacklineError } from "slackline-client";
import type { PreparedModel } from "./payloads.ts";
import type { Call, CallOutcome, Target } from "./target.ts";

/** A shed's reason comes from the daemon; these are the client's own words for what went wrong on its side. */
const CLIENT_REASONS: ReadonlySet<string> = new Set([
  "no_answer",
  "no_connection",
  "client_queue",
  "aborted",
  "closed",
  "not_ready",
]);
const SHED_CODES: ReadonlySet<string> = new Set(["DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"]);

export class SdkTarget implements Target {
  readonly #client: SlacklineClient;
  readonly #models: ReadonlyMap<string, PreparedModel>;
  #sent = 0;

  constructor(client: SlacklineClient, models: ReadonlyMap<string, PreparedModel>) {
    this.#client = client;
    this.#models = models;
  }

  async send({ model, tenant, items, deadlineMs, bestEffort }: Call): Promise<CallOutcome> {
    const variants = this.#models.get(model)!.get(items)!;
    const inputs = variants[this.#sent++ % variants.length]!;
    try {
      const { timings, fallback, cached } = await this.#client.infer(model, inputs, {
        timings: true,
        ...(deadlineMs === null ? {} : { deadlineMs }),
        ...(bestEffort ? { bestEffort } : {}),
        ...(tenant === "" ? {} : { tenant }),
      });
      const otherwise = fallback !== undefined ? "fallback" : cached ? "cached" : undefined;
      return { type: "answered", timings: timings ?? null, otherwise };
    } catch (error) {
      return failure(error);
    }
  }

  /** Ends the connections; what is outstanding ends with errors. */
  close(): void {
    this.#client.close();
  }
}

function failure(error: unknown): CallOutcome {
  if (!(error instanceof SlacklineError)) throw error;
  const { code, reason, message } = error;
  if (reason === undefined) return { type: "error", code, message };
  if (CLIENT_REASONS.has(reason)) return { type: "error", code: `${code} (${reason})`, message };
  return SHED_CODES.has(code) ? { type: "shed", cause: reason } : { type: "error", code, message };
}
