/** How far a run is, on standard error: a line that is kept current on a terminal, one now and then elsewhere. */
import { clearLine, cursorTo } from "node:readline";

const TERMINAL_EVERY_MS = 200;
const LINE_EVERY_MS = 5_000;

export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #text: () => string;
  readonly #timer: NodeJS.Timeout;
  readonly #current: boolean;

  /** @param current whether one line may be kept current: nothing else is written to the terminal meanwhile */
  constructor(stream: NodeJS.WriteStream, current: boolean, text: () => string) {
    this.#stream = stream;
    this.#text = text;
    this.#current = current;
    this.#timer = setInterval(() => this.#show(), current ? TERMINAL_EVERY_MS : LINE_EVERY_MS);
    this.#timer.unref();
    // The run goes on where nobody reads this any more.
    if (!stream.listeners("error").includes(ignore)) stream.on("error", ignore);
  }

  /** Writes a line that stays. */
  say(line: string): void {
    this.#clear();
    this.#stream.write(`${line}\n`);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#clear();
  }

  #show(): void {
    this.#clear();
    const text = this.#text();
    this.#stream.write(this.#current ? text.slice(0, this.#stream.columns - 1) : `${text}\n`);
  }

  #clear(): void {
    if (!this.#current) return;
    cursorTo(this.#stream, 0);
    clearLine(this.#stream, 0);
  }
}

function ignore(): void {}
