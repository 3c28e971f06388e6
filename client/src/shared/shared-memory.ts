/**
 * The memory that this process shares with one daemon. Segments are made when the first large tensor is seen, in the background; until
 * then, and whenever there is no room, tensors travel in the message. Registering a segment shows that the daemon sees the same memory.
 */
import { SHARED_MEMORY_EXTENSION } from "../generated/parameters.ts";
import { nowMs } from "../infer-call.ts";
import type { Tensor } from "../tensor.ts";
import type { SharedPlace, SharedPlaces, WireRequest } from "../wire/request.ts";
import type { WireResponse } from "../wire/response.ts";
import type { Lease, LeaseSource } from "./lease.ts";
import { type OutputSize, OutputSizes } from "./output-sizes.ts";
import type { RegionCalls } from "./region-calls.ts";
import { aligned, largestObjectBytes, Segment } from "./segment.ts";

/** Smaller tensors cost less in the message than two system calls on each side do. */
export const SHARED_TENSOR_BYTES_MIN: number = 8 * 1024;
const SEGMENT_BYTES = 16 * 1024 * 1024;
const ROUND_BYTES = 1024 * 1024;
/** Between making segments, after one was given up; doubled for each that the daemon would not have. */
const PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 5 * 60_000;
/** A segment that nobody uses for this long is given back, well before the daemon does so. */
const IDLE_MS = 60_000;
const SWEEP_MS = 20_000;
/** A daemon that refuses a segment after this long has a reason that is new. */
const LASTING_MS = 60_000;

/** What became of sharing memory with one target. */
export interface SharedMemoryStatus {
  readonly target: string;
  /** Bytes of the objects in use. */
  readonly bytes: number;
  /** Attempts whose large tensors went through shared memory, and those for which there was none. */
  readonly shared: number;
  readonly inline: number;
  /** Why there was none the last time; null where there always was, after the first large tensor. */
  readonly problem: string | null;
}

