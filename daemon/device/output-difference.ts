/** How far answers of trial runs are apart. */
import { fromHalf } from "../engine/half.ts";
import type { Tensor } from "../engine/tensors.ts";

/** The largest difference between elements of two tensors of one shape, as a share of the largest value. */
export function largestDifference(expected: Tensor, actual: Tensor): number {
  const a = numbers(expected);
  const b = numbers(actual);
  let largest = 0;
  let difference = 0;
  for (let index = 0; index < a.length; index++) {
    if (Object.is(a[index], b[index]) || a[index] === b[index]) {
      if (Number.isFinite(a[index]!)) largest = Math.max(largest, Math.abs(a[index]!));
      continue;
    }
    const apart = Math.abs(a[index]! - b[index]!);
    if (!Number.isFinite(apart)) return Number.POSITIVE_INFINITY;
    largest = Math.max(largest, Math.abs(a[index]!));
    difference = Math.max(difference, apart);
  }
  return difference === 0 ? 0 : difference / largest;
}

/** Elements as numbers that compare as they do; integers and strings by their bytes, since they must be equal. */
function numbers({ datatype, data }: Tensor): ArrayLike<number> {
  if (!(data instanceof Uint8Array)) return Float64Array.from(data.flatMap((element) => [element.length, ...element]));
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  switch (datatype) {
    case "FP16":
      return Float64Array.from({ length: data.length / 2 }, (_, at) => fromHalf(view.getUint16(2 * at, true)));
    case "FP32":
      return Float64Array.from({ length: data.length / 4 }, (_, at) => view.getFloat32(4 * at, true));
    case "FP64":
      return Float64Array.from({ length: data.length / 8 }, (_, at) => view.getFloat64(8 * at, true));
    default:
      return data;
  }
}
