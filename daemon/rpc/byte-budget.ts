/** Bytes that may be held at once; whoever takes some gives back as many. */
export class ByteBudget {
  readonly max: number;
  #held = 0;

  constructor(max: number) {
    this.max = max;
  }

  get held(): number {
    return this.#held;
  }

  fits(bytes: number): boolean {
    return this.#held + bytes <= this.max;
  }

  /** Whether they fit; nothing is taken otherwise. */
  tryTake(bytes: number): boolean {
    if (!this.fits(bytes)) return false;
    this.#held += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#held -= bytes;
    if (this.#held < 0) throw new Error(`byte budget: ${-this.#held} bytes more were given back than taken`);
  }
}
