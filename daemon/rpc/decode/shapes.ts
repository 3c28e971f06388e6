/** Shapes on the wire against declared shapes; products that can't overflow. */
import type { TensorSpec } from "../../engine/tensors.ts";
import type { WireLong } from "../messages.ts";

/** A dimension as a number; exact below 2^53, and near enough above it to be refused. */
function dimension(value: WireLong): number {
  return value.high === 0 && value.low >= 0 ? value.low : value.toNumber();
}

/**
 * The request's shape as numbers, or null where it doesn't fit the declared one: same rank, equal where declared fixed,
 * positive everywhere (a request without elements has nothing to infer).
 */
export function matchShape(spec: TensorSpec, wire: readonly WireLong[]): number[] | null {
  if (wire.length !== spec.shape.length) return null;
  const shape: number[] = new Array(wire.length);
  for (let axis = 0; axis < wire.length; axis++) {
    const got = dimension(wire[axis]!);
    const declared = spec.shape[axis]!;
    if (declared >= 0 ? got !== declared : got < 1) return null;
    shape[axis] = got;
  }
  return shape;
}

/** The first dimension that may vary, but not below 1 as the request has it; null where the rank is wrong, or none is. */
export function tooSmallAxis(spec: TensorSpec, wire: readonly WireLong[]): number | null {
  if (wire.length !== spec.shape.length) return null;
  const axis = spec.shape.findIndex((declared, at) => declared < 0 && dimension(wire[at]!) < 1);
  return axis < 0 ? null : axis;
}

/** Elements of a shape, or null beyond 2^53. */
export function elementCount(shape: readonly number[]): number | null {
  let count = 1;
  for (const dim of shape) {
    count *= dim;
    if (!Number.isSafeInteger(count)) return null;
  }
  return count;
}

/** The same, exactly, for messages. */
export function exactElementCount(wire: readonly WireLong[]): bigint {
  return wire.reduce((count, dim) => count * BigInt(dim.toString()), 1n);
}
