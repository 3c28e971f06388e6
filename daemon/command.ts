/** What the daemon's commands have in common: how they read their settings, and how they end. */
import { type DaemonSettings, loadSettings } from "./config/daemon-settings.ts";
import { ConfigError } from "./config/problems.ts";
import { VERSION } from "./daemon.ts";

export const EXIT_FAILED = 1;
const EXIT_BAD_SETTINGS = 2;

/** The settings of this process; null where there is nothing to run, and all was said: help, the version, or what is wrong. */
export function readSettings(help: () => string): DaemonSettings | null {
  try {
    const loaded = loadSettings({ argv: process.argv.slice(2) });
    if (loaded.type === "serve") return loaded.settings;
    process.stdout.write(loaded.type === "help" ? help() : `slackline ${VERSION}\n`);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`slackline: ${error.message}\n`);
    process.exitCode = EXIT_BAD_SETTINGS;
  }
  return null;
}
