import { LRUCache } from "lru-cache";
import { joinStrings, type Tensor } from "../engine/tensors.ts";

/** What the cache holds, and how often it had to let something go for something newer. */
export interface CacheFigures {
  /** Of keys, answers and what keeping them takes, as `cache_bytes_max` bounds it. */
  readonly bytes: number;
  readonly entries: number;
  readonly evictions: number;
}

/** The part of the cache that one answer may take: a few larger ones would drive out all others. */
const LARGEST_SHARE = 1 / 8;

/** Answers by their requests' keys, within a bound of memory; the least recently used leave first. */
export class AnswerCache {
  readonly #answers: LRUCache<string, readonly Tensor[]>;
  readonly #answerBytesMax: number;
  #evictions = 0;

  /** @param bytesMax for all together, above 0 */
  constructor(bytesMax: number) {
    this.#answerBytesMax = bytesMax * LARGEST_SHARE;
    this.#answers = new LRUCache({
      maxSize: bytesMax,
      dispose: (_answer, _key, reason) => {
        if (reason === "evict") this.#evictions++;
      },
    });
  }

  /** The outputs kept under this key; a BYTES tensor is joined, as on the wire. They are not to be modified. */
  find(key: string): readonly Tensor[] | null {
    return this.#answers.get(key) ?? null;
  }

  /** Keeps a copy, unless it would take an unreasonable part of the cache. */
  keep(key: string, outputs: readonly Tensor[]): void {
    const size = keptBytes(outputs);
    if (size <= this.#answerBytesMax) this.#answers.set(key, outputs.map(copied), { size });
  }

  get figures(): CacheFigures {
    return { bytes: this.#answers.calculatedSize, entries: this.#answers.size, evictions: this.#evictions };
  }
}

/** What an entry takes besides its tensors: key, places in map and order, array of tensors. Measured, rounded up. */
const ENTRY_BYTES = 400;
/** What a tensor takes besides its contents: its objects and its buffer's. Measured, rounded up. */
const TENSOR_BYTES = 600;

function keptBytes(outputs: readonly Tensor[]): number {
  let bytes = ENTRY_BYTES;
  for (const { shape, data } of outputs) {
    bytes += TENSOR_BYTES + 8 * shape.length;
    if (data instanceof Uint8Array) bytes += data.byteLength;
    else for (const element of data) bytes += 4 + element.byteLength;
  }
  return bytes;
}

/** Strings are kept joined, as they are answered: each by itself would take several times its bytes. */
function copied({ name, datatype, shape, data }: Tensor): Tensor {
  // A copy with a buffer of its own: a slice of a larger one would keep all of that.
  return { name, datatype, shape, data: new Uint8Array(data instanceof Uint8Array ? data : joinStrings(data)) };
}
