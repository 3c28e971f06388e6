import { nearestName } from "./nearest-name.ts";
import type { ConfigProblem } from "./problems.ts";
import { environmentName, SETTING_NAMES, type WrittenSettings } from "./settings-table.ts";
import { readTextSettings, type TextSetting } from "./text-values.ts";

const PREFIX = "SLACKLINE_";

/** The variable that names the settings file. */
export const CONFIG_VARIABLE = "SLACKLINE_CONFIG";

export interface EnvironmentSettings {
  readonly written: WrittenSettings;
  readonly configFile: string | null;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
}

/** Variables that cluster managers inject for a service that is called slackline, such as `SLACKLINE_SERVICE_HOST`. */
const INJECTED = /^SLACKLINE_(.*_)?(SERVICE|PORT)(_|$)/;
/** Variables of the project's own tests (`SLACKLINE_TEST_DEVICE`). */
const OF_TESTS = /^SLACKLINE_TEST_/;

/**
 * Reads `SLACKLINE_…` variables. Unknown ones are warnings, not problems: an environment is shared, also with what cluster
 * managers inject (`SLACKLINE_GRPC_PORT=tcp://10.0.0.1:8001`). An empty variable counts as absent.
 */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): EnvironmentSettings {
  const names = new Map(SETTING_NAMES.map((name) => [environmentName(name), name]));
  const texts: TextSetting[] = [];
  const warnings: string[] = [];
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith(PREFIX) || variable === CONFIG_VARIABLE || text === undefined || text === "") continue;
    const name = names.get(variable);
    if (name !== undefined && /^(tcp|udp|sctp):\/\//.test(text)) {
      warnings.push(`${variable} is ignored: '${text}' looks like a service address injected by a cluster manager`);
    } else if (name !== undefined) texts.push({ name, text, label: variable });
    else if (!INJECTED.test(variable) && !OF_TESTS.test(variable)) {
      warnings.push(`${variable} is not a setting and has no effect; ${hint(variable)}`);
    }
  }
  const { written, problems } = readTextSettings(texts, "environment");
  return { written, configFile: env[CONFIG_VARIABLE] || null, problems, warnings };
}

/** By what stands after the prefix, which all of them share. */
function hint(variable: string): string {
  const known = [...SETTING_NAMES.map(environmentName), CONFIG_VARIABLE].map((name) => name.slice(PREFIX.length));
  const nearest = nearestName(variable.slice(PREFIX.length), known);
  return nearest === null ? "slackline serve --help lists them" : `did you mean ${PREFIX}${nearest}?`;
}
