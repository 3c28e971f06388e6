/** Half-precision floating point (IEEE 754 binary16), which Node has no type for before version 24. */

const LARGEST = 65_504;

/** The bits of the nearest half; null where it would be infinite. */
export function toHalf(value: number): number | null {
  const size = Math.abs(value);
  if (size > LARGEST) return null;
  const sign = value < 0 ? 0x8000 : 0;
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  // In steps of the last place. The leading one of a normal number counts the exponent up, and so does a carry.
  const steps = Math.round(size / 2 ** (exponent - 10));
  return sign | (((exponent + 14) << 10) + steps);
}

export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = (bits & 0x3ff) / 1024;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15);
}
