import { lstat } from "node:fs/promises";
import path from "node:path";
import type { ConfigProblem } from "../config/problems.ts";
import { readYaml } from "../config/yaml-file.ts";
import { realPathInside } from "./contained-path.ts";
import { MODEL_CONFIG_SCHEMA, type WrittenModelConfig } from "./written-config.ts";

/** What the files in a model's folder say about it. */
export interface ModelConfig {
  readonly written: WrittenModelConfig;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
  /** Points at a setting in the file it came from. */
  problemAt(path: readonly (string | number)[], message: string): ConfigProblem;
}

export const CONFIG_FILE = "config.yaml";
/** Names that were probably meant to be the one above. */
const MISNAMED = ["config.yml", "config.json", "slackline.yaml"];

/**
 * Reads a model's configuration; a model without one has no settings and no problems.
 *
 * @param name the model's, for messages
 * @param root real path of the model's folder
 * @param entries names of the files in it
 */
export async function readModelConfig(name: string, root: string, entries: readonly string[]): Promise<ModelConfig> {
  const source = `${name}/${CONFIG_FILE}`;
  const bare = (at: readonly (string | number)[], message: string): ConfigProblem => ({
    source,
    line: null,
    column: null,
    path: at.join("."),
    message,
  });
  const warnings: string[] = [];
  if (!entries.includes(CONFIG_FILE)) {
    for (const misnamed of MISNAMED.filter((other) => entries.includes(other))) {
      warnings.push(`${name}/${misnamed} is not read; settings stand in ${CONFIG_FILE}`);
    }
    return { written: {}, problems: [], warnings, problemAt: bare };
  }
  const file = path.join(root, CONFIG_FILE);
  if ((await lstat(file)).isSymbolicLink()) {
    try {
      await realPathInside(root, file, CONFIG_FILE);
    } catch (error) {
      return { written: {}, problems: [bare([], (error as Error).message)], warnings, problemAt: bare };
    }
  }
  const yaml = readYaml(file, source, MODEL_CONFIG_SCHEMA);
  return { written: yaml.value ?? {}, problems: yaml.problems, warnings, problemAt: yaml.problemAt };
}
