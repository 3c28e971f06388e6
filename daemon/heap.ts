/** How V8's heap is run in the daemon's process. */
import { setFlagsFromString } from "node:v8";

/** A full collection starts when what is held has grown to this many times what the last one left. */
const GROWTH_FACTOR = 4;

/**
 * Messages lie outside V8's heap but count against its limit, and V8 lets a small heap grow by little: with the daemon's, some hundred
 * messages of 12 KiB start a full collection, which then takes more time than all else. 4 is what V8 itself grants large heaps.
 */
export function growFreely(): void {
  setFlagsFromString(`--heap-growing-percent=${(GROWTH_FACTOR - 1) * 100}`);
}
