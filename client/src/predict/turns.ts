/** Lets tasks run beside each other, or one alone: of what was executed together nobody knows which one brought a lane down. */
export class Turns {
  #underWay = 0;
  /** Those that run alone, or wait to. */
  #alone = 0;
  #lastAlone: Promise<void> = Promise.resolve();
  #idle: () => void = () => {};

  async shared<T>(task: () => Promise<T>): Promise<T> {
    while (this.#alone > 0) await this.#lastAlone;
    this.#underWay++;
    try {
      return await task();
    } finally {
      if (--this.#underWay === 0) this.#idle();
    }
  }

  async alone<T>(task: () => Promise<T>): Promise<T> {
    this.#alone++;
    const before = this.#lastAlone;
    let ended = (): void => {};
    this.#lastAlone = new Promise((resolve) => {
      ended = resolve;
    });
    await before;
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    try {
      return await task();
    } finally {
      this.#alone--;
      ended();
    }
  }
}
