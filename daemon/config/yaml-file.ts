import { readFileSync } from "node:fs";
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Pair, parseDocument } from "yaml";
import type { z } from "zod";
import type { ConfigProblem } from "./problems.ts";
import { describe, type SchemaProblem, validate } from "./validate.ts";

/** Far above any real configuration; keeps a mistaken path to something huge from being parsed. */
const FILE_BYTES_MAX = 1024 * 1024;

export interface YamlFile<T> {
  /** Null where there are problems. */
  readonly value: T | null;
  readonly problems: readonly ConfigProblem[];
  /** Points at a setting, for problems that are found later by comparing settings. */
  problemAt(path: readonly (string | number)[], message: string): ConfigProblem;
}

/** Parses and validates YAML text; an empty document counts as a mapping without keys. `source` is the file's name in messages. */
export function parseYaml<T>(text: string, source: string, schema: z.ZodType<T>): YamlFile<T> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: "silent" });

  const problem = (offset: number | null, path: string, message: string): ConfigProblem => {
    const position = offset === null ? null : lines.linePos(offset);
    return { source, line: position?.line ?? null, column: position?.col ?? null, path, message };
  };
  const problemAt = (path: readonly (string | number)[], message: string, isKey = false): ConfigProblem =>
    problem(offsetOf(document, path, isKey), dotted(path), message);

  const problems = [...document.errors, ...document.warnings].map((error) =>
    problem(error.pos[0], "", error.code === "DUPLICATE_KEY" ? "this key is given twice" : plain(error.message)),
  );
  const onlyRepeats = document.errors.every((error) => error.code === "DUPLICATE_KEY");
  if (!onlyRepeats) return { value: null, problems, problemAt };

  let value: unknown;
  try {
    value = document.toJS() ?? {};
  } catch (error) {
    problems.push(problem(null, "", plain((error as Error).message)));
    return { value: null, problems, problemAt };
  }
  if (typeof value !== "object" || Array.isArray(value)) {
    problems.push(problem(0, "", `got ${describe(value)}; expected settings as \`name: value\` lines`));
    return { value: null, problems, problemAt };
  }
  const checked = validate(schema, value);
  if (!checked.ok) problems.push(...checked.problems.map((p: SchemaProblem) => problemAt(p.path, p.message, p.isKey)));
  problems.sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
  return { value: checked.ok && problems.length === 0 ? checked.value : null, problems, problemAt };
}

/** Reads, parses and validates a file; a file that can't be read is a problem like any other. */
export function readYaml<T>(file: string, source: string, schema: z.ZodType<T>): YamlFile<T> {
  try {
    const bytes = readFileSync(file);
    if (bytes.length > FILE_BYTES_MAX) throw new Error(`it is larger than ${FILE_BYTES_MAX} bytes`);
    return parseYaml(bytes.toString("utf8"), source, schema);
  } catch (error) {
    const problemAt = (path: readonly (string | number)[], message: string): ConfigProblem => ({
      source,
      line: null,
      column: null,
      path: dotted(path),
      message,
    });
    return { value: null, problems: [problemAt([], `can't be read: ${fileErrorText(error)}`)], problemAt };
  }
}

/** The operating system's codes that people meet, in words. Without the path, which callers may not be told. */
export function fileErrorText(error: unknown): string {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case "ENOENT":
      return "it does not exist";
    case "EACCES":
    case "EPERM":
      return "permission denied";
    case "EISDIR":
      return "it is a folder, not a file";
    case "ENOTDIR":
      return "it is a file, not a folder";
    case "ELOOP":
      return "its symbolic links go round in a circle";
    case undefined:
      return message;
    default:
      // As Node writes them: `EMFILE: too many open files, open '/path'`.
      return message.startsWith(`${code}: `) ? message.split(`, ${syscall}`)[0]! : code;
  }
}

function dotted(path: readonly (string | number)[]): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    return text === "" ? step : `${text}.${step}`;
  }, "");
}

function plain(message: string): string {
  return message.replace(/; please use .*$/, "").replaceAll("\n", " ");
}

/** Where a setting stands in the text; the nearest enclosing one where it is absent. */
function offsetOf(document: Document, path: readonly (string | number)[], isKey: boolean): number | null {
  if (isKey) {
    const key = pairOf(nodeAt(document, path.slice(0, -1)), path.at(-1)!)?.key;
    if (isNode(key) && key.range) return key.range[0];
  }
  for (let length = path.length; length > 0; length--) {
    const node = nodeAt(document, path.slice(0, length));
    if (isNode(node) && node.range) return node.range[0];
  }
  return isNode(document.contents) ? (document.contents.range?.[0] ?? null) : null;
}

/** By path as values have it: there a key that is a number is text. */
function nodeAt(document: Document, path: readonly (string | number)[]): unknown {
  let node: unknown = document.contents;
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document);
    node = isSeq(node) ? node.items[Number(step)] : pairOf(node, step)?.value;
  }
  return node;
}

function pairOf(node: unknown, key: string | number): Pair | undefined {
  return isMap(node)
    ? node.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === String(key))
    : undefined;
}
