import { spawn } from "node:child_process";

export interface CommandResult {
  /** Exit code; null where it was ended by a signal or could not be started. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Whether it was ended because it took too long. */
  readonly timedOut: boolean;
}

export interface CommandOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Milliseconds after which it is ended. */
  readonly timeoutMs?: number;
}

/** Runs a command to its end, whatever that is: a command that can't be started has no code and its reason as `stderr`. */
export function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { env, cwd, timeoutMs = 300_000 } = options;
  return new Promise((resolve) => {
    let stdout = "";
    let stderr = "";
    let timedOut = false;
    const child = spawn(file, args, {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      ...(cwd === undefined ? {} : { cwd }),
    });
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    const end = (code: number | null, reason: string): void => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr: stderr + reason, timedOut });
    };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.once("error", (error) => end(null, error.message));
    child.once("close", (code) => end(code, ""));
  });
}

/** The last lines of what a command said, for a report. */
export function lastLines({ stdout, stderr, timedOut }: CommandResult, count: number): string {
  const lines = `${stdout}\n${stderr}`.split("\n").filter((line) => line.trim() !== "");
  return [...lines.slice(-count), ...(timedOut ? ["(it took too long and was ended)"] : [])].join("\n");
}
