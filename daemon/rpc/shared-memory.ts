/** System shared memory: the regions that callers on the same host have registered. */
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import path from "node:path";
import { SHARED_MEMORY_CAUSE } from "../../proto/parameters.ts";
import { invalid, RpcError } from "./errors.ts";
import { openFilesMax } from "./open-files.ts";
import type { Peer } from "./peer.ts";
import type { RpcSettings } from "./settings.ts";
import { shown } from "./text.ts";

const SHARED_MEMORY_DIR = "/dev/shm";

/** Longer than owners keep regions that they do not use. */
const UNUSED_MS = 5 * 60_000;

const NAME_LENGTH_MAX = 255;

const REGIONS_MAX = 1024;
/** Each region keeps a file open; connections need the others. */
const OPEN_FILES_SHARE = 1 / 4;

export interface RegionStatus {
  readonly name: string;
  readonly key: string;
  /** Where in the object the region begins, bytes. */
  readonly offset: number;
  readonly byteSize: number;
}

export interface Region extends RegionStatus {
  /** null once unregistered: the number may belong to another file by then. */
  readonly fd: number | null;
}

interface OwnRegion extends Region {
  fd: number | null;
  /** How often requests under way have taken it. */
  uses: number;
  /** When the last of them gave it back. */
  usedMs: number;
}

export interface SharedMemoryOptions {
  readonly peers: RpcSettings["sharedMemoryPeers"];
  readonly regionsMax: number;
  readonly dir: string;
  nowMs(): number;
}

export class SharedMemoryRegions {
  readonly #options: SharedMemoryOptions;
  readonly #regions = new Map<string, OwnRegion>();

  constructor(options: Partial<SharedMemoryOptions> = {}) {
    this.#options = {
      peers: "loopback",
      regionsMax: Math.min(REGIONS_MAX, Math.floor(openFilesMax() * OPEN_FILES_SHARE)),
      dir: SHARED_MEMORY_DIR,
      nowMs: () => performance.now(),
      ...options,
    };
  }

  /** Whoever is admitted reads and writes this host's memory objects with the daemon's rights. */
  #admits(peer: Peer): boolean {
    const { peers } = this.#options;
    return peers === "any" || (peers === "loopback" && peer.onLoopback);
  }

  #checkAdmitted(peer: Peer): void {
    if (this.#admits(peer)) return;
    const why =
      this.#options.peers === "none"
        ? "shared memory is switched off by the setting shared_memory_peers"
        : "shared memory is for callers on the daemon's own host only, over its loopback address";
    throw regionError("FAILED_PRECONDITION", `${why}; send tensors in the message`);
  }

  /**
   * Throws `RpcError` where the name is taken, the object is missing, too small or no shared-memory object, there are too many
   * regions, or the peer may have none.
   */
  register(status: RegionStatus, peer: Peer): void {
    this.#checkAdmitted(peer);
    const { name, key, offset, byteSize } = status;
    const { regionsMax, nowMs } = this.#options;
    if (name === "") throw invalid("a shared memory region needs a name");
    if (name.length > NAME_LENGTH_MAX) {
      throw invalid(
        `a shared memory region's name may have ${NAME_LENGTH_MAX} characters; '${shown(name)}' has ${name.length}`,
      );
    }
    if (this.#regions.has(name)) {
      throw new RpcError("ALREADY_EXISTS", "invalid", `shared memory region '${shown(name)}' is already registered`);
    }
    if (byteSize < 1) throw invalid(`shared memory region '${shown(name)}' must have at least 1 byte`);
    if (this.#regions.size >= regionsMax) {
      throw new RpcError(
        "RESOURCE_EXHAUSTED",
        "refused",
        `shared memory region '${shown(name)}' would be one too many: ${regionsMax} may be registered at once, and are; unregister those that are no longer used, or send tensors in the message`,
      );
    }
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
    this.#regions.set(name, { name, key, offset, byteSize, fd, uses: 0, usedMs: nowMs() });
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
      const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
      fd = openSync(path.join(this.#options.dir, object), flags);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const what = `shared memory object '${shown(key)}' of region '${shown(name)}'`;
      if (code === "ENOENT")
        throw new RpcError("NOT_FOUND", "not_found", `${what} does not exist on the daemon's host`);
      const message = `${what} can't be opened for reading and writing (${code})`;
      if (code === "EMFILE" || code === "ENFILE") throw new RpcError("RESOURCE_EXHAUSTED", "refused", message);
      throw invalid(message);
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
  status(name: string, peer: Peer): readonly RegionStatus[] {
    return name === "" ? this.#listed(peer) : [this.#find(name, peer)];
  }

  /** What there is for a peer that names no region; for one that may have none that is nothing, and no error. */
  #listed(peer: Peer): OwnRegion[] {
    if (!this.#admits(peer)) return [];
    return [...this.#regions.values()].filter((region) => !isUnlinked(region));
  }

  /** The region, which is in use until it is given back as often as it was taken. Throws `RpcError` for an unknown one. */
  take(name: string, peer: Peer): Region {
    const region = this.#find(name, peer);
    region.uses++;
    return region;
  }

  give(taken: Region): void {
    const region = taken as OwnRegion;
    if (--region.uses === 0) region.usedMs = this.#options.nowMs();
  }

  #find(name: string, peer: Peer): OwnRegion {
    this.#checkAdmitted(peer);
    const region = this.#regions.get(name);
    if (region === undefined) {
      throw regionError("NOT_FOUND", `shared memory region '${shown(name)}' is not registered`);
    }
    return region;
  }

  /**
   * Unregisters regions whose object has been unlinked and that no request has needed for a while: an owner that crashed can't,
   * and nothing else would free their memory.
   */
  dropUnused(): void {
    const sinceMs = this.#options.nowMs() - UNUSED_MS;
    for (const region of this.#regions.values()) {
      if (region.uses === 0 && region.usedMs <= sinceMs && isUnlinked(region)) this.#drop(region);
    }
  }

  /** An unknown region is no error: it is as unregistered as it can be. An empty name means all that are listed. */
  unregister(name: string, peer: Peer): void {
    if (name === "") {
      for (const region of this.#listed(peer)) this.#drop(region);
      return;
    }
    this.#checkAdmitted(peer);
    const region = this.#regions.get(name);
    if (region !== undefined) this.#drop(region);
  }

  /** Unregisters all. */
  close(): void {
    for (const region of this.#regions.values()) this.#drop(region);
  }

  #drop(region: OwnRegion): void {
    if (region.fd === null) return;
    closeSync(region.fd);
    region.fd = null;
    this.#regions.delete(region.name);
  }
}

function isUnlinked({ fd }: Region): boolean {
  return fd !== null && fstatSync(fd).nlink === 0;
}

/** Why a request can't have its regions; callers that can do without them tell it from their own mistakes. */
export function regionError(
  code: "NOT_FOUND" | "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "INTERNAL",
  message: string,
): RpcError {
  return new RpcError(code, SHARED_MEMORY_CAUSE, message);
}
