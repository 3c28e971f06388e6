import type { QueuedRequest } from "./request.ts";

/** Best-effort requests that expire, by time: a binary heap whose entries may have left the queues meanwhile. */
export class ExpiryHeap {
  readonly #heap: QueuedRequest[] = [];

  /** When the first one expires that still waits; Infinity if none does. */
  nextUs(): number {
    while (this.#heap.length > 0 && !this.#heap[0]!.queued) this.#pop();
    return this.#heap.length > 0 ? this.#heap[0]!.expiresUs : Number.POSITIVE_INFINITY;
  }

  push(request: QueuedRequest): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(request);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.expiresUs <= request.expiresUs) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = request;
  }

  /** Removes and returns one that has expired by `nowUs` and still waits. */
  takeExpired(nowUs: number): QueuedRequest | null {
    return this.nextUs() <= nowUs ? this.#pop() : null;
  }

  #pop(): QueuedRequest {
    const heap = this.#heap;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.expiresUs < heap[child]!.expiresUs) child += 1;
      if (heap[child]!.expiresUs >= last.expiresUs) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
