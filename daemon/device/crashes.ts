/** What crashes of a process say of the models in it. */
import { LoadError } from "./load-error.ts";

/** So many within the window, and a model is given up. */
export const CRASHES_MAX = 3;
const WINDOW_MS = 600_000;

/** The process died while the model loaded, but by what other models did: it may be tried again. */
export class CrashedBeside extends LoadError {}

/** Loads a model again where the process died beside it, as often as it takes until whatever model is the reason is given up. */
export async function loadInSpiteOfOthers<Loaded>(load: () => Promise<Loaded>): Promise<Loaded> {
  for (let crashes = 0; ; crashes++) {
    try {
      return await load();
    } catch (error) {
      if (!(error instanceof CrashedBeside) || crashes === CRASHES_MAX) throw error;
    }
  }
}

/** Of a model: when its process died by it, as far as is known. */
export class Crashes {
  #atMs: number[] = [];

  count(): void {
    this.#atMs.push(Date.now());
  }

  /** Whether it is to be given up. */
  areTooMany(): boolean {
    this.#atMs = this.#atMs.filter((at) => Date.now() - at < WINDOW_MS);
    return this.#atMs.length >= CRASHES_MAX;
  }
}
