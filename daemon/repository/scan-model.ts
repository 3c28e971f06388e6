/** Looks at one model's folder; unchanged files are not read again. */
import { readdir, realpath, stat } from "node:fs/promises";
import path from "node:path";
import { formatProblem } from "../config/problems.ts";
import { fileErrorText } from "../config/yaml-file.ts";
import { deriveVersion, type ModelDefaults } from "./derive-version.ts";
import { VersionError } from "./errors.ts";
import { type InspectedVersion, inspectVersion } from "./inspect-version.ts";
import { besideVersions, isMeantAsModel, noVersionReason } from "./misplaced.ts";
import type { ModelVersion } from "./model.ts";
import { CONFIG_FILES, type ModelConfig, readModelConfig } from "./model-config.ts";
import { fileSignature, folderSignature } from "./version-files.ts";
import type { VersionPolicy, WrittenModelConfig } from "./written-config.ts";

export type ScannedVersion =
  | {
      readonly version: number;
      readonly state: "sound";
      readonly model: ModelVersion;
      readonly warnings: readonly string[];
    }
  | { readonly version: number; readonly state: "broken"; readonly reason: string }
  /** Its files are new or changed, and may still be: looked at again by the next scan. */
  | { readonly version: number; readonly state: "settling" };

export interface ScannedModel {
  readonly name: string;
  /** Ascending by version. */
  readonly versions: readonly ScannedVersion[];
  readonly policy: VersionPolicy;
  /** Why the model as a whole can't be served; null where its versions decide. */
  readonly reason: string | null;
  /** Folder or configuration can't be read right now: what is served of the model says more than this scan. */
  readonly isUncertain: boolean;
  readonly warnings: readonly string[];
  /** For the next scan of the same model. */
  readonly memory: ModelMemory;
}

interface VersionMemory {
  /** Of the files when they were last seen. */
  readonly signature: string;
  /** What reading them gave; null while they settle. */
  readonly files: InspectedVersion | VersionError | null;
  readonly outcome: ScannedVersion;
}

interface SettledConfig {
  readonly signature: string;
  readonly config: ModelConfig;
}

export interface ModelMemory {
  /** Of the configuration's files when they were last seen. */
  readonly configSignature: string;
  /** What they said when they last held still; null where they have not yet. */
  readonly settled: SettledConfig | null;
  /** Why it has no version; null where it has, or where that was not looked at. */
  readonly noVersion: string | null;
  /** What is to be said of ONNX files beside its versions. */
  readonly beside: readonly string[];
  readonly versions: ReadonlyMap<number, VersionMemory>;
}

export interface ScanOptions {
  readonly defaults: ModelDefaults;
  /** Whether files that are new or changed must look the same in two scans before they are read. */
  readonly settle: boolean;
}

/** As Triton's users know it: the newest. */
const POLICY_DEFAULT: VersionPolicy = { latest: 1 };

/** Whether a folder's entry is a version: a positive integer written without zeros in front. */
export function versionNumber(entry: string): number | null {
  return /^[1-9]\d{0,15}$/.test(entry) && Number.isSafeInteger(Number(entry)) ? Number(entry) : null;
}

/**
 * @param dir the model's folder, in the repository
 * @returns null where the folder is no model: it has neither a version nor a configuration, nor is it meant to be one
 */
