/**
 * The shared memory of one request: its inputs are read with pread and its outputs written with pwrite. Nothing is ever
 * mapped: a caller that truncates a mapped file would kill the daemon.
 */
import { readSync, writeSync } from "node:fs";
import { SHARED_MEMORY_PARAMETERS } from "../../proto/parameters.ts";
import { parameterValue } from "./decode/parameters.ts";
import type { SharedInputs, SharedTensor } from "./decode/request.ts";
import type { SharedOutputs } from "./encode.ts";
import { invalid } from "./errors.ts";
import type { ReadParameters, ReadRequestedOutput, WireParameter } from "./messages.ts";
import type { Peer } from "./peer.ts";
import { type Region, regionError, type SharedMemoryRegions } from "./shared-memory.ts";
import { shown } from "./text.ts";

/** A part of a region, as a tensor's parameters name it. */
interface Span {
  readonly region: Region;
  readonly offset: number;
  readonly byteSize: number;
}

/** Regions that the request names are in use until it is released. */
export class RequestRegions implements SharedInputs {
  readonly #regions: SharedMemoryRegions;
  readonly #peer: Peer;
  readonly #hold: (bytes: number) => void;
  /** By name; null where it names none, as most requests do. A name means one region for all of the request. */
  #taken: Map<string, Region> | null = null;

  /** @param hold is told of bytes before they are read into the daemon's own memory, and may throw */
  constructor(regions: SharedMemoryRegions, peer: Peer, hold: (bytes: number) => void) {
    this.#regions = regions;
    this.#peer = peer;
    this.#hold = hold;
  }

  /** An input that is left where it is until a batch is gathered, or read at once. */
  locate(parameters: ReadParameters, tensor: string): SharedTensor | null {
    const span = this.#span(parameters, tensor);
    if (span === null) return null;
    return {
      byteLength: span.byteSize,
      copyTo: (target) => readSpan(span, tensor, target),
      read: () => {
        this.#hold(span.byteSize);
        const bytes = Buffer.allocUnsafe(span.byteSize);
        readSpan(span, tensor, bytes);
        return bytes;
      },
    };
  }

  /**
   * Where the outputs go; null where none goes to shared memory. Those that don't fit are an error, or go into the message with `asFits`.
   * Throws `RpcError`.
   */
  outputs(requested: readonly ReadRequestedOutput[], asFits = false): SharedOutputs | null {
    let spans: Map<string, Span> | null = null;
    for (const output of requested) {
      const span = this.#span(output.parameters, output.name);
      if (span === null) continue;
      spans ??= new Map();
      spans.set(output.name, span);
    }
    if (spans === null) return null;
    const found = spans;
    return {
      write: (output, bytes) => {
        const span = found.get(output);
        if (span === undefined || (asFits && bytes.byteLength > span.byteSize)) return null;
        return writeSpan(span, output, bytes);
      },
    };
  }

  /** The request has ended, in whatever way. */
  release(): void {
    if (this.#taken === null) return;
    for (const region of this.#taken.values()) this.#regions.give(region);
    this.#taken = null;
  }

  /** What a tensor's parameters name; null where they name no region. */
  #span(parameters: ReadParameters, tensor: string): Span | null {
    const named = parameters[SHARED_MEMORY_PARAMETERS.region];
    if (named == null) return null;
    const name = parameterValue(named);
    if (typeof name !== "string") throw invalid(`shared_memory_region of '${tensor}' must be a string`);
    const byteSize = size(parameters, SHARED_MEMORY_PARAMETERS.byteSize, tensor);
    const offset = size(parameters, SHARED_MEMORY_PARAMETERS.offset, tensor) ?? 0;
    if (byteSize === null) throw invalid(`shared_memory_byte_size of '${tensor}' is missing`);
    this.#taken ??= new Map();
    let region = this.#taken.get(name);
    if (region === undefined) {
      region = this.#regions.take(name, this.#peer);
      this.#taken.set(name, region);
    }
    if (offset + byteSize > region.byteSize) {
      throw invalid(
        `'${tensor}' asks for bytes ${offset} to ${offset + byteSize} of shared memory region '${shown(name)}', which has ${region.byteSize} bytes`,
      );
    }
    return { region, offset, byteSize };
  }
}

function size(parameters: ReadParameters, name: string, tensor: string): number | null {
  const parameter = parameters[name];
  if (parameter == null) return null;
  const choice = parameter.parameter_choice;
  const value = choice === "int64_param" || choice === "uint64_param" ? Number(parameter[choice]) : Number.NaN;
  if (!(Number.isSafeInteger(value) && value >= 0)) {
    throw invalid(`${name} of '${tensor}' must be an integer, not negative`);
  }
  return value;
}

function openFd(region: Region): number {
  if (region.fd !== null) return region.fd;
  throw regionError(
    "NOT_FOUND",
    `shared memory region '${shown(region.name)}' was unregistered while the request was under way`,
  );
}

/** Reads or writes; the system's refusal becomes an error that names the region. */
function transfer(what: string, region: Region, move: () => number): number {
  try {
    return move();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw regionError("INTERNAL", `${what} shared memory region '${shown(region.name)}' (${code})`);
  }
}

/** Node takes lengths of 2 GiB and more for others. */
const TRANSFER_BYTES_MAX = 2 ** 30;

/** Fills `target`, which has the span's size. */
function readSpan({ region, offset, byteSize }: Span, tensor: string, target: Uint8Array): void {
  const fd = openFd(region);
  let done = 0;
  while (done < byteSize) {
    const got = transfer(`input '${tensor}' can't be read from`, region, () =>
      readSync(fd, target, done, Math.min(byteSize - done, TRANSFER_BYTES_MAX), region.offset + offset + done),
    );
    if (got === 0) {
      throw regionError(
        "INVALID_ARGUMENT",
        `shared memory region '${shown(region.name)}' has become smaller: ${done} of the ${byteSize} bytes of '${tensor}' are there`,
      );
    }
    done += got;
  }
}

function writeSpan(
  { region, offset, byteSize }: Span,
  output: string,
  bytes: Uint8Array,
): Record<string, WireParameter> {
  const name = shown(region.name);
  if (bytes.byteLength > byteSize) {
    throw regionError(
      "INVALID_ARGUMENT",
      `output '${output}' has ${bytes.byteLength} bytes, but ${byteSize} bytes of shared memory region '${name}' are meant for it`,
    );
  }
  const fd = openFd(region);
  let done = 0;
  while (done < bytes.byteLength) {
    done += transfer(`output '${output}' can't be written to`, region, () =>
      writeSync(fd, bytes, done, Math.min(bytes.byteLength - done, TRANSFER_BYTES_MAX), region.offset + offset + done),
    );
  }
  return {
    [SHARED_MEMORY_PARAMETERS.region]: { string_param: region.name },
    [SHARED_MEMORY_PARAMETERS.byteSize]: { int64_param: bytes.byteLength },
    ...(offset > 0 ? { [SHARED_MEMORY_PARAMETERS.offset]: { int64_param: offset } } : {}),
  };
}
