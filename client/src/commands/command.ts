/** What the package's commands have in common. */
import { credentials } from "@grpc/grpc-js";
import { SlacklineClient } from "../client.ts";
import type { SlacklineClientOptions } from "../options.ts";

export interface Command {
  readonly usage: string;
  /** Resolves with the exit code; throws UsageError, SlacklineError or an error of the file system. */
  readonly run: (argv: readonly string[]) => Promise<number>;
}

/** A command line that can't be followed; its message says why. */
export class UsageError extends Error {}

/** What `parse` gives; throws its complaint as a UsageError. */
export function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** The number > 0 that a flag states; throws UsageError. */
export function positiveFlag(flag: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new UsageError(`--${flag} must be a number > 0, got '${text}'`);
  return value;
}

/** The whole number >= 1 that a flag states, null where it is absent; throws UsageError. */
export function countFlag(flag: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new UsageError(`--${flag} must be a whole number >= 1, got '${text}'`);
  }
  return value;
}

/** The names in a comma-separated flag, each once, null where it is absent. */
export function namesFlag(text: string | undefined): readonly string[] | null {
  return text === undefined ? null : [...new Set(text.split(",").filter((name) => name !== ""))];
}

export function connect(target: string, tls: boolean, options: SlacklineClientOptions = {}): SlacklineClient {
  return new SlacklineClient({ target, ...(tls ? { credentials: credentials.createSsl() } : {}), ...options });
}