export async function scanModel(
  dir: string,
  before: ModelMemory | null,
  options: ScanOptions,
): Promise<ScannedModel | null> {
  const name = path.basename(dir);
  const none = { name, versions: [], policy: POLICY_DEFAULT, warnings: [] };
  const nothing = { configSignature: "", settled: null, noVersion: null, beside: [], versions: new Map() };
  const memory: ModelMemory = before ?? nothing;
  let root: string;
  let entries: string[];
  try {
    root = await realpath(dir);
    entries = await readdir(root);
  } catch (error) {
    return { ...none, memory, isUncertain: true, reason: `${name} can't be read: ${fileErrorText(error)}` };
  }
  const numbers = entries.map(versionNumber).filter((version) => version !== null);
  const versions: number[] = [];
  for (const version of numbers.sort((a, b) => a - b)) {
    const stats = await stat(path.join(root, String(version))).catch(() => null);
    if (stats === null || stats.isDirectory()) versions.push(version);
  }
  const configFiles = CONFIG_FILES.filter((file) => entries.includes(file));
  if (versions.length === 0 && configFiles.length === 0 && !(await isMeantAsModel(root, entries))) return null;

  const configSignature = await configSignatureOf(root, configFiles);
  const read = await readModelConfig(name, root, entries);
  // One that is being written can be valid, and say something else: what was settled before goes on for one more scan.
  const isChanging =
    options.settle &&
    (configSignature !== memory.configSignature || configSignature !== (await configSignatureOf(root, configFiles)));
  const settled = isChanging ? memory.settled : { signature: configSignature, config: read };
  const config = settled?.config ?? read;
  const scanned: ScannedVersion[] = [];
  const memories = new Map<number, VersionMemory>();
  for (const version of versions) {
    const folder = path.join(root, String(version));
    const known = before?.versions.get(version) ?? null;
    const sameConfig = settled !== null && memory.settled?.signature === settled.signature;
    const next = await scanVersion({ name, root, folder, version, config, isChanging, known, sameConfig, options });
    memories.set(version, next);
    scanned.push(next.outcome);
  }
  const others = entries.filter((entry) => versionNumber(entry) === null);
  const beside = versions.length === 0 ? [] : await besideVersions(name, root, others);
  const noVersion = versions.length > 0 ? null : await noVersionReason(name, root, entries, config.modelFile);
  // A folder that is being filled is nothing to complain about; nor is one beside that will be a version by another name.
  const isFilling = options.settle && noVersion !== before?.noVersion;
  const problems = settled?.config.problems ?? [];
  return {
    name,
    versions: scanned,
    policy: versionPolicy(settled?.config.written ?? {}),
    reason: problems.length > 0 ? problems.map(formatProblem).join("; ") : isFilling ? null : noVersion,
    isUncertain: problems.length > 0,
    warnings: [
      ...(settled?.config.warnings ?? []),
      ...(options.settle ? beside.filter((text) => before?.beside.includes(text)) : beside),
    ],
    memory: { configSignature, settled, noVersion, beside, versions: memories },
  };
}

async function configSignatureOf(root: string, files: readonly string[]): Promise<string> {
  const signatures = files.map(async (file) => `${file} ${await fileSignature(path.join(root, file))}`);
  return (await Promise.all(signatures)).join("\n");
}

/** Versions that are to get traffic are meant to be served. */
function versionPolicy({ versions, traffic }: WrittenModelConfig): VersionPolicy {
  return versions ?? (traffic === undefined ? POLICY_DEFAULT : Object.keys(traffic).map(Number));
}

interface VersionScan {
  readonly name: string;
  readonly root: string;
  readonly folder: string;
  readonly version: number;
  readonly config: ModelConfig;
  /** Whether the configuration is: a version that was not read yet then waits for it. */
  readonly isChanging: boolean;
  readonly known: VersionMemory | null;
  /** Whether the configuration is that of the last scan. */
  readonly sameConfig: boolean;
  readonly options: ScanOptions;
}

async function scanVersion(scan: VersionScan): Promise<VersionMemory> {
  const { name, root, folder, version, config, known, options } = scan;
  const shown = `${name}/${version}`;
  let signature: string;
  try {
    signature = `${config.modelFile}\n${await folderSignature(root, folder)}`;
  } catch (error) {
    const reason =
      error instanceof VersionError ? `${shown} ${error.message}` : `${shown} can't be read: ${fileErrorText(error)}`;
    return { signature: "", files: new VersionError(reason), outcome: { version, state: "broken", reason } };
  }
  const unchanged = known !== null && known.signature === signature;
  if (unchanged && known.files !== null && scan.sameConfig) return known;
  const settling = { files: null, outcome: { version, state: "settling" } } as const;
  if (options.settle && (!unchanged || scan.isChanging)) return { signature, ...settling };

  let files = unchanged ? known.files : null;
  if (files === null) {
    files = await inspectVersion(root, folder, shown, config.modelFile).catch((error: unknown) =>
      error instanceof VersionError ? error : new VersionError(`${shown} can't be read: ${fileErrorText(error)}`),
    );
    // Changed while it was read: what was read may be half of each.
    const after = `${config.modelFile}\n${await folderSignature(root, folder).catch(() => "")}`;
    if (after !== signature) {
      if (options.settle) return { signature: after, ...settling };
      files = files instanceof VersionError ? files : new VersionError(`${shown} changed while it was read`);
    }
  }
  return { signature, files, outcome: outcomeOf(scan, files) };
}

function outcomeOf(
  { name, version, config, options }: VersionScan,
  files: InspectedVersion | VersionError,
): ScannedVersion {
  const reasons = config.problems.map(formatProblem);
  if (files instanceof VersionError) reasons.push(files.message);
  if (files instanceof VersionError || reasons.length > 0)
    return { version, state: "broken", reason: reasons.join("; ") };
  const { path: file, hash, declared } = files;
  const derived = deriveVersion({ name, version, path: file, hash }, declared, config, options.defaults);
  if (!derived.ok) return { version, state: "broken", reason: derived.problems.map(formatProblem).join("; ") };
  return { version, state: "sound", model: derived.model, warnings: derived.warnings };
}
