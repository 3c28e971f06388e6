/**
 * The header of NumPy's .npy files, versions 1.0 to 3.0, as NEP 1 (https://numpy.org/neps/nep-0001-npy-format.html) and
 * `numpy.lib.format` describe it. Readers on npm take whole files into memory only.
 */
import type { FileHandle } from "node:fs/promises";
import type { Datatype } from "../datatypes.ts";
import { invalidArgument } from "../errors.ts";

export interface NpyHeader {
  /** NumPy's name of the element type: `<f4`, `|b1` … */
  readonly descr: string;
  readonly shape: readonly number[];
  /** Where the elements begin, in bytes. */
  readonly dataOffset: number;
}

const MAGIC = Buffer.from("\x93NUMPY", "latin1");
/** Magic, version and the length of what follows: 2 bytes in version 1, 4 after it. */
const PREFIX_BYTES_MAX = 12;
const HEADER_BYTES_MAX = 2 ** 16;
const ALIGNMENT_BYTES = 64;

/** Names of the element types; absent where NumPy has none of one size (BYTES) or none at all (BF16). */
const DESCR: Readonly<Partial<Record<Datatype, string>>> = {
  BOOL: "|b1",
  UINT8: "|u1",
  UINT16: "<u2",
  UINT32: "<u4",
  UINT64: "<u8",
  INT8: "|i1",
  INT16: "<i2",
  INT32: "<i4",
  INT64: "<i8",
  FP16: "<f2",
  FP32: "<f4",
  FP64: "<f8",
};

/** NumPy's name of a datatype, null where it has none. */
export function descrOf(datatype: Datatype): string | null {
  return DESCR[datatype] ?? null;
}

/** Reads a file's header; throws INVALID_ARGUMENT where it is none that can be read here. */
export async function readNpyHeader(file: FileHandle, name: string): Promise<NpyHeader> {
  const prefix = Buffer.alloc(PREFIX_BYTES_MAX);
  const { bytesRead } = await file.read(prefix, 0, PREFIX_BYTES_MAX, 0);
  if (bytesRead < PREFIX_BYTES_MAX || !prefix.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw invalidArgument(`${name} is no .npy file: it does not begin with NumPy's magic string`);
  }
  const major = prefix[6]!;
  if (major < 1 || major > 3) {
    throw invalidArgument(`${name} has version ${major}.${prefix[7]} of the .npy format; known are 1.0 to 3.0`);
  }
  const begin = major === 1 ? 10 : 12;
  const length = major === 1 ? prefix.readUInt16LE(8) : prefix.readUInt32LE(8);
  if (length > HEADER_BYTES_MAX) {
    throw invalidArgument(`${name} has a header of ${length} bytes; at most ${HEADER_BYTES_MAX} are read`);
  }
  const header = Buffer.alloc(length);
  const { bytesRead: headerBytes } = await file.read(header, 0, length, begin);
  if (headerBytes < length) throw invalidArgument(`${name} ends within its header`);
  return { ...parse(header.toString(major === 3 ? "utf8" : "latin1"), name), dataOffset: begin + length };
}

/** The header is a Python literal: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`. */
function parse(text: string, name: string): Omit<NpyHeader, "dataOffset"> {
  const descr = /'descr':\s*'([^']*)'/.exec(text)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(text)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(text)?.[1];
  if (order === undefined || shape === undefined) throw invalidArgument(`${name} has no header of NumPy's: ${text}`);
  if (descr === undefined) throw invalidArgument(`${name} has elements of several fields; expected one number each`);
  // Python 2 wrote long integers with an L.
  const dims = shape.split(",").flatMap((dim) => (dim.trim() === "" ? [] : [Number(dim.trim().replace(/L$/, ""))]));
  if (!dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
    throw invalidArgument(`${name} has the shape (${shape}); expected whole numbers`);
  }
  if (order === "True" && dims.length > 1) {
    throw invalidArgument(`${name} is in Fortran order; expected C order: save numpy.ascontiguousarray(a)`);
  }
  if (descr.startsWith(">")) {
    throw invalidArgument(
      `${name} is big-endian ('${descr}'); expected little-endian: save a.astype('<${descr.slice(1)}')`,
    );
  }
  return { descr, shape: dims };
}

/** Whether an item of this shape is what is declared, where -1 is any. */
export function fits(shape: readonly number[], declared: readonly number[]): boolean {
  return shape.length === declared.length && declared.every((dim, i) => dim < 0 || dim === shape[i]);
}

/** A header of version 1.0, padded so that the elements are aligned. */
export function npyHeader(descr: string, shape: readonly number[]): Buffer {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const bytes = Math.ceil((10 + dict.length + 1) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  const prefix = Buffer.from([...MAGIC, 1, 0, 0, 0]);
  prefix.writeUInt16LE(bytes - 10, 8);
  return Buffer.concat([prefix, Buffer.from(`${dict.padEnd(bytes - 11)}\n`, "latin1")]);
}
