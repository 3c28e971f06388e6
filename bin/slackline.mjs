#!/usr/bin/env node
// Committed rather than built: npm links no bin that does not exist yet when it installs.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const COMMANDS = {
  serve: { entry: "daemon/main.js", what: "serve a model repository" },
  check: { entry: "daemon/check.js", what: "load a model repository and say what can be served, without serving it" },
  bench: { entry: "bench/load/main.js", what: "open-loop load test of a running daemon" },
  plan: {
    entry: "bench/plan/main.js",
    what: "whether models fit on a device, what breaks first, what adding one does",
  },
  sim: { entry: "bench/sim/main.js", what: "simulate a scenario, or check a decision log" },
  // The client's own command: where the daemon need not be, it is there without slackline.
  predict: {
    entry: "slackline-client",
    command: ["predict"],
    what: "run a model over a file, in time that no deadline needs",
  },
};

const [name, ...args] = process.argv.slice(2);
if (name === "--version" || name === "-v" || name === "version") {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  process.stdout.write(`slackline ${version}\n`);
  process.exit(0);
}
const command = Object.hasOwn(COMMANDS, name ?? "") ? COMMANDS[name] : undefined;
if (command === undefined) {
  const asked = name === undefined || name === "--help" || name === "-h" || name === "help";
  const lines = Object.entries(COMMANDS).map(([key, { what }]) => `  slackline ${key.padEnd(7)} ${what}`);
  const text = `usage: slackline COMMAND [options]\n\n${lines.join("\n")}\n\nslackline COMMAND --help shows the command's options; slackline --version the version.\n`;
  if (asked) process.stdout.write(text);
  else process.stderr.write(`slackline: unknown command '${name}'\n${text}`);
  process.exit(asked ? 0 : 2);
}
const entry =
  command.entry === "slackline-client"
    ? new URL("bin/slackline-client.mjs", import.meta.resolve("slackline-client/package.json"))
    : new URL(`../dist/${command.entry}`, import.meta.url);
if (!existsSync(entry)) {
  process.stderr.write("slackline is not built yet: run `npm run build` first\n");
  process.exit(1);
}
process.argv = [process.argv[0], fileURLToPath(entry), ...(command.command ?? []), ...args];
await import(entry);
