/** What a tool leaves behind however it ends: nothing. */
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { EXIT_INTERRUPTED } from "./run-tool.ts";

/**
 * Signals end the process by `exit`, so that what is hooked to that happens: by default they would not.
 *
 * @param first done before
 */
export function exitOnSignals(first: () => void = () => {}): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      first();
      process.exit(EXIT_INTERRUPTED);
    });
  }
}

/** A folder of its own, gone when the process exits; its path. */
export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), `slackline-${name}-`));
  // Children that are killed on exit may still be writing.
  process.once("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}

/** The child must not outlive this process. */
export function killOnExit(child: ChildProcess): void {
  const kill = (): void => void child.kill("SIGKILL");
  process.prependOnceListener("exit", kill);
  child.once("close", () => process.removeListener("exit", kill));
}
