import path from "node:path";
import type { ConfigProblem } from "../config/problems.ts";
import { readYaml } from "../config/yaml-file.ts";
import type { Datatype } from "../engine/tensors.ts";
import { realPathInside } from "./contained-path.ts";
import { readTritonConfig, TRITON_CONFIG_FILE } from "./triton-config.ts";
import { MODEL_FILE } from "./version-files.ts";
import { MODEL_CONFIG_SCHEMA, type WrittenModelConfig } from "./written-config.ts";

/** What the files in a model's folder say about it. */
export interface ModelConfig {
  readonly written: WrittenModelConfig;
  /** Datatypes that a file states and the ONNX file must have, by tensor name. */
  readonly datatypes: Readonly<Record<string, Datatype>>;
  /** Name of the ONNX file in each version's folder. */
  readonly modelFile: string;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
  /** Points at a setting in the file it came from. */
  problemAt(path: readonly (string | number)[], message: string): ConfigProblem;
}

export const CONFIG_FILE = "config.yaml";
/** Names that were probably meant to be the one above. */
const MISNAMED = ["config.yml", "config.json", "slackline.yaml"];

/** The files that configuration is read from. */
export const CONFIG_FILES: readonly string[] = [CONFIG_FILE, TRITON_CONFIG_FILE];

/**
 * Reads a model's configuration; a model without one has no settings and no problems. Where there is a `config.pbtxt` as
 * well, `config.yaml` goes before it, setting by setting.
 *
 * @param name the model's, for messages
 * @param root real path of the model's folder
 * @param entries names of the files in it
 */
export async function readModelConfig(name: string, root: string, entries: readonly string[]): Promise<ModelConfig> {
  const problems: ConfigProblem[] = [];
  const warnings: string[] = [];
  const readable = async (file: string): Promise<boolean> => {
    if (!entries.includes(file)) return false;
    try {
      await realPathInside(root, path.join(root, file), file);
      return true;
    } catch (error) {
      problems.push({
        source: `${name}/${file}`,
        line: null,
        column: null,
        path: "",
        message: (error as Error).message,
      });
      return false;
    }
  };
  const yaml = (await readable(CONFIG_FILE))
    ? readYaml(path.join(root, CONFIG_FILE), `${name}/${CONFIG_FILE}`, MODEL_CONFIG_SCHEMA)
    : null;
  const triton = (await readable(TRITON_CONFIG_FILE))
    ? readTritonConfig(path.join(root, TRITON_CONFIG_FILE), name)
    : null;
  if (yaml === null) {
    for (const misnamed of MISNAMED.filter((other) => entries.includes(other))) {
      warnings.push(`${name}/${misnamed} is not read; settings stand in ${CONFIG_FILE}`);
    }
  }
  const own = yaml?.value ?? {};
  return {
    written: merged(triton?.written ?? {}, own),
    datatypes: triton?.datatypes ?? {},
    modelFile: triton?.modelFile ?? MODEL_FILE,
    problems: [...problems, ...(yaml?.problems ?? []), ...(triton?.problems ?? [])],
    warnings: [...warnings, ...(triton?.warnings ?? [])],
    problemAt: (at, message) => {
      const isOwn = Object.hasOwn(own, at[0] ?? "") || triton === null;
      if (yaml !== null && isOwn) return yaml.problemAt(at, message);
      if (triton !== null) return triton.problemAt(at, message);
      return { source: `${name}/${CONFIG_FILE}`, line: null, column: null, path: at.join("."), message };
    },
  };
}

/** What Triton's file says of a setting says nothing any more where `config.yaml` has another of what it hangs on. */
function merged(triton: WrittenModelConfig, own: WrittenModelConfig): WrittenModelConfig {
  const isDenied = own.batched === false && triton.batched === true;
  const isAsserted = own.batched === true && triton.batched === false;
  const gone: Readonly<Record<string, boolean>> = {
    max_batch_size: own.batched === false || own.buckets !== undefined,
    buckets: own.batched === false || own.max_batch_size !== undefined,
    replicas: own.device === "gpu",
    warm_shapes: own.sequence !== undefined || isDenied || isAsserted,
  };
  const kept = Object.fromEntries(Object.entries(triton).filter(([key]) => gone[key] !== true));
  // There, shapes are of items where the model has a batch dimension, and in full where it has none.
  const turned = Object.entries(triton.shapes ?? {}).map(([name, dims]) => {
    return [name, isDenied ? [-1, ...dims] : isAsserted ? dims.slice(1) : dims];
  });
  const shapes = { ...Object.fromEntries(turned), ...own.shapes };
  return { ...kept, ...own, ...(Object.keys(shapes).length === 0 ? {} : { shapes }) };
}
