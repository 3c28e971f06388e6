/** Where the batches of a model's trial runs lie. */
export interface TrialMemory {
  /** At least `bytes`, to be given back when they are over. */
  take(bytes: number): ArrayBuffer;
  /** Nothing may touch it any more. */
  giveBack(buffer: ArrayBuffer): void;
}

export const HEAP: TrialMemory = { take: (bytes) => new ArrayBuffer(bytes), giveBack: () => {} };
