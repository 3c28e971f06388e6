/**
 * Buffers for encoded messages, used again once a message is written. Memory outside V8's heap makes it collect garbage by its sheer
 * turnover: at some thousand messages of some KiB a second that cost more than everything else the client does.
 */

const SMALLEST_BYTES = 4 * 1024;
const LARGEST_BYTES = 1024 * 1024;
const POOLED_BYTES_MAX = 16 * 1024 * 1024;

/** Free buffers by size: powers of two. */
const free = new Map<number, Buffer[]>();
let pooledBytes = 0;

/** A buffer of exactly this length. Give it back with `giveBuffer`, or leave it to the garbage collector. */
export function takeBuffer(length: number): Buffer {
  // Node has a pool of its own for small ones; large ones are rare enough.
  if (length < SMALLEST_BYTES || length > LARGEST_BYTES) return Buffer.allocUnsafe(length);
  const size = 2 ** Math.ceil(Math.log2(length));
  const pooled = free.get(size)?.pop();
  if (pooled !== undefined) pooledBytes -= size;
  return (pooled ?? Buffer.allocUnsafeSlow(size)).subarray(0, length);
}

/** Makes a buffer from `takeBuffer` available to others: nobody may read it any more. */
export function giveBuffer(taken: Buffer): void {
  const size = taken.buffer.byteLength;
  if (taken.length < SMALLEST_BYTES || taken.length > LARGEST_BYTES || pooledBytes + size > POOLED_BYTES_MAX) return;
  const buffers = free.get(size) ?? [];
  free.set(size, buffers);
  buffers.push(Buffer.from(taken.buffer, 0, size));
  pooledBytes += size;
}
