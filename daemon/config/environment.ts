import { nearestName } from "./nearest-name.ts";
import type { ConfigProblem } from "./problems.ts";
import { environmentName, SETTING_NAMES, type WrittenSettings } from "./settings-table.ts";
import { readTextSettings, type TextSetting } from "./text-values.ts";

/** The variable that names the settings file. */
export const CONFIG_VARIABLE = "SLACKLINE_CONFIG";

export interface EnvironmentSettings {
  readonly written: WrittenSettings;
  readonly configFile: string | null;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
}

/**
 * Reads `SLACKLINE_…` variables. Unknown ones are warnings, not problems, and only where a known name is near: cluster
 * managers inject variables such as `SLACKLINE_SERVICE_HOST` and `SLACKLINE_GRPC_PORT=tcp://10.0.0.1:8001` for a service
 * that is called slackline. An empty variable counts as absent.
 */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): EnvironmentSettings {
  const names = new Map(SETTING_NAMES.map((name) => [environmentName(name), name]));
  const texts: TextSetting[] = [];
  const warnings: string[] = [];
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith("SLACKLINE_") || variable === CONFIG_VARIABLE || text === undefined || text === "")
      continue;
    const name = names.get(variable);
    if (name !== undefined && /^(tcp|udp|sctp):\/\//.test(text)) {
      warnings.push(`${variable} is ignored: '${text}' looks like a service address injected by a cluster manager`);
    } else if (name !== undefined) texts.push({ name, text, label: variable });
    else if (!/^SLACKLINE_(.*_)?(SERVICE|PORT)(_|$)/.test(variable)) {
      const nearest = nearestName(variable, [...names.keys(), CONFIG_VARIABLE]);
      if (nearest !== null) warnings.push(`${variable} is not a setting; did you mean ${nearest}?`);
    }
  }
  const { written, problems } = readTextSettings(texts, "environment");
  return { written, configFile: env[CONFIG_VARIABLE] || null, problems, warnings };
}
