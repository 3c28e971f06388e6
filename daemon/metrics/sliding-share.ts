/** How much of the recent past a lane spent on deadline work and on fill, in slots of time that are reused in turn. */
const SLOT_US = 5_000_000;
const SLOTS = 12;

export class SlidingShare {
  readonly #slots: { period: number; deadlineUs: number; fillUs: number }[] = Array.from({ length: SLOTS }, () => ({
    period: -1,
    deadlineUs: 0,
    fillUs: 0,
  }));
  readonly #sinceUs: number;

  constructor(nowUs: number) {
    this.#sinceUs = nowUs;
  }

  /** An execution ended now that took this long; it is counted where it ended. */
  add(nowUs: number, us: number, isFill: boolean): void {
    const period = Math.floor(nowUs / SLOT_US);
    const slot = this.#slots[period % SLOTS]!;
    if (slot.period !== period) {
      slot.period = period;
      slot.deadlineUs = 0;
      slot.fillUs = 0;
    }
    if (isFill) slot.fillUs += us;
    else slot.deadlineUs += us;
  }

  /** Fill as a share of the time that deadline work left over in the last minute, 0..1. */
  idleFillShare(nowUs: number): number {
    const oldest = Math.floor(nowUs / SLOT_US) - SLOTS + 1;
    let deadlineUs = 0;
    let fillUs = 0;
    for (const slot of this.#slots) {
      if (slot.period < oldest) continue;
      deadlineUs += slot.deadlineUs;
      fillUs += slot.fillUs;
    }
    const windowUs = nowUs - Math.max(this.#sinceUs, oldest * SLOT_US);
    const idleUs = windowUs - deadlineUs;
    return idleUs <= 0 ? 0 : Math.min(1, fillUs / idleUs);
  }
}
