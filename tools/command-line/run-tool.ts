/** How the command-line tools around the daemon begin and end. */
import { type ParseArgsConfig, parseArgs } from "node:util";

type Options = NonNullable<ParseArgsConfig["options"]>;

export interface Tool<O extends Options> {
  /** How its messages name it: "bench:gpu". */
  readonly name: string;
  readonly usage: string;
  /** Its flags, without `--help`. */
  readonly options: O;
  readonly allowPositionals?: boolean;
  /** Beside ToolError and errors of files: other people's errors whose message says it all. */
  readonly expected?: readonly (new (
    ...args: never[]
  ) => Error)[];
}

type Parsed<O extends Options> = ReturnType<typeof parseArgs<{ options: O; allowPositionals: true }>>;

export interface ToolArguments<O extends Options> {
  readonly values: Parsed<O>["values"];
  readonly positionals: readonly string[];
  /** As they were written, for results that say how they were made. */
  readonly args: readonly string[];
}

/** What the world, and not the program, is to blame for: the message says it all, a stack would say nothing more. */
export class ToolError extends Error {}

/** A command line that can't be understood. */
export class UsageError extends ToolError {}

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
export const EXIT_INTERRUPTED = 130;

/**
 * Runs a tool with this process's arguments. Its exit code is what `main` gives, 1 after an expected error or one of the
 * file system, 2 for a wrong command line.
 */
export async function runTool<const O extends Options>(
  { name, usage, options, allowPositionals = false, expected = [] }: Tool<O>,
  main: (given: ToolArguments<O>) => Promise<number> | number,
): Promise<void> {
  const args = process.argv.slice(2);
  try {
    const config = {
      args,
      allowPositionals: true,
      options: { ...options, help: { type: "boolean", short: "h" } },
    } as const;
    const { values, positionals } = parsed(config);
    if ((values as { help?: boolean }).help === true) {
      process.stdout.write(usage);
      return;
    }
    if (!allowPositionals && positionals.length > 0) throw new UsageError(`what is '${positionals[0]}'?`);
    process.exitCode = await main({ values, positionals, args } as ToolArguments<O>);
  } catch (error) {
    if (!isOfFiles(error) && ![ToolError, ...expected].some((known) => error instanceof known)) throw error;
    const wrong = error instanceof UsageError;
    process.stderr.write(`${name}: ${(error as Error).message}\n${wrong ? `\n${usage}` : ""}`);
    // What is still open must not keep it.
    process.exit(wrong ? EXIT_USAGE : EXIT_FAILED);
  }
}

function parsed<const T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function isOfFiles(error: unknown): boolean {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code !== undefined && syscall !== undefined;
}

export interface NumberKind {
  readonly ok: (value: number) => boolean;
  readonly expected: string;
}

export const POSITIVE: NumberKind = { ok: (value) => value > 0, expected: "a number above 0" };
export const SECONDS: NumberKind = { ok: (value) => value > 0, expected: "a number of seconds above 0" };
export const SEED: NumberKind = {
  ok: (value) => Number.isSafeInteger(value) && value >= 0,
  expected: "a whole number of at least 0",
};
export const COUNT: NumberKind = {
  ok: (value) => Number.isSafeInteger(value) && value >= 1,
  expected: "a whole number of at least 1",
};

/** @throws {UsageError} */
export function numberOf(flag: string, text: string, kind: NumberKind): number;
export function numberOf(flag: string, text: string | undefined, kind: NumberKind): number | undefined;
export function numberOf(flag: string, text: string | undefined, { ok, expected }: NumberKind): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || !ok(value)) {
    throw new UsageError(`${flag} takes ${expected}, not '${text}'`);
  }
  return value;
}

/** Several, separated by commas; throws UsageError. */
export function numbersOf(flag: string, text: string, kind: NumberKind): number[] {
  return text.split(",").map((part) => numberOf(flag, part, kind));
}

/** Some of the names that there are, separated by commas; all of them where none is asked for. Throws UsageError. */
export function someOf<T extends string>(flag: string, text: string | undefined, all: readonly T[]): readonly T[] {
  if (text === undefined) return all;
  const asked = text.split(",");
  const unknown = asked.filter((name) => !all.includes(name as T));
  if (unknown.length > 0)
    throw new UsageError(`${flag} takes some of ${all.join(", ")}; not '${unknown.join("', '")}'`);
  return all.filter((name) => asked.includes(name));
}

/** @throws {UsageError} */
export function hostPort(flag: string, text: string): string {
  if (!/^(\[[^\]]+\]|[^\s:]+):\d{1,5}$/.test(text)) throw new UsageError(`${flag} takes HOST:PORT, not '${text}'`);
  return text;
}