export class SharedMemory implements LeaseSource {
  readonly #target: string;
  readonly #calls: RegionCalls;
  readonly #bytesMax: number;
  readonly #outputs: OutputSizes;
  readonly #segments = new Set<Segment>();
  /** Of all objects that the daemon may still have open. */
  #bytes = 0;
  #growing: Promise<void> | null = null;
  #notBeforeMs = 0;
  #refusals = 0;
  #shared = 0;
  #inline = 0;
  #problem: string | null = null;
  #sweep: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(target: string, calls: RegionCalls, bytesMax: number) {
    this.#target = target;
    this.#calls = calls;
    this.#bytesMax = bytesMax;
    this.#outputs = new OutputSizes(calls.modelConfig);
  }

  get status(): SharedMemoryStatus {
    return {
      target: this.#target,
      bytes: this.#bytes,
      shared: this.#shared,
      inline: this.#inline,
      problem: this.#problem,
    };
  }

  lease(request: WireRequest): Lease | null {
    const outputs = this.#outputs.of(request);
    const bytes = bytesWanted(request, outputs);
    if (bytes === 0) return null;
    for (const segment of this.#segments) {
      const offset = segment.retired ? null : segment.take(bytes);
      if (offset === null) continue;
      segment.usedMs = nowMs();
      const places = placesIn(segment.region, offset, request, outputs);
      try {
        for (const [index, place] of places.inputs.entries()) {
          if (place !== null) segment.write(place.offset, request.inputs[index]![1].data as NodeJS.ArrayBufferView);
        }
      } catch (error) {
        // Written once already, so it is not for want of memory; the request goes in the message.
        this.#problem = (error as Error).message;
        this.#retire(segment);
        segment.give(offset, bytes);
        this.#dropIfDone(segment);
        break;
      }
      this.#shared++;
      return this.#leaseOn(segment, { offset, bytes }, places, request);
    }
    this.#inline++;
    this.#wantRoom(bytes);
    return null;
  }

  answered(request: WireRequest, response: WireResponse): void {
    // A fallback's outputs tell nothing of the model that was asked for.
    if (response.model !== request.model) return;
    this.#outputs.check(request, response);
    for (const name in response.outputs) {
      const { datatype, data } = response.outputs[name]!;
      if (datatype !== "BYTES" && isLarge(data.byteLength)) {
        this.#outputs.learn(request, response.version);
        return;
      }
    }
  }

  /** The connection is new, and so the daemon may be: it knows none of the segments. */
  reconnected(): void {
    this.#refusals = 0;
    this.#notBeforeMs = 0;
    this.#outputs.clear();
    for (const segment of [...this.#segments]) this.#retire(segment);
  }

  /** Gives everything back; resolves when the daemon has done so too, or can't be asked. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#growing;
    if (this.#sweep !== null) clearInterval(this.#sweep);
    await Promise.all([...this.#segments].map((segment) => this.#drop(segment)));
  }

  #leaseOn(
    segment: Segment,
    block: { readonly offset: number; readonly bytes: number },
    places: SharedPlaces,
    request: WireRequest,
  ): Lease {
    const give = (): void => {
      segment.give(block.offset, block.bytes);
      this.#dropIfDone(segment);
    };
    return {
      places,
      read({ region, offset, bytes }) {
        const end = block.offset + block.bytes;
        if (region !== segment.region || offset < block.offset || offset + bytes > end) {
          throw new Error(
            `the daemon put an output where this request has no room: bytes ${offset} to ${offset + bytes} of '${region}'`,
          );
        }
        return segment.read(offset, bytes);
      },
      release: give,
      refused: (why) => {
        this.#outputs.distrust(request);
        if (!segment.retired) {
          if (nowMs() - segment.madeMs > LASTING_MS) this.#refusals = 0;
          this.#refused(why);
        }
        this.#retire(segment);
        give();
      },
      doubt: () => {
        if (!segment.retired) this.#pause(PAUSE_MS);
        this.#retire(segment);
        // The block stays taken for ever: the segment goes once all others have been given back.
        segment.lent--;
        this.#dropIfDone(segment);
      },
    };
  }

  #wantRoom(wanted: number): void {
    if (this.#growing !== null || this.#closed || nowMs() < this.#notBeforeMs) return;
    this.#growing = this.#grow(Math.ceil(wanted / ROUND_BYTES) * ROUND_BYTES).finally(() => {
      this.#growing = null;
    });
  }

  async #grow(bytesMin: number): Promise<void> {
    const leftBytes = this.#bytesMax - this.#bytes;
    if (bytesMin > leftBytes) {
      this.#problem = `${bytesMin} bytes more than the ${this.#bytes} in use would exceed the limit of ${this.#bytesMax} (sharedMemoryBytesMax)`;
      return;
    }
    const largestBytes = await largestObjectBytes().catch(() => 0);
    if (bytesMin > largestBytes) {
      this.#problem = `${bytesMin} bytes are more than a quarter of what is free in shared memory`;
      this.#pause(PAUSE_MS);
      return;
    }
    const bytes = Math.max(bytesMin, Math.min(SEGMENT_BYTES, leftBytes, largestBytes));
    this.#bytes += bytes;
    let region: string | null = null;
    try {
      if (!(await this.#calls.extensions()).includes(SHARED_MEMORY_EXTENSION)) {
        throw new Error(`the server at ${this.#target} is no slackline daemon that shares memory`);
      }
      const segment = await Segment.create(bytes, (name) => {
        region = name;
        return this.#calls.register(name, bytes);
      });
      this.#segments.add(segment);
      this.#problem = null;
      this.#sweep ??= setInterval(() => this.#retireIdle(), SWEEP_MS).unref();
    } catch (error) {
      // It may have been registered all the same.
      if (region !== null) await this.#forget(region);
      this.#bytes -= bytes;
      this.#refused((error as Error).message);
    }
  }

  #refused(why: string): void {
    this.#problem = why;
    this.#pause(Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** this.#refusals++));
  }

  #pause(ms: number): void {
    this.#notBeforeMs = Math.max(this.#notBeforeMs, nowMs() + ms);
  }

  #retireIdle(): void {
    for (const segment of this.#segments) {
      if (segment.lent === 0 && nowMs() - segment.usedMs > IDLE_MS) this.#retire(segment);
    }
  }

  /** Lends no more of a segment, and gives it back when all that is lent of it has been. */
  #retire(segment: Segment): void {
    segment.retired = true;
    this.#dropIfDone(segment);
  }

  #dropIfDone(segment: Segment): void {
    if (segment.retired && segment.lent === 0) void this.#drop(segment);
  }

  async #drop(segment: Segment): Promise<void> {
    if (!this.#segments.delete(segment)) return;
    segment.retired = true;
    segment.close();
    await this.#forget(segment.region);
    this.#bytes -= segment.bytes;
  }

  /** Has the daemon let go of a region. */
  async #forget(region: string): Promise<void> {
    await this.#calls.unregister(region, !this.#closed).catch(() => {});
  }
}

function isLarge(bytes: number): boolean {
  return bytes >= SHARED_TENSOR_BYTES_MIN;
}

/** Bytes of an input that is to be shared; 0 for one that travels in the message. */
function inputBytes(tensor: Tensor): number {
  return tensor.datatype !== "BYTES" && isLarge(tensor.data.byteLength) ? tensor.data.byteLength : 0;
}

function outputBytes({ bytes }: OutputSize): number {
  return bytes !== null && isLarge(bytes) ? bytes : 0;
}

/** What a request needs of a segment; 0 where all its tensors are small or of unknown size. */
function bytesWanted(request: WireRequest, outputs: readonly OutputSize[] | null): number {
  let bytes = 0;
  for (const [, tensor] of request.inputs) bytes += aligned(inputBytes(tensor));
  if (outputs !== null) for (const output of outputs) bytes += aligned(outputBytes(output));
  return bytes;
}

/** Lays out the tensors that `bytesWanted` counted from `start` on. */
function placesIn(
  region: string,
  start: number,
  request: WireRequest,
  outputs: readonly OutputSize[] | null,
): SharedPlaces {
  let offset = start;
  const place = (bytes: number): SharedPlace | null => {
    if (bytes === 0) return null;
    const at = offset;
    offset += aligned(bytes);
    return { region, offset: at, bytes };
  };
  const inputs = request.inputs.map(([, tensor]) => place(inputBytes(tensor)));
  const placed = new Map<string, SharedPlace>();
  for (const output of outputs ?? []) {
    const at = place(outputBytes(output));
    if (at !== null) placed.set(output.name, at);
  }
  return { inputs, outputs: placed };
}
