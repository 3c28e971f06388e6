/** Splits a file or stream into lines as it is read. */
import { SlacklineError } from "../errors.ts";

export interface Line {
  /** Counts from 1. */
  readonly number: number;
  /** Without its newline. */
  readonly bytes: Uint8Array;
  /** Where the next one begins, in bytes. */
  readonly end: number;
  /** Whether a newline ends it; the last may have none. */
  readonly ended: boolean;
}

const NEWLINE = 0x0a;
/** A line that is longer is no line of data. */
export const LINE_BYTES_MAX: number = 256 * 2 ** 20;

/** Lines by the pieces in which they come; throws INVALID_ARGUMENT for one that no line of data can be. */
export async function* linesOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<readonly Line[]> {
  let number = 0;
  let end = 0;
  let begun: Buffer[] = [];
  let begunBytes = 0;
  const take = (rest: Buffer, ended: boolean): Line => {
    const bytes = begun.length === 0 ? rest : Buffer.concat([...begun, rest]);
    begun = [];
    begunBytes = 0;
    end += bytes.length + (ended ? 1 : 0);
    return { number: ++number, bytes, end, ended };
  };
  for await (const piece of pieces) {
    const lines: Line[] = [];
    let start = 0;
    for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, start)) {
      lines.push(take(piece.subarray(start, at), true));
      start = at + 1;
    }
    if (start < piece.length) {
      begun.push(piece.subarray(start));
      begunBytes += piece.length - start;
      if (begunBytes > LINE_BYTES_MAX) {
        const message = `line ${number + 1} is longer than ${LINE_BYTES_MAX} bytes; expected JSON lines, one item on each`;
        throw new SlacklineError("INVALID_ARGUMENT", message);
      }
    }
    if (lines.length > 0) yield lines;
  }
  if (begun.length > 0) yield [take(Buffer.alloc(0), false)];
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** The JSON value on a line; throws INVALID_ARGUMENT. */
export function jsonOf({ bytes }: Line): unknown {
  try {
    return JSON.parse(strictUtf8.decode(bytes));
  } catch (error) {
    throw new SlacklineError("INVALID_ARGUMENT", `it is no JSON: ${(error as Error).message}`);
  }
}

/** Whether there is nothing but space on it. */
export function isBlank({ bytes }: Line): boolean {
  return bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
}
