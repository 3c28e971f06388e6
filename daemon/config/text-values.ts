import { parse } from "yaml";
import type { z } from "zod";
import type { ConfigProblem } from "./problems.ts";
import { SETTINGS, type SettingName, type WrittenSettings } from "./settings-table.ts";
import { describe, validate } from "./validate.ts";

/** A setting that came as text: from the environment or from a flag. */
export interface TextSetting {
  readonly name: SettingName;
  readonly text: string;
  /** The variable or the flag, as the user wrote it. */
  readonly label: string;
}

/** Reads texts as their settings' types and checks them; all problems at once. A later text replaces an earlier one. */
export function readTextSettings(
  texts: readonly TextSetting[],
  source: string,
): { readonly written: WrittenSettings; readonly problems: readonly ConfigProblem[] } {
  const written: Partial<Record<SettingName, unknown>> = {};
  const problems: ConfigProblem[] = [];
  for (const { name, text, label } of texts) {
    const checked = validate(SETTINGS[name].schema as z.ZodType<unknown>, readText(text, SETTINGS[name].reads));
    if (checked.ok) written[name] = checked.value;
    else {
      for (const { path, message } of checked.problems) {
        const within = path.length === 0 ? "" : ` (${path.join(".")})`;
        problems.push({ source, line: null, column: null, path: `${label}${within}`, message });
      }
    }
  }
  return { written: written as WrittenSettings, problems };
}

/** What can't be read as the type is left as text: the schema then says what it expected. */
function readText(text: string, reads: (typeof SETTINGS)[SettingName]["reads"]): unknown {
  const trimmed = text.trim();
  switch (reads) {
    case "text":
      return text;
    case "number":
      return trimmed !== "" && Number.isFinite(Number(trimmed)) ? Number(trimmed) : text;
    case "boolean":
      return (
        ({ true: true, "1": true, yes: true, on: true, false: false, "0": false, no: false, off: false } as const)[
          trimmed.toLowerCase() as "true"
        ] ?? text
      );
    case "list":
      return trimmed === "" ? [] : trimmed.split(",").map((part) => part.trim());
    case "mapping":
      try {
        return parse(text);
      } catch {
        return text;
      }
  }
}

export function missingValue(label: string, placeholder: string, source: string, found?: string): ConfigProblem {
  const got = found === undefined ? "got nothing" : `got ${describe(found)}, which is a flag`;
  return { source, line: null, column: null, path: label, message: `${got}; expected ${label} ${placeholder}` };
}
