import type { z } from "zod";
import { nameHint } from "./nearest-name.ts";

/** What a schema has against a value. `isKey`: the last step of the path is a key that should not be there. */
export interface SchemaProblem {
  readonly path: readonly (string | number)[];
  readonly isKey: boolean;
  readonly message: string;
}

export type Validated<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: readonly SchemaProblem[] };

/** Checks a value against a schema made of the pieces in `allowed.ts`; reports every problem. */
export function validate<T>(schema: z.ZodType<T>, value: unknown): Validated<T> {
  const result = schema.safeParse(value);
  if (result.success) return { ok: true, value: result.data };
  const problems: SchemaProblem[] = [];
  for (const issue of result.error.issues) {
    const path = issue.path.map((step) => (typeof step === "symbol" ? String(step) : step));
    if (issue.code === "unrecognized_keys") {
      const known = keysAt(schema, path);
      for (const key of issue.keys) {
        problems.push({ path: [...path, key], isKey: true, message: `unknown key; ${nameHint(key, known)}` });
      }
    } else if (issue.code === "invalid_key") {
      problems.push({ path, isKey: true, message: issue.issues[0]?.message ?? issue.message });
    } else if (issue.code === "custom") {
      problems.push({ path, isKey: false, message: issue.message });
    } else {
      const found = describe(valueAt(value, path));
      problems.push({ path, isKey: false, message: `got ${found}; expected ${issue.message}` });
    }
  }
  return { ok: false, problems: withoutRepeats(problems) };
}

/** A number can fail "integer" and "at least 1" at once; both have the same sentence. */
function withoutRepeats(problems: readonly SchemaProblem[]): SchemaProblem[] {
  const seen = new Set<string>();
  return problems.filter((problem) => {
    const key = `${JSON.stringify(problem.path)} ${problem.message}`;
    return !seen.has(key) && seen.add(key) !== undefined;
  });
}

function valueAt(value: unknown, path: readonly (string | number)[]): unknown {
  let at: unknown = value;
  for (const step of path) {
    if (typeof at !== "object" || at === null) return undefined;
    at = (at as Record<string | number, unknown>)[step];
  }
  return at;
}

/** A value as it is quoted in messages, cut short. */
export function describe(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (typeof value === "number") return String(value);
  const shown = JSON.stringify(value) ?? String(value);
  return shown.length > 80 ? `${shown.slice(0, 77)}...` : shown;
}

/** Names that the object schema at a path knows; follows optional wrappers, records, arrays and unions. */
function keysAt(schema: z.ZodType, path: readonly (string | number)[]): string[] {
  let level: z.core.$ZodType[] = [schema];
  for (const step of path) level = level.flatMap((node) => unwrap(node)).flatMap((node) => child(node, step));
  return level.flatMap((node) => unwrap(node)).flatMap((node) => Object.keys(shapeOf(node) ?? {}));
}

function shapeOf(node: z.core.$ZodType): Readonly<Record<string, z.core.$ZodType>> | undefined {
  const def = node._zod.def as z.core.$ZodObjectDef;
  return def.type === "object" ? def.shape : undefined;
}

function unwrap(node: z.core.$ZodType): z.core.$ZodType[] {
  const def = node._zod.def as z.core.$ZodTypeDef & {
    innerType?: z.core.$ZodType;
    options?: readonly z.core.$ZodType[];
  };
  if (def.innerType !== undefined) return unwrap(def.innerType);
  if (def.type === "union" && def.options !== undefined) return def.options.flatMap((option) => unwrap(option));
  return [node];
}

function child(node: z.core.$ZodType, step: string | number): z.core.$ZodType[] {
  const def = node._zod.def as z.core.$ZodTypeDef & { valueType?: z.core.$ZodType; element?: z.core.$ZodType };
  const next = shapeOf(node)?.[step] ?? def.valueType ?? def.element;
  return next === undefined ? [] : [next];
}
