/** One shared-memory object: it has a name only until the daemon has opened it, so that it goes with the processes that use it. */

import { randomBytes } from "node:crypto";
import { close, closeSync, ftruncate, open, readSync, unlink, write, writeSync } from "node:fs";
import { statfs } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";

import { nowMs } from "../infer-call.ts";

const SHARED_MEMORY_DIR = "/dev/shm";
/** Of what is free there at a time: others map sparse objects and are killed when it is full. */
const FREE_SHARE_MAX = 0.25;
const FILL_BYTES = 1024 * 1024;
/** Blocks start at multiples of a cache line. */
const ALIGNMENT_BYTES = 64;

interface Block {
  readonly offset: number;
  readonly bytes: number;
}

/** The largest object that is made now, in bytes. Rejects where there is no shared memory. */
export async function largestObjectBytes(): Promise<number> {
  const { bavail, bsize } = await statfs(SHARED_MEMORY_DIR);
  return Math.floor(bavail * bsize * FREE_SHARE_MAX);
}

export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

export class Segment {
  /** Under which the daemon knows it; nobody can guess it. */
  readonly region: string;
  readonly bytes: number;
  /** Blocks that are lent and may be given back. */
  lent = 0;
  readonly madeMs: number = nowMs();
  usedMs: number = this.madeMs;
  /** No more blocks are lent. */
  retired = false;
  readonly #fd: number;
  #open = true;
  /** Ascending by offset; neighbours are merged. */
  #free: Block[];

  private constructor(region: string, fd: number, bytes: number) {
    this.region = region;
    this.#fd = fd;
    this.bytes = bytes;
    this.#free = [{ offset: 0, bytes }];
  }

  /**
   * Makes an object and has the daemon open it by `register`, which gets its name. Rejects where there is not enough memory, or with
   * what `register` rejects with; then nothing is left.
   */
  static async create(bytes: number, register: (name: string) => Promise<unknown>): Promise<Segment> {
    const name = `slackline-${randomBytes(16).toString("hex")}`;
    const file = path.join(SHARED_MEMORY_DIR, name);
    const fd = await promisify(open)(file, "wx+", 0o600);
    try {
      try {
        await promisify(ftruncate)(fd, bytes);
        await register(name);
      } finally {
        await promisify(unlink)(file);
      }
      // Until it is written to, the memory need not be there.
      const zeros = Buffer.alloc(Math.min(bytes, FILL_BYTES));
      for (let offset = 0; offset < bytes; ) {
        offset += (await promisify(write)(fd, zeros, 0, Math.min(zeros.length, bytes - offset), offset)).bytesWritten;
      }
    } catch (error) {
      await promisify(close)(fd);
      throw error;
    }
    return new Segment(name, fd, bytes);
  }

  /** The offset of a block, or null where none is free. */
  take(bytes: number): number | null {
    const index = this.#free.findIndex((block) => block.bytes >= bytes);
    if (index < 0) return null;
    const { offset, bytes: size } = this.#free[index]!;
    const rest = { offset: offset + bytes, bytes: size - bytes };
    this.#free.splice(index, 1, ...(rest.bytes > 0 ? [rest] : []));
    this.lent++;
    return offset;
  }

  give(offset: number, bytes: number): void {
    this.lent--;
    let index = this.#free.findIndex((block) => block.offset > offset);
    if (index < 0) index = this.#free.length;
    let merged: Block = { offset, bytes };
    const before = this.#free[index - 1];
    const after = this.#free[index];
    if (before !== undefined && before.offset + before.bytes === offset) {
      merged = { offset: before.offset, bytes: before.bytes + bytes };
      this.#free.splice(--index, 1);
    }
    if (after !== undefined && offset + bytes === after.offset) {
      merged = { offset: merged.offset, bytes: merged.bytes + after.bytes };
      this.#free.splice(index, 1);
    }
    this.#free.splice(index, 0, merged);
  }

  /** Throws what the system does. */
  write(offset: number, data: NodeJS.ArrayBufferView): void {
    this.#checkOpen();
    for (let done = 0; done < data.byteLength; ) {
      done += writeSync(this.#fd, data, done, data.byteLength - done, offset + done);
    }
  }

  read(offset: number, bytes: number): Buffer {
    this.#checkOpen();
    // Of its own memory, so that elements of every size are aligned in it.
    const data = Buffer.allocUnsafeSlow(bytes);
    for (let done = 0; done < bytes; ) {
      const got = readSync(this.#fd, data, done, bytes - done, offset + done);
      if (got === 0) throw new Error("a shared memory object has become smaller");
      done += got;
    }
    return data;
  }

  /** A descriptor that was closed may be another file's by now. */
  #checkOpen(): void {
    if (!this.#open) throw new Error("the shared memory was given back");
  }

  /** Frees the memory as far as this process is concerned. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }
}
