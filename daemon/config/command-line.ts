import { parseArgs } from "node:util";
import { nameHint } from "./nearest-name.ts";
import type { ConfigProblem } from "./problems.ts";
import { flagName, SETTING_NAMES, SETTINGS, type SettingName, type WrittenSettings } from "./settings-table.ts";
import { missingValue, readTextSettings, type TextSetting } from "./text-values.ts";

const SOURCE = "command line";

export type CommandLine =
  | { readonly type: "help" }
  | { readonly type: "version" }
  | {
      readonly type: "serve";
      readonly written: WrittenSettings;
      /** `--config FILE`, as written; null where it was not given. */
      readonly configFile: string | null;
      readonly problems: readonly ConfigProblem[];
    };

/** Reads the flags of `slackline serve` and `slackline check` (without the program's and the command's names). Never throws. */
export function parseCommandLine(argv: readonly string[]): CommandLine {
  const byFlag = new Map<string, SettingName>(SETTING_NAMES.map((name) => [flagName(name), name]));
  const isBoolean = (flag: string): boolean => {
    const name = byFlag.get(flag);
    return flag === "help" || flag === "version" || (name !== undefined && SETTINGS[name].reads === "boolean");
  };
  const flags = [...byFlag.keys(), "config", "help", "version"];
  const { tokens } = parseArgs({
    args: [...argv],
    options: {
      ...Object.fromEntries(flags.map((flag) => [flag, { type: isBoolean(flag) ? "boolean" : "string" }] as const)),
      help: { type: "boolean", short: "h" },
    },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });

  const texts: TextSetting[] = [];
  const problems: ConfigProblem[] = [];
  const problem = (path: string, message: string): void => {
    problems.push({ source: SOURCE, line: null, column: null, path, message });
  };
  let configFile: string | null = null;
  let afterUnknown = false;
  for (const token of tokens) {
    if (token.kind === "positional") {
      // What follows an unknown flag is most likely its value: one problem is enough for both.
      if (!afterUnknown) problem("", `unexpected argument '${token.value}'; settings are given as --name value`);
      afterUnknown = false;
      continue;
    }
    afterUnknown = false;
    if (token.kind === "option-terminator") continue;
    const { name: flag, value } = token;
    const label = `--${flag}`;
    const negated = flag.startsWith("no-") && isBoolean(flag.slice(3)) ? byFlag.get(flag.slice(3)) : undefined;
    const name = byFlag.get(flag);
    if (flag === "help") return { type: "help" };
    if (flag === "version") return { type: "version" };
    if (negated !== undefined && value === undefined) texts.push({ name: negated, text: "false", label });
    else if (name === undefined && flag !== "config") {
      problem(token.rawName, `unknown flag; ${nameHint(flag, flags)}`);
      afterUnknown = value === undefined;
    } else if (name !== undefined && isBoolean(flag)) texts.push({ name, text: value ?? "true", label });
    else if (value === undefined || value === "" || (token.inlineValue === false && /^--?[a-z]/i.test(value))) {
      const placeholder = name === undefined ? "FILE" : SETTINGS[name].value;
      problems.push(missingValue(label, placeholder, SOURCE, value === "" ? undefined : value));
    } else if (name === undefined) configFile = value;
    else texts.push({ name, text: value, label });
  }
  const read = readTextSettings(texts, SOURCE);
  return { type: "serve", written: read.written, configFile, problems: [...problems, ...read.problems] };
}

/** The text of `slackline serve --help`. */
export function serveHelp(): string {
  return helpOf("serve", ["Serves a repository of ONNX models over gRPC (Open Inference Protocol)."]);
}

/** The text of `slackline check --help`. */
export function checkHelp(): string {
  return helpOf("check", [
    "Starts as `slackline serve` with the same settings would, loads and measures every model, says which can be served and",
    "which can't, and ends: 0 where all can, 1 where not, 2 for wrong settings. It listens on free ports of its own, so that it may run",
    "beside a daemon; what it measured is kept in the profile cache, so that a daemon on the same machine starts faster.",
  ]);
}

function helpOf(command: string, what: readonly string[]): string {
  const rows: [string, string][] = [
    ["--config FILE", "settings file (default: slackline.yaml, where there is one)"],
    ...SETTING_NAMES.map((name): [string, string] => [
      `--${flagName(name)} ${SETTINGS[name].value}`.trim(),
      `${SETTINGS[name].what} (default: ${SETTINGS[name].byDefault})`,
    ]),
    ["--version", "print the version"],
    ["-h, --help", "print this text"],
  ];
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return [
    `usage: slackline ${command} [options]`,
    "",
    ...what,
    "",
    ...rows.map(([flag, what]) => `  ${flag.padEnd(width)}  ${what}`),
    "",
    "Each setting can also stand in slackline.yaml (grpc_port: 8001) or in the environment (SLACKLINE_GRPC_PORT=8001);",
    "flags go before the environment, the environment before the file. Switches take --name, --no-name or --name=false.",
    "",
  ].join("\n");
}
