/** Something that happens at a point in virtual time. It is in the queue at most once. */
export abstract class SimEvent {
  atUs = 0;
  /** Orders events of the same time: what was scheduled first happens first. */
  sequence = 0;
  /** Position in the queue's heap; −1 outside. */
  position = -1;

  abstract fire(): void;
}

/** Virtual time: events in total order of (time, sequence). */
export class EventQueue {
  nowUs = 0;
  readonly #heap: SimEvent[] = [];
  #sequence = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** Schedules the event, or moves it if it is scheduled already. A time that has passed means now. */
  schedule(event: SimEvent, atUs: number): void {
    event.atUs = atUs < this.nowUs ? this.nowUs : atUs;
    event.sequence = this.#sequence++;
    if (event.position < 0) {
      event.position = this.#heap.length;
      this.#heap.push(event);
    }
    this.#sink(this.#rise(event.position));
  }

  cancel(event: SimEvent): void {
    const { position } = event;
    if (position < 0) return;
    event.position = -1;
    const last = this.#heap.pop()!;
    if (last === event) return;
    this.#place(last, position);
    this.#sink(this.#rise(position));
  }

  /** Moves time to the next event and lets it happen; false where none is left. */
  next(): boolean {
    const event = this.#heap[0];
    if (event === undefined) return false;
    this.cancel(event);
    this.nowUs = event.atUs;
    event.fire();
    return true;
  }

  #place(event: SimEvent, position: number): void {
    this.#heap[position] = event;
    event.position = position;
  }

  #rise(from: number): number {
    const heap = this.#heap;
    const event = heap[from]!;
    let position = from;
    while (position > 0) {
      const parent = (position - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      this.#place(heap[parent]!, position);
      position = parent;
    }
    this.#place(event, position);
    return position;
  }

  #sink(from: number): void {
    const heap = this.#heap;
    const event = heap[from]!;
    let position = from;
    for (;;) {
      let child = 2 * position + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, event)) break;
      this.#place(heap[child]!, position);
      position = child;
    }
    this.#place(event, position);
  }
}

function before(a: SimEvent, b: SimEvent): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.sequence < b.sequence);
}
