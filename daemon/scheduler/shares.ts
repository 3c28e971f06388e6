/** Use beyond the share is held against it for at most this long. */
const MEMORY_US = 1_000_000;

/**
 * A guaranteed share of device time. Credit grows while work waits and is spent by what runs; whoever holds enough
 * credit for a batch runs next, whatever else is urgent.
 */
export class ShareAccount {
  creditUs = 0;
  #sinceUs = 0;

  /** Work begins to wait: time before this earns nothing. */
  open(nowUs: number): void {
    this.#sinceUs = nowUs;
  }

  /** Earns the time since the last call at `share`, up to `maxUs`, so that a long wait is no licence to block others. */
  earn(share: number, maxUs: number, nowUs: number): void {
    if (nowUs <= this.#sinceUs) return;
    const earned = this.creditUs + share * (nowUs - this.#sinceUs);
    this.creditUs = Math.max(this.creditUs, Math.min(earned, maxUs));
    this.#sinceUs = nowUs;
  }

  spend(us: number, share: number): void {
    this.creditUs = Math.max(this.creditUs - us, -share * MEMORY_US);
  }
}
