/** Reading fields of protobuf's text format by their names, with problems and warnings that name field and line. */
import { nearestName } from "../config/nearest-name.ts";
import type { ConfigProblem } from "../config/problems.ts";
import type { TextField, TextValue } from "./text-proto.ts";

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** What to do with a field of each known name; `path` is the field's, dotted. */
export type Handlers = Readonly<Record<string, (field: TextField, path: string) => void>>;

/** For fields that have a place in the format, but change nothing. */
export function ignored(): void {}

export class FieldReader {
  readonly source: string;
  readonly problems: ConfigProblem[] = [];
  readonly warnings: string[] = [];

  /** @param source name of the file in messages */
  constructor(source: string) {
    this.source = source;
  }

  problem(at: Position | null, path: string, message: string): void {
    this.problems.push(this.problemOf(at, path, message));
  }

  problemOf(at: Position | null, path: string, message: string): ConfigProblem {
    return { source: this.source, line: at?.line ?? null, column: at?.column ?? null, path, message };
  }

  /** Warns of a field that asks for something which does not exist here; once for all values of a list. */
  meaningless(at: Position, path: string, why: string): void {
    const text = `${this.source}:${at.line}: ${path} has no meaning here: ${why}`;
    if (!this.warnings.includes(text)) this.warnings.push(text);
  }

  each(fields: readonly TextField[], path: string, handlers: Handlers): void {
    for (const field of fields) {
      const where = path === "" ? field.name : `${path}.${field.name}`;
      const handler = Object.hasOwn(handlers, field.name) ? handlers[field.name] : undefined;
      if (handler !== undefined) handler(field, where);
      else {
        // Not a problem: Triton's own format grows with its versions.
        const near = nearestName(field.name, Object.keys(handlers));
        const hint = near === null ? "" : `; did you mean '${near}'?`;
        this.warnings.push(`${this.source}:${field.line}: ${where} is not known and ignored${hint}`);
      }
    }
  }

  message(field: TextField, path: string): readonly TextField[] {
    if (field.value.kind === "message") return field.value.fields;
    this.problem(field, path, `got ${shown(field.value)}; expected { ... }`);
    return [];
  }

  text(field: TextField, path: string): string | null {
    if (field.value.kind === "string") return field.value.text;
    this.problem(field, path, `got ${shown(field.value)}; expected text in quotes`);
    return null;
  }

  integer(field: TextField, path: string, min: number, max: number): number | null {
    const { value } = field;
    if (value.kind === "number" && Number.isInteger(value.value) && value.value >= min && value.value <= max) {
      return value.value;
    }
    const range = max === Number.MAX_SAFE_INTEGER ? `an integer, at least ${min}` : `an integer from ${min} to ${max}`;
    this.problem(field, path, `got ${shown(value)}; expected ${range}`);
    return null;
  }

  dimension(field: TextField, path: string): number | null {
    const { value } = field;
    if (value.kind === "number" && Number.isInteger(value.value) && (value.value === -1 || value.value >= 1)) {
      return value.value;
    }
    this.problem(field, path, `got ${shown(value)}; expected a size of at least 1, or -1 where it varies`);
    return null;
  }

  only(field: TextField, path: string, allowed: readonly string[]): void {
    const stated = this.text(field, path);
    if (stated !== null && !allowed.includes(stated)) {
      this.problem(field, path, `is '${stated}'; only ONNX models can be served (${path}: "${allowed[0]}")`);
    }
  }

  isTrue(field: TextField): boolean {
    const { value } = field;
    return value.kind === "number" ? value.value === 1 : value.kind === "word" && /^(true|True|t)$/.test(value.text);
  }

  isZero(field: TextField): boolean {
    return field.value.kind === "number" && field.value.value === 0;
  }
}

/** A value as it is quoted in messages. */
export function shown(value: TextValue): string {
  switch (value.kind) {
    case "message":
      return "{ ... }";
    case "string":
      return JSON.stringify(value.text);
    case "number":
      return String(value.value);
    case "word":
      return value.text;
  }
}
