/** The smallest library that a Linux loader lists the needs of: 64-bit ELF for x86-64, no code. */

const PAGE = 0x1000;
const HEADER_BYTES = 64;
const SEGMENT_BYTES = 56;
const SYMBOL_BYTES = 24;
const TAG = { end: 0, needed: 1, hash: 4, strtab: 5, symtab: 6, strsz: 10, syment: 11 } as const;

/**
 * @param needed names of the libraries that it asks the loader for
 * @param constants texts among its constants, each between zero bytes
 */
export function fakeLibrary(needed: readonly string[], constants: readonly string[]): Buffer {
  const names = Buffer.from(`\0${needed.map((name) => `${name}\0`).join("")}`);
  const offsets = needed.map((name) => names.indexOf(`\0${name}\0`) + 1);
  // One symbol (the undefined one, which every table begins with) and a hash table of one empty bucket.
  const symbols = Buffer.alloc(SYMBOL_BYTES);
  const hash = Buffer.from(Uint32Array.of(1, 1, 0, 0).buffer);
  const texts = Buffer.from(`\0${constants.map((text) => `${text}\0`).join("")}`);

  const segmentsAt = HEADER_BYTES;
  const namesAt = segmentsAt + 2 * SEGMENT_BYTES;
  const symbolsAt = align(namesAt + names.length, 8);
  const hashAt = symbolsAt + symbols.length;
  const dynamicAt = align(hashAt + hash.length, 16);
  const entries: [tag: number, value: number][] = [
    ...offsets.map((offset): [number, number] => [TAG.needed, offset]),
    [TAG.hash, hashAt],
    [TAG.strtab, namesAt],
    [TAG.symtab, symbolsAt],
    [TAG.strsz, names.length],
    [TAG.syment, SYMBOL_BYTES],
    [TAG.end, 0],
  ];
  const dynamic = Buffer.alloc(16 * entries.length);
  entries.forEach(([tag, value], i) => {
    dynamic.writeBigUInt64LE(BigInt(tag), 16 * i);
    dynamic.writeBigUInt64LE(BigInt(value), 16 * i + 8);
  });
  const textsAt = dynamicAt + dynamic.length;
  const bytes = Buffer.alloc(textsAt + texts.length);

  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes.writeUInt16LE(3, 16); // shared object
  bytes.writeUInt16LE(62, 18); // x86-64
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(BigInt(segmentsAt), 32);
  bytes.writeUInt16LE(HEADER_BYTES, 52);
  bytes.writeUInt16LE(SEGMENT_BYTES, 54);
  bytes.writeUInt16LE(2, 56);
  bytes.writeUInt16LE(64, 58);
  segment(bytes, segmentsAt, 1, 0, bytes.length, PAGE);
  segment(bytes, segmentsAt + SEGMENT_BYTES, 2, dynamicAt, dynamic.length, 8);
  bytes.set(names, namesAt);
  bytes.set(symbols, symbolsAt);
  bytes.set(hash, hashAt);
  bytes.set(dynamic, dynamicAt);
  bytes.set(texts, textsAt);
  return bytes;
}

function segment(bytes: Buffer, at: number, type: number, offset: number, size: number, alignment: number): void {
  bytes.writeUInt32LE(type, at);
  bytes.writeUInt32LE(6, at + 4); // readable and writable
  for (const field of [8, 16, 24]) bytes.writeBigUInt64LE(BigInt(offset), at + field);
  for (const field of [32, 40]) bytes.writeBigUInt64LE(BigInt(size), at + field);
  bytes.writeBigUInt64LE(BigInt(alignment), at + 48);
}

function align(offset: number, to: number): number {
  return Math.ceil(offset / to) * to;
}
