/** How a run that takes a while shows that it goes on: a bar on a terminal, a line now and then elsewhere. */
import { type Options, SingleBar } from "cli-progress";

export interface Progress {
  /** @param doneS seconds of `totalS` that are over; @param note what there is to say now */
  update(doneS: number, totalS: number, note: string): void;
  stop(): void;
}

/** Seconds between lines where there is no terminal. */
const LINE_EVERY_S = 5;

/** @param unit of what is counted; a line is written for every fifth of them where there is no terminal */
export function progressOn(stream: NodeJS.WriteStream, label: string, unit = "s"): Progress {
  return stream.isTTY ? new Bar(stream, label, unit) : new Lines(stream, label, unit);
}

class Bar implements Progress {
  readonly #bar: SingleBar;
  #started = false;

  constructor(stream: NodeJS.WriteStream, label: string, unit: string) {
    const options: Options = {
      stream,
      format: `${label} {bar} {value}/{total} ${unit}  {note}`,
      barCompleteChar: "█",
      barIncompleteChar: "░",
      barsize: 30,
      hideCursor: true,
      clearOnComplete: true,
      linewrap: false,
    };
    this.#bar = new SingleBar(options);
  }

  update(doneS: number, totalS: number, note: string): void {
    const value = Math.min(Math.round(doneS), Math.round(totalS));
    if (this.#started) this.#bar.update(value, { note });
    else this.#bar.start(Math.round(totalS), value, { note });
    this.#started = true;
  }

  stop(): void {
    if (this.#started) this.#bar.stop();
  }
}

class Lines implements Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #label: string;
  readonly #unit: string;
  #nextS = LINE_EVERY_S;

  constructor(stream: NodeJS.WriteStream, label: string, unit: string) {
    this.#stream = stream;
    this.#label = label;
    this.#unit = unit;
  }

  update(doneS: number, totalS: number, note: string): void {
    if (doneS < this.#nextS) return;
    this.#nextS = (Math.floor(doneS / LINE_EVERY_S) + 1) * LINE_EVERY_S;
    this.#stream.write(`${this.#label} ${Math.round(doneS)}/${Math.round(totalS)} ${this.#unit}  ${note}\n`);
  }

  stop(): void {}
}
