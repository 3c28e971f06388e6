/** Elements of tensors as JSON has them. */
import type { Datatype } from "../datatypes.ts";
import { bfloat, half } from "./small-floats.ts";

/** As it lies in a tensor's data. */
export type Element = number | bigint | Uint8Array;

export interface ElementFormat {
  /** What JSON has to hold, for messages. */
  readonly expected: string;
  /** The element for a value of JSON; undefined where the value is none. */
  read(value: unknown): Element | undefined;
  /** The value of JSON for an element. */
  write(element: Element): unknown;
}

function integers(bits: number, signed: boolean): ElementFormat {
  const min = signed ? -(2 ** (bits - 1)) : 0;
  const max = 2 ** (signed ? bits - 1 : bits) - 1;
  return {
    expected: `a whole number of ${min} to ${max}`,
    read: (value) =>
      typeof value === "number" && Number.isInteger(value) && value >= min && value <= max ? value : undefined,
    write: (element) => element,
  };
}

function longIntegers(signed: boolean): ElementFormat {
  const min = signed ? -(2n ** 63n) : 0n;
  const max = signed ? 2n ** 63n - 1n : 2n ** 64n - 1n;
  return {
    expected: `a whole number of ${min} to ${max}, as a string beyond ${signed ? "±" : ""}${Number.MAX_SAFE_INTEGER}`,
    read(value) {
      // A larger number was rounded when its line was parsed.
      const exact =
        typeof value === "number" ? Number.isSafeInteger(value) : typeof value === "string" && /^-?\d+$/.test(value);
      if (!exact) return undefined;
      const integer = BigInt(value as number | string);
      return integer >= min && integer <= max ? integer : undefined;
    },
    write(element) {
      const number = Number(element);
      return Number.isSafeInteger(number) ? number : String(element);
    },
  };
}

const NOT_FINITE: ReadonlyMap<unknown, number> = new Map([
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY],
]);

interface FloatFormat {
  /** How numbers lie in a tensor: as themselves, or as bits. */
  readonly bits: (value: number) => number;
  readonly number: (bits: number) => number;
  /** The largest, for messages. */
  readonly max: string;
  /** Significant digits that always tell its numbers apart, and a few less, which mostly do. */
  readonly digits: readonly number[];
}

function floats({ bits, number, max, digits }: FloatFormat): ElementFormat {
  return {
    expected: `a number of at most ±${max}, "NaN", "Infinity" or "-Infinity"`,
    read(value) {
      if (typeof value !== "number") {
        const special = NOT_FINITE.get(value);
        return special === undefined ? undefined : bits(special);
      }
      const held = bits(value);
      return Number.isFinite(value) && Number.isFinite(number(held)) ? held : undefined;
    },
    write(element) {
      const value = number(element as number);
      if (!Number.isFinite(value)) return String(value);
      if (Number.isSafeInteger(value)) return value;
      for (const count of digits) {
        const short = Number(value.toPrecision(count));
        if (bits(short) === element) return short;
      }
      return value;
    },
  };
}

const itself = (value: number): number => value;

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function fromBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, "base64");
  const withoutPadding = (base64: string): string => base64.replace(/=+$/, "");
  return withoutPadding(bytes.toString("base64")) === withoutPadding(text) ? bytes : undefined;
}

const BYTES: ElementFormat = {
  expected: 'a string, or {"b64": "…"} for bytes that are no text',
  read(value) {
    if (typeof value === "string") return utf8.encode(value);
    if (typeof value !== "object" || value === null || Object.keys(value).join() !== "b64") return undefined;
    const { b64 } = value as { b64: unknown };
    return typeof b64 === "string" ? fromBase64(b64) : undefined;
  },
  write(element) {
    const bytes = element as Uint8Array;
    try {
      return strictUtf8.decode(bytes);
    } catch {
      return { b64: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64") };
    }
  },
};

const BOOL: ElementFormat = {
  expected: "true or false",
  read: (value) => (typeof value === "boolean" ? Number(value) : undefined),
  write: (element) => element !== 0,
};

export const ELEMENT_FORMATS: Readonly<Record<Datatype, ElementFormat>> = {
  BOOL,
  UINT8: integers(8, false),
  UINT16: integers(16, false),
  UINT32: integers(32, false),
  UINT64: longIntegers(false),
  INT8: integers(8, true),
  INT16: integers(16, true),
  INT32: integers(32, true),
  INT64: longIntegers(true),
  FP16: floats({ ...half, max: "65504", digits: [3, 4, 5] }),
  BF16: floats({ ...bfloat, max: "3.39e38", digits: [2, 3, 4] }),
  FP32: floats({ bits: Math.fround, number: itself, max: "3.4e38", digits: [7, 8, 9] }),
  FP64: floats({ bits: itself, number: itself, max: "1.8e308", digits: [] }),
  BYTES,
};
