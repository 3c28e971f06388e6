/** The README's configuration reference, as Markdown tables. */
import { MODEL_CONFIG_REFERENCE } from "../repository/config-reference.ts";
import { SETTING_NAMES, SETTINGS } from "./settings-table.ts";

/** Settings of `slackline.yaml`, one row each. */
export function daemonSettingsReference(): string {
  return table(
    ["Setting", "Default", "What it does"],
    SETTING_NAMES.map((name) => [`\`${name}\``, SETTINGS[name].byDefault, SETTINGS[name].what]),
  );
}

/** Settings of a model's `config.yaml`, one row each. */
export function modelConfigReference(): string {
  return table(
    ["Setting", "Values", "Default", "What it does"],
    Object.entries(MODEL_CONFIG_REFERENCE).map(([name, { value, byDefault, what }]) => [
      `\`${name}\``,
      value,
      byDefault,
      what,
    ]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line), ""].join("\n");
}
