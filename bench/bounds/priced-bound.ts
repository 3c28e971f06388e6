import type { Instance, ModelInstance } from "./instance.ts";

export interface PricedBoundOptions {
  /** Length of the cells of time that have a price of their own. */
  readonly cellUs?: number;
  readonly iterations?: number;
  /** Ends as soon as the bound is below this many requests. */
  readonly enough?: number;
}

/**
 * An upper bound on the requests that any schedule serves on time, knowing all arrivals: exact for no instance of several
 * models, but a theorem for all of them.
 *
 * Time on the lanes is given a price, λ(t) ≥ 0. A schedule that serves x requests pays for its executions at most
 * lanes · ∫λ, so x ≤ lanes · ∫λ + Σ over its batches of (requests − price of the time it executes). That sum is at most
 * what each model could reach by itself if its batches might overlap, as long as each executes without a break between its
 * last request's arrival and its first one's deadline; the best such batches are found exactly, by a recurrence over
 * arrivals (batches of requests that arrived one after another suffice, since all of a model have one budget). This is
 * Lagrange's relaxation of "one batch at a time": every λ gives a valid bound, and λ is improved by subgradient steps.
 * Blocking by long batches, full and unfilled batches and the times of arrivals count in it; only overlaps that prices
 * can't rule out remain.
 */
export function pricedBound(instance: Instance, options: PricedBoundOptions = {}): number {
  const { cellUs = 500, iterations = 150, enough = 0 } = options;
  const models = instance.models.map((model) => new PricedModel(model, cellUs));
  const cells = models.reduce((most, model) => Math.max(most, model.cells), 0);
  const prices = new Prices(cells);
  const direction = new Float64Array(cells);
  const use = new Float64Array(cells);
  const bounded = (): number => {
    use.fill(0);
    return models.reduce((sum, model) => sum + model.solve(prices, use), instance.lanes * prices.total);
  };
  let best = Math.min(instance.requests, bestEven(prices, bounded));
  let step = 1;
  let idle = 0;
  for (let k = 0; k < iterations && best >= enough; k++) {
    const bound = bounded();
    if (bound < best - 0.01) idle = 0;
    else if (++idle >= IDLE_MAX) {
      step /= 2;
      idle = 0;
    }
    best = Math.min(best, bound);
    let square = 0;
    for (let c = 0; c < cells; c++) {
      direction[c] = INERTIA * direction[c]! + use[c]! - instance.lanes;
      // Prices can't fall below 0, so what pulls them there has no weight.
      if (direction[c]! < 0 && prices.of[c] === 0) direction[c] = 0;
      square += direction[c]! * direction[c]!;
    }
    if (square === 0) break;
    const goal = Math.min(enough > 0 ? enough * 0.995 : best * 0.98, bound - 1);
    prices.move(direction, (step * (bound - goal)) / square);
  }
  return Math.min(instance.requests, Math.floor(best + 1e-6));
}

/** Finds the best price that is the same at all times, leaves it in `prices` and returns its bound: a convex function. */
function bestEven(prices: Prices, bounded: () => number): number {
  const at = (price: number): number => {
    prices.set(price);
    return bounded();
  };
  let high = 1 / 64;
  while (at(2 * high) < at(high)) high *= 2;
  let low = 0;
  high *= 2;
  for (let i = 0; i < EVEN_STEPS; i++) {
    const third = (high - low) / 3;
    if (at(low + third) < at(high - third)) high -= third;
    else low += third;
  }
  return at((low + high) / 2);
}

const EVEN_STEPS = 8;

/** Steps without a better bound after which steps become half as long. */
const IDLE_MAX = 8;
/** How much of the last direction goes on. */
const INERTIA = 0.6;

class Prices {
  /** Of a whole cell on one lane, in requests. */
  readonly of: Float64Array;
  /** Of all cells before this one. */
  readonly #before: Float64Array;

  constructor(cells: number) {
    this.of = new Float64Array(cells);
    this.#before = new Float64Array(cells + 1);
  }

  get total(): number {
    return this.#before[this.of.length]!;
  }

  set(price: number): void {
    this.of.fill(price);
    this.move(this.of, 0);
  }

  move(direction: Float64Array, length: number): void {
    let sum = 0;
    for (let c = 0; c < this.of.length; c++) {
      this.of[c] = Math.max(0, this.of[c]! + length * direction[c]!);
      sum += this.of[c]!;
      this.#before[c + 1] = sum;
    }
  }

  /** Price of all time before `at`, in cells. */
  until(at: number): number {
    const last = this.of.length;
    if (at >= last) return this.#before[last]!;
    const cell = Math.floor(at);
    return this.#before[cell]! + (at - cell) * this.of[cell]!;
  }
}

/** One model's best batches at given prices. Times are in cells. */
class PricedModel {
  readonly cells: number;
  readonly #count: number;
  /** Batch sizes 1..n that some requests can form. */
  readonly #sizes: Size[] = [];
  readonly #value: Float64Array;
  readonly #choice: Int32Array;
  readonly #cellPrice: Float64Array;
  readonly #window: Int32Array;

