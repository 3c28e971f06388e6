import { createWriteStream } from "node:fs";
import type { ShedCause, ShedDetail } from "../scheduler/types.ts";
import type { EngineObserver } from "./observer.ts";
import type { AcceptedRequest, Execution, ExecutionResult } from "./ports.ts";

const BUFFER_CHARS_MAX = 64 * 1024;

/**
 * Writes every decision as a line of JSON, times in integer microseconds of the engine's clock:
 *
 *     {"t":0,"ev":"arrive","id":1,"model":"m0","items":1,"deadline":100000}
 *     {"t":40,"ev":"start","device":"gpu0","model":"m0","ids":[1,2],"size":2,"bucket":2}
 *     {"t":7400,"ev":"end","device":"gpu0","model":"m0"}
 *     {"t":7400,"ev":"drop","id":3,"cause":"late"}
 *
 * `deadline` is null for best-effort work. An execution that failed, or was lost with its lane, ends with `"ok":false`.
 * Where a batch of several failed, `"again":true` says that its requests are queued again, each to be executed by itself.
 * A batch that was chosen while its lane still executed another starts when that has ended, and says when it was `chosen`.
 * A cancelled request is dropped with cause `cancelled`, also while its batch executes.
 */
export class DecisionLog implements EngineObserver {
  readonly #write: (chunk: string) => void;
  readonly #quoted = new Map<string, string>();
  #buffer = "";

  /** @param write takes the log in chunks of whole lines */
  constructor(write: (chunk: string) => void) {
    this.#write = write;
  }

  #line(line: string): void {
    this.#buffer += line;
    if (this.#buffer.length > BUFFER_CHARS_MAX) this.flush();
  }

  #quote(name: string): string {
    let quoted = this.#quoted.get(name);
    if (quoted === undefined) {
      quoted = JSON.stringify(name);
      this.#quoted.set(name, quoted);
    }
    return quoted;
  }

  /** Hands on what is buffered. */
  flush(): void {
    if (this.#buffer === "") return;
    const chunk = this.#buffer;
    this.#buffer = "";
    this.#write(chunk);
  }

  arrived(request: AcceptedRequest): void {
    const { id, items, deadlineUs, arrivedUs } = request;
    const model = this.#quote(request.model);
    this.#line(
      `{"t":${arrivedUs},"ev":"arrive","id":${id},"model":${model},"items":${items},"deadline":${deadlineUs}}\n`,
    );
  }

  started({ plan }: Execution, nowUs: number, chosenUs: number): void {
    const where = `"device":${this.#quote(plan.lane)},"model":${this.#quote(plan.model)}`;
    const what = `"ids":[${plan.ids.join(",")}],"size":${plan.items},"bucket":${plan.bucket}`;
    const ahead = chosenUs < nowUs ? `,"chosen":${chosenUs}` : "";
    this.#line(`{"t":${nowUs},"ev":"start",${where},${what}${ahead}}\n`);
  }

  ended(execution: Execution, result: ExecutionResult, _timings: unknown, nowUs: number): void {
    this.#end(execution, result.ok, nowUs);
  }

  lost(execution: Execution, _reason: string, nowUs: number): void {
    this.#end(execution, false, nowUs);
  }

  split(execution: Execution, nowUs: number): void {
    this.#end(execution, false, nowUs, ',"again":true');
  }

  #end({ plan }: Execution, ok: boolean, nowUs: number, more = ""): void {
    const where = `"device":${this.#quote(plan.lane)},"model":${this.#quote(plan.model)}`;
    this.#line(`{"t":${nowUs},"ev":"end",${where}${ok ? "" : ',"ok":false'}${more}}\n`);
  }

  shed(request: AcceptedRequest, cause: ShedCause, _detail: ShedDetail, nowUs: number): void {
    this.#drop(request, cause, nowUs);
  }

  cancelled(request: AcceptedRequest, _executing: boolean, nowUs: number): void {
    this.#drop(request, "cancelled", nowUs);
  }

  #drop(request: AcceptedRequest, cause: string, nowUs: number): void {
    this.#line(`{"t":${nowUs},"ev":"drop","id":${request.id},"cause":"${cause}"}\n`);
  }
}

/** A decision log in a file, written in the background. */
export interface DecisionLogFile {
  readonly log: DecisionLog;
  /** Writes what is left; resolves when it is in the file. */
  close(): Promise<void>;
}

const FLUSH_INTERVAL_MS = 1000;

/**
 * Opens a decision log that replaces the file.
 *
 * @param onError told once when the file cannot be written; what follows is discarded
 */
export function openDecisionLog(file: string, onError: (error: Error) => void): DecisionLogFile {
  const stream = createWriteStream(file);
  let failed = false;
  const log = new DecisionLog((chunk) => {
    if (!failed) stream.write(chunk);
  });
  stream.on("error", (error) => {
    if (!failed) onError(error);
    failed = true;
  });
  const timer = setInterval(() => log.flush(), FLUSH_INTERVAL_MS).unref();
  return {
    log,
    close: () => {
      clearInterval(timer);
      log.flush();
      return failed ? Promise.resolve() : new Promise((resolve) => stream.end(resolve).once("error", () => resolve()));
    },
  };
}
