/** 16-bit floating-point numbers, whose bit patterns typed arrays of Node 20 can hold but not read. */

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The nearest whole number, the even one of two. */
function roundToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** IEEE half precision: 1 bit of sign, 5 of exponent, 10 of fraction. */
export const half = {
  /** The nearest one's bits; infinity's where the number is too large. */
  bits(value: number): number {
    if (Number.isNaN(value)) return 0x7e00;
    const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
    const size = Math.abs(value);
    if (size >= 65520) return sign | 0x7c00;
    // Below the least normal number, steps are of 2^-24. A fraction that is rounded up to 1 carries into the exponent rightly.
    if (size < 2 ** -14) return sign | roundToEven(size * 2 ** 24);
    const exponent = Math.floor(Math.log2(size));
    return sign | (((exponent + 14) << 10) + roundToEven((size / 2 ** exponent) * 1024));
  },
  number(bits: number): number {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
  },
} as const;

/** The upper half of a single-precision number. */
export const bfloat = {
  /** The nearest one's bits; infinity's where the number is too large. */
  bits(value: number): number {
    if (Number.isNaN(value)) return 0x7fc0;
    float[0] = value;
    const bits = floatBits[0]!;
    return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
  },
  number(bits: number): number {
    floatBits[0] = bits << 16;
    return float[0]!;
  },
} as const;
