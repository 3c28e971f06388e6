/**
 * System shared memory: regions that callers on the same host register, read with pread and written with pwrite. Nothing
 * is ever mapped: a caller that truncates a mapped file would kill the daemon.
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import path from "node:path";
import { SHARED_MEMORY_CAUSE, SHARED_MEMORY_PARAMETERS } from "../../proto/parameters.ts";
import { parameterValue } from "./decode/parameters.ts";
import type { SharedInputs, SharedTensor } from "./decode/request.ts";
import type { SharedOutputs } from "./encode.ts";
import { RpcError } from "./errors.ts";
import type { ReadParameters, ReadRequestedOutput, WireParameter } from "./messages.ts";
import { shown } from "./text.ts";

const SHARED_MEMORY_DIR = "/dev/shm";

/** Longer than owners keep regions that they do not use. */
const UNUSED_MS = 5 * 60_000;

export interface RegionStatus {
  readonly name: string;
  readonly key: string;
  /** Where in the object the region begins, bytes. */
  readonly offset: number;
  readonly byteSize: number;
}

interface Region extends RegionStatus {
  /** null once unregistered: the number may belong to another file by then. */
  fd: number | null;
  /** When a request named it last. */
  usedMs: number;
}

/** A part of a region, as a tensor's parameters name it. */
interface Span {
  readonly region: Region;
  readonly offset: number;
  readonly byteSize: number;
}

export class SharedMemoryRegions {
  readonly #dir: string;
  readonly #regions = new Map<string, Region>();

  readonly #nowMs: () => number;

  constructor(dir: string = SHARED_MEMORY_DIR, nowMs: () => number = () => performance.now()) {
    this.#dir = dir;
    this.#nowMs = nowMs;
  }

  /** Throws `RpcError` where the name is taken or the object is missing, too small or no shared-memory object. */
  register(status: RegionStatus): void {
    const { name, key, offset, byteSize } = status;
    if (name === "") throw invalid("a shared memory region needs a name");
    if (this.#regions.has(name)) {
      throw new RpcError("ALREADY_EXISTS", "invalid", `shared memory region '${shown(name)}' is already registered`);
    }
    if (byteSize < 1) throw invalid(`shared memory region '${shown(name)}' must have at least 1 byte`);
    const fd = this.#open(name, key);
    try {
      const { size } = fstatSync(fd);
      if (!Number.isSafeInteger(offset + byteSize) || offset + byteSize > size) {
        throw invalid(
          `shared memory region '${shown(name)}' would reach from byte ${offset} to ${offset + byteSize} of '${shown(key)}', which has ${size} bytes`,
        );
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.#regions.set(name, { name, key, offset, byteSize, fd, usedMs: this.#nowMs() });
  }

  #open(name: string, key: string): number {
    const object = key.startsWith("/") ? key.slice(1) : key;
    if (object === "" || object === "." || object === ".." || /[/\0]/.test(object)) {
      throw invalid(
        `'${shown(key)}' is no key of a shared memory object: it is one name, with or without a leading '/'`,
      );
    }
    let fd: number;
    try {
      // Not following links keeps the key inside the folder; not blocking keeps a FIFO there from stopping the daemon.
      fd = openSync(path.join(this.#dir, object), constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      const what = `shared memory object '${shown(key)}' of region '${shown(name)}'`;
      if (code === "ENOENT")
        throw new RpcError("NOT_FOUND", "not_found", `${what} does not exist on the daemon's host`);
      throw invalid(`${what} can't be opened for reading and writing (${code})`);
    }
    if (!fstatSync(fd).isFile()) {
      closeSync(fd);
      throw invalid(`'${shown(key)}' is no shared memory object`);
    }
    return fd;
  }

  /**
   * Regions by name; all where the name is empty, except those whose object has been unlinked: its owner wants it known to
   * nobody else, and whoever knows a region's name can use it. Throws `RpcError` for an unknown one.
   */
  status(name: string): readonly RegionStatus[] {
    if (name === "") return [...this.#regions.values()].filter((region) => !isUnlinked(region));
    return [this.#find(name)];
  }

  /**
   * Unregisters regions whose object has been unlinked and that no request has named for a while: an owner that crashed can't,
   * and nothing else would free their memory.
   */
  dropUnused(): void {
    const sinceMs = this.#nowMs() - UNUSED_MS;
    for (const region of this.#regions.values()) {
      if (region.usedMs <= sinceMs && isUnlinked(region)) this.unregister(region.name);
    }
  }

  /** An unknown region is no error: it is as unregistered as it can be. An empty name means all. */
  unregister(name: string): void {
    const regions = name === "" ? [...this.#regions.values()] : [this.#regions.get(name)];
    for (const region of regions) {
      if (region?.fd == null) continue;
      closeSync(region.fd);
      region.fd = null;
      this.#regions.delete(region.name);
    }
  }

  #find(name: string): Region {
    const region = this.#regions.get(name);
    if (region === undefined) {
      throw regionError("NOT_FOUND", `shared memory region '${shown(name)}' is not registered`);
    }
    return region;
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
    const region = this.#find(name);
    region.usedMs = this.#nowMs();
    if (offset + byteSize > region.byteSize) {
      throw invalid(
        `'${tensor}' asks for bytes ${offset} to ${offset + byteSize} of shared memory region '${shown(name)}', which has ${region.byteSize} bytes`,
      );
    }
    return { region, offset, byteSize };
  }

  /**
   * Inputs of one request: left where they are until a batch is gathered, or read at once. `hold` is told of bytes before
   * they are read, and may throw.
   */
  inputs(hold: (bytes: number) => void): SharedInputs {
    return {
      locate: (parameters, tensor): SharedTensor | null => {
        const span = this.#span(parameters, tensor);
        if (span === null) return null;
        return {
          byteLength: span.byteSize,
          copyTo: (target) => readSpan(span, tensor, target),
          read() {
            hold(span.byteSize);
            const bytes = Buffer.allocUnsafe(span.byteSize);
            readSpan(span, tensor, bytes);
            return bytes;
          },
        };
      },
    };
  }

  /** Where the outputs of one request go; null where none goes to shared memory. */
  outputs(requested: readonly ReadRequestedOutput[]): SharedOutputs | null {
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
        return span === undefined ? null : writeSpan(span, output, bytes);
      },
    };
  }
}

function isUnlinked({ fd }: Region): boolean {
  return fd !== null && fstatSync(fd).nlink === 0;
}

function invalid(message: string): RpcError {
  return new RpcError("INVALID_ARGUMENT", "invalid", message);
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

/** What became of a region since it was named; callers that can do without one tell it from their own mistakes. */
function regionError(code: "NOT_FOUND" | "INVALID_ARGUMENT" | "INTERNAL", message: string): RpcError {
  return new RpcError(code, SHARED_MEMORY_CAUSE, message);
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

/** Fills `target`, which has the span's size. */
function readSpan({ region, offset, byteSize }: Span, tensor: string, target: Uint8Array): void {
  const fd = openFd(region);
  let done = 0;
  while (done < byteSize) {
    const got = transfer(`input '${tensor}' can't be read from`, region, () =>
      readSync(fd, target, done, byteSize - done, region.offset + offset + done),
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
      writeSync(fd, bytes, done, bytes.byteLength - done, region.offset + offset + done),
    );
  }
  return {
    [SHARED_MEMORY_PARAMETERS.region]: { string_param: region.name },
    [SHARED_MEMORY_PARAMETERS.byteSize]: { int64_param: bytes.byteLength },
    ...(offset > 0 ? { [SHARED_MEMORY_PARAMETERS.offset]: { int64_param: offset } } : {}),
  };
}
