/** Padding of inputs to the length of their batch's shape. */
import type { InputPlace } from "./layout.ts";

/** Bytes of one item of a tensor of this shape, before it is padded. */
export function ownItemBytes({ itemBytes, paddable, shape }: InputPlace, own: readonly number[]): number {
  if (paddable === null) return itemBytes;
  return (itemBytes / shape[paddable.axis]!) * own[paddable.axis]!;
}

/**
 * Pads items in place: they stand from `position` on as their tensor holds them, and take as many bytes as `place` says
 * afterwards. Moving them apart from the last to the first needs no second buffer.
 */
export function spread(
  target: Uint8Array,
  position: number,
  items: number,
  place: InputPlace,
  own: readonly number[],
): void {
  const { axis, blocks, fill } = place.paddable!;
  const block = place.itemBytes / blocks;
  const kept = (block / place.shape[axis]!) * own[axis]!;
  for (let index = items * blocks - 1; index >= 0; index--) {
    const from = position + index * kept;
    const to = position + index * block;
    target.copyWithin(to, from, from + kept);
    fillElements(target, to + kept, to + block, fill);
  }
}

/** Writes an element again and again, from `begin` to `end` (bytes). */
export function fillElements(target: Uint8Array, begin: number, end: number, element: Uint8Array): void {
  if (element.every((byte) => byte === element[0])) {
    target.fill(element[0]!, begin, end);
    return;
  }
  for (let at = begin; at < end; at += element.length) target.set(element, at);
}
