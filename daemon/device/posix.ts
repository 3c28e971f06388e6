/** The few calls of libc that shared memory needs and Node does not have. Linux only; loaded when first asked for. */
import { createRequire } from "node:module";
import os from "node:os";

const PROT_READ_WRITE = 0x3;
const MAP_SHARED = 0x01;
/** Fault the pages in at once: the first batch should not pay for it. */
const MAP_POPULATE = 0x8000;
const MFD_CLOEXEC = 0x1;
const FALLOC_FL_KEEP_SIZE = 0x1;
const FALLOC_FL_PUNCH_HOLE = 0x2;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

export interface Posix {
  /** An anonymous file in memory, closed on exec. Returns its descriptor; throws where the system refuses. */
  memfdCreate(name: string): number;
  /** Reserves memory for a range of the file, growing it where needed; throws where there is not enough. */
  allocate(fd: number, offset: number, bytes: number): void;
  /** Gives the memory of a range back; the file keeps its size. */
  punchHole(fd: number, offset: number, bytes: number): void;
  /** Maps a page-aligned range of the file, shared and writable. */
  map(fd: number, offset: number, bytes: number): { address: bigint; buffer: ArrayBuffer };
  unmap(address: bigint, bytes: number): void;
}

let cached: Posix | undefined;

/** @throws with the reason where the calls cannot be had (another platform, or koffi does not load) */
export function loadPosix(): Posix {
  if (process.platform !== "linux")
    throw new Error(`shared memory is used on Linux only, and this is ${process.platform}`);
  cached ??= bind();
  return cached;
}

function bind(): Posix {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  const libc = koffi.load(null);
  const memfdCreate = libc.func("int memfd_create(const char *name, unsigned int flags)");
  const fallocate = libc.func("int fallocate(int fd, int mode, int64_t offset, int64_t len)");
  const mmap = libc.func("void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)");
  const munmap = libc.func("int munmap(void *addr, size_t length)");

  function failure(call: string): Error {
    const errno = koffi.errno();
    const name = Object.entries(os.constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
    return new Error(`${call} failed: ${name}`);
  }

  return {
    memfdCreate(name) {
      const fd: number = memfdCreate(name, MFD_CLOEXEC);
      if (fd < 0) throw failure("memfd_create");
      return fd;
    },
    allocate(fd, offset, bytes) {
      if (fallocate(fd, 0, offset, bytes) !== 0) throw failure("fallocate");
    },
    punchHole(fd, offset, bytes) {
      if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) !== 0) throw failure("fallocate");
    },
    map(fd, offset, bytes) {
      const address: bigint = mmap(null, bytes, PROT_READ_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
      if (address === null || address === MAP_FAILED) throw failure("mmap");
      return { address, buffer: koffi.view(address, bytes) };
    },
    unmap(address, bytes) {
      if (munmap(address, bytes) !== 0) throw failure("munmap");
    },
  };
}
