/**
 * A lane's shared memory: one anonymous file, inherited by the lane's process when it starts, in which page-aligned
 * regions are reserved and given back as models come and go. Both processes map the regions that they use.
 */
import { closeSync, openSync, unlinkSync } from "node:fs";
import path from "node:path";
import { availableMemoryBytes } from "../resources.ts";
import { loadPosix, type Posix } from "./posix.ts";

export const PAGE_BYTES = 4096;

/** A reserved range of the arena's file; both numbers are multiples of the page size. */
export interface Region {
  readonly offset: number;
  readonly bytes: number;
}

/** Where the arena's file lives: an anonymous memory file, or an unlinked file in `/dev/shm`. */
export type ArenaBacking = "memfd" | "shm";

export class OutOfArenaMemory extends Error {}

export class Arena {
  readonly fd: number;
  readonly backing: ArenaBacking;
  readonly #posix: Posix;
  readonly #bytesMax: number;
  /** Ascending by offset, never overlapping. */
  #reserved: Region[] = [];

  private constructor(posix: Posix, fd: number, backing: ArenaBacking, bytesMax: number) {
    this.#posix = posix;
    this.fd = fd;
    this.backing = backing;
    this.#bytesMax = bytesMax;
  }

  /**
   * Opens an arena with the first of these backings that works.
   *
   * @throws with the reasons where none does
   */
  static open(backings: readonly ArenaBacking[] = ["memfd", "shm"], bytesMax: number = Infinity): Arena {
    const posix = loadPosix();
    const problems: string[] = [];
    for (const backing of backings) {
      try {
        const fd = backing === "memfd" ? posix.memfdCreate("slackline-arena") : openSharedFile();
        const arena = new Arena(posix, fd, backing, bytesMax);
        // A first page reserved, mapped and given back shows that the whole path works here.
        const trial = arena.reserve(PAGE_BYTES);
        mapRegion(fd, trial);
        arena.free(trial);
        return arena;
      } catch (error) {
        problems.push(`${backing}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    throw new Error(problems.join("; "));
  }

  get reservedBytes(): number {
    return this.#reserved.reduce((sum, region) => sum + region.bytes, 0);
  }

  /** Reserves at least `bytes` of memory (not sparse); throws `OutOfArenaMemory` where there is not enough. */
  reserve(bytes: number): Region {
    const size = Math.max(PAGE_BYTES, Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES);
    // Reserving more than there is may end the process instead of failing, so what is left is looked at first.
    const available = Math.min(availableMemoryBytes() * 0.9, this.#bytesMax - this.reservedBytes);
    if (size > available)
      throw new OutOfArenaMemory(`${mib(size)} of shared memory wanted, ${mib(available)} available`);
    let offset = 0;
    let index = 0;
    for (; index < this.#reserved.length; index++) {
      const region = this.#reserved[index]!;
      if (region.offset - offset >= size) break;
      offset = region.offset + region.bytes;
    }
    const region: Region = { offset, bytes: size };
    try {
      this.#posix.allocate(this.fd, offset, size);
    } catch (error) {
      throw new OutOfArenaMemory(`${mib(size)} of shared memory cannot be reserved`, { cause: error });
    }
    this.#reserved.splice(index, 0, region);
    return region;
  }

  /** Gives a region's memory back. Mappings of it may linger but must not be used any more. */
  free(region: Region): void {
    this.#reserved = this.#reserved.filter((other) => other !== region);
    this.#posix.punchHole(this.fd, region.offset, region.bytes);
  }

  close(): void {
    this.#reserved = [];
    closeSync(this.fd);
  }
}

/** An arena, or null where memory cannot be shared: `warn` is then told why, and what that means for `whose` models. */
export function openArenaIfPossible(whose: string, warn: (message: string) => void, bytesMax?: number): Arena | null {
  try {
    return Arena.open(undefined, bytesMax);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    warn(
      `${whose}: memory cannot be shared with a process of its own (${reason}). Models execute in threads of the daemon: ` +
        "tensors are copied to them, and a crash in the runtime ends the daemon",
    );
    return null;
  }
}

export interface Mapping {
  readonly address: bigint;
  readonly bytes: number;
}

const mappings = new WeakMap<ArrayBuffer, Mapping>();

const unmapWhenUnreachable = new FinalizationRegistry<Mapping>(({ address, bytes }) => {
  loadPosix().unmap(address, bytes);
});

/**
 * Maps a region of an arena's file into this thread. The mapping lasts until nothing refers to the returned buffer, any view
 * on it included: memory is never unmapped under a reader, be it script or native code that was handed a view.
 */
export function mapRegion(fd: number, region: Region): ArrayBuffer {
  const { address, buffer } = loadPosix().map(fd, region.offset, region.bytes);
  const mapping = { address, bytes: region.bytes };
  unmapWhenUnreachable.register(buffer, mapping, buffer);
  mappings.set(buffer, mapping);
  return buffer;
}

/** Where a mapped buffer lies; undefined once it is unmapped. */
export function mappingOf(buffer: ArrayBuffer): Mapping | undefined {
  return mappings.get(buffer);
}

/** Unmaps at once; only where nothing will touch the buffer or a view on it any more. */
export function unmapNow(buffer: ArrayBuffer): void {
  const mapping = mappings.get(buffer);
  if (mapping === undefined) return;
  mappings.delete(buffer);
  unmapWhenUnreachable.unregister(buffer);
  loadPosix().unmap(mapping.address, mapping.bytes);
}

function openSharedFile(): number {
  const file = path.join("/dev/shm", `slackline-${process.pid}-${Math.random().toString(36).slice(2)}`);
  const fd = openSync(file, "wx+", 0o600);
  unlinkSync(file);
  return fd;
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
