/** What is set in Triton, and what is tried. */

export interface TritonSettings {
  /** `max_queue_delay_microseconds` of the dynamic batcher. */
  readonly queueDelayUs: number;
  /** Whether models execute one at a time, by the rate limiter; else all at once, as far as there is work. */
  readonly oneAtATime: boolean;
  /** Share of its SLO after which a request that still waits is rejected, by the queue's policy; null: never. */
  readonly rejectAfterSlo: number | null;
}

/** A bare `dynamic_batching { }`: what documentation starts with. */
export const BARE: TritonSettings = { queueDelayUs: 0, oneAtATime: false, rejectAfterSlo: null };

export const TRIED: readonly TritonSettings[] = [false, true].flatMap((oneAtATime) =>
  [null, 0.8].flatMap((rejectAfterSlo) =>
    [0, 2_000, 10_000].map((queueDelayUs) => ({ queueDelayUs, oneAtATime, rejectAfterSlo })),
  ),
);

export function described({ queueDelayUs, oneAtATime, rejectAfterSlo }: TritonSettings): string {
  return [
    `queue delay ${queueDelayUs / 1000} ms`,
    oneAtATime ? "one model at a time" : "models at once",
    rejectAfterSlo === null ? "nothing rejected" : `rejected after ${rejectAfterSlo} of the SLO`,
  ].join(", ");
}