  constructor({ arrivalsUs, budgetUs, tableUs }: ModelInstance, cellUs: number) {
    const n = arrivalsUs.length;
    this.#count = n;
    let last = 0;
    for (let b = 1; b < tableUs.length && tableUs[b]! <= budgetUs && b <= n; b++) {
      const size = new Size(b, arrivalsUs, budgetUs, tableUs[b]!, cellUs);
      if (size.starts.length === 0) break;
      this.#sizes.push(size);
      last = Math.max(last, size.endCell);
    }
    this.cells = last + 1;
    this.#value = new Float64Array(n + 1);
    this.#choice = new Int32Array(n + 1);
    this.#cellPrice = new Float64Array(this.cells + 1);
    this.#window = new Int32Array(this.cells + 1);
  }

  /** The most that requests less prices can come to; adds what of each cell those batches use to `use`. */
  solve(prices: Prices, use: Float64Array): number {
    const value = this.#value;
    const choice = this.#choice;
    for (const size of this.#sizes) size.price(prices, this.#cellPrice, this.#window);
    for (let i = 1; i <= this.#count; i++) {
      let most = value[i - 1]!;
      let chosen = 0;
      for (let b = 1; b <= this.#sizes.length && b <= i; b++) {
        const gain = value[i - b]! + b - this.#sizes[b - 1]!.prices[i - b]!;
        if (gain > most) {
          most = gain;
          chosen = b;
        }
      }
      value[i] = most;
      choice[i] = chosen;
    }
    for (let i = this.#count; i > 0; i -= Math.max(1, choice[i]!)) {
      if (choice[i]! > 0) this.#sizes[choice[i]! - 1]!.use(i - choice[i]!, prices, use);
    }
    return value[this.#count]!;
  }
}

/** All batches of one size: of the requests from i on, for each i where they can be executed in time. */
class Size {
  /** The i that have such a batch, ascending, with the first and last cell in which it may start. */
  readonly starts: Int32Array;
  readonly #from: Int32Array;
  readonly #to: Int32Array;
  /** By i: least price of its execution; Infinity where there is no such batch. */
  readonly prices: Float64Array;
  readonly #cheapest: Int32Array;
  readonly #length: number;
  readonly endCell: number;

  constructor(size: number, arrivalsUs: Float64Array, budgetUs: number, lengthUs: number, cellUs: number) {
    this.#length = lengthUs / cellUs;
    const starts: number[] = [];
    const from: number[] = [];
    const to: number[] = [];
    for (let i = 0; i + size <= arrivalsUs.length; i++) {
      const readyUs = arrivalsUs[i + size - 1]!;
      const latestUs = arrivalsUs[i]! + budgetUs - lengthUs;
      if (readyUs > latestUs) continue;
      starts.push(i);
      from.push(Math.floor(readyUs / cellUs));
      to.push(Math.floor(latestUs / cellUs));
    }
    this.starts = Int32Array.from(starts);
    this.#from = Int32Array.from(from);
    this.#to = Int32Array.from(to);
    this.endCell = to.length === 0 ? 0 : to.at(-1)! + Math.ceil(this.#length) + 1;
    this.prices = new Float64Array(arrivalsUs.length).fill(Number.POSITIVE_INFINITY);
    this.#cheapest = new Int32Array(arrivalsUs.length);
  }

  /**
   * Finds each batch's least price over the cells it may start in, as a minimum over a sliding window. A cell that it may
   * start in only in part counts as a whole, which can only make it cheaper.
   */
  price(prices: Prices, cellPrice: Float64Array, window: Int32Array): void {
    let head = 0;
    let tail = 0;
    let next = 0;
    for (let k = 0; k < this.starts.length; k++) {
      const from = this.#from[k]!;
      if (next < from) next = from;
      for (; next <= this.#to[k]!; next++) {
        const price = this.#leastIn(prices, next);
        cellPrice[next] = price;
        while (tail > head && cellPrice[window[tail - 1]!]! >= price) tail--;
        window[tail++] = next;
      }
      while (window[head]! < from) head++;
      const i = this.starts[k]!;
      this.#cheapest[i] = window[head]!;
      this.prices[i] = cellPrice[window[head]!]!;
    }
  }

  /** Least price of an execution that starts in a cell: it changes evenly but where the end crosses into another cell. */
  #leastIn(prices: Prices, cell: number): number {
    const atStart = this.#at(prices, cell);
    const atEnd = this.#at(prices, cell + 1);
    const between = this.#at(prices, this.#crossing(cell));
    return Math.min(atStart, atEnd, between);
  }

  #at(prices: Prices, start: number): number {
    return prices.until(start + this.#length) - prices.until(start);
  }

  #crossing(cell: number): number {
    return cell + Math.ceil(this.#length) - this.#length;
  }

  use(i: number, prices: Prices, use: Float64Array): void {
    const cell = this.#cheapest[i]!;
    let start = cell;
    for (const at of [this.#crossing(cell), cell + 1]) {
      if (this.#at(prices, at) < this.#at(prices, start)) start = at;
    }
    const end = Math.min(use.length, start + this.#length);
    for (let c = Math.floor(start); c < end; c++) use[c]! += Math.min(end, c + 1) - Math.max(start, c);
  }
}
