/**
 * Schema pieces whose error message is the sentence of what is allowed; `validate` puts what was found before it.
 */
import { z } from "zod";

export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): z.ZodType<number> {
  const error = max === Number.MAX_SAFE_INTEGER ? `an integer, at least ${min}` : `an integer from ${min} to ${max}`;
  // Ending at the first check that fails lets a union around this say its own sentence.
  const abort = true;
  return z.number({ error }).int({ error, abort }).min(min, { error, abort }).max(max, { error, abort });
}

/** A finite number within [min, max]. */
export function number(min: number, max: number = Number.MAX_VALUE): z.ZodType<number> {
  const error = max === Number.MAX_VALUE ? `a number, at least ${min}` : `a number from ${min} to ${max}`;
  return z.number({ error }).min(min, { error }).max(max, { error });
}

export function positive(max: number = Number.MAX_VALUE): z.ZodType<number> {
  const error = max === Number.MAX_VALUE ? "a number above 0" : `a number above 0, up to ${max}`;
  return z.number({ error }).gt(0, { error }).max(max, { error });
}

export function boolean(): z.ZodType<boolean> {
  return z.boolean({ error: "true or false" });
}

export function oneOf<const T extends string>(values: readonly T[]): z.ZodType<T> {
  return z.enum(values, { error: `one of ${values.join(", ")}` }) as z.ZodType<T>;
}

/** Text that is not empty; `what` names it ("a folder", "a file"). */
export function text(what: string): z.ZodType<string> {
  return z.string({ error: what }).min(1, { error: what });
}
