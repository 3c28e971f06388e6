import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { ModelControl } from "../config/daemon-settings.ts";
import { nearestName } from "../config/nearest-name.ts";
import { fileErrorText } from "../config/yaml-file.ts";
import type { ModelDefaults } from "./derive-version.ts";
import { RepositoryError } from "./errors.ts";
import { isMeant, onnxFiles } from "./misplaced.ts";
import type { ModelState, ModelVersion } from "./model.ts";
import { type ScannedModel, scanModel, versionNumber } from "./scan-model.ts";
import { MODEL_FILE } from "./version-files.ts";
import type { VersionPolicy } from "./written-config.ts";

/** Models that are looked at side by side; reading them is mostly waiting for the disk. */
const SCANS_AT_ONCE = 4;

/** The reason of models that nobody asked for, under explicit control: nothing is wrong with them. */
export const NOT_LOADED = "not loaded";

export interface RepositoryOptions {
  /** Absolute path of the repository. */
  readonly dir: string;
  readonly control: ModelControl;
  readonly defaults: ModelDefaults;
  /** Under explicit control, the models wanted from the start; `*` for all. */
  readonly loadModels?: readonly string[];
}

/** Something that can't be served, and why. */
export interface Unavailable {
  readonly name: string;
  /** Null where it is the model as a whole. */
  readonly version: number | null;
  /** A sentence without paths of the host. */
  readonly reason: string;
}

/** What the repository holds, and what that changes for a daemon that serves what the last scan said. */
export interface ScanResult {
  /** Every version that should be served, by name and version. */
  readonly models: readonly ModelVersion[];
  /** Of these, new since the last scan. */
  readonly added: readonly ModelVersion[];
  /** Of these, with other files or settings than before: `key` is the same. */
  readonly changed: readonly ModelVersion[];
  /**
   * Keys that should not be served any more. Where another version of the same model takes over (it is in `added`), keep
   * serving this one until that one is ready: no request is lost then.
   */
  readonly removed: readonly string[];
  readonly unavailable: readonly Unavailable[];
  /** Keys of versions whose files are new or changing; the next scan looks at them again. */
  readonly settling: readonly string[];
  /** Sentences to log; only those that the last scan did not have. */
  readonly warnings: readonly string[];
  /** Why there is nothing to serve; null where there is something. */
  readonly emptyReason: string | null;
}

export interface IndexEntry {
  readonly name: string;
  /** Empty where the model has none. */
  readonly version: string;
  readonly state: ModelState;
  readonly reason: string;
}

interface LiveState {
  readonly state: ModelState;
  readonly reason: string;
}

/**
 * The model repository: finds out which versions of which models are to be served, and keeps the states that the daemon
 * reports for them. It loads nothing itself.
 */
export class ModelRepository {
  readonly #options: RepositoryOptions;
  readonly #scanned = new Map<string, ScannedModel>();
  /** By key: what the last result said should be served. */
  #wanted = new Map<string, ModelVersion>();
  /** By key: what the daemon said of versions it serves or tried to. */
  readonly #live = new Map<string, LiveState>();
  /** By key: versions that could not be loaded, until their files change. */
  readonly #failed = new Map<string, { readonly model: ModelVersion; readonly reason: string }>();
  /** Under explicit control: names asked for. */
  readonly #asked: Set<string>;
  #folders: readonly string[] = [];
  /** Of the repository's own entries, those that are no folders. */
  #files: readonly string[] = [];
  #warned = new Set<string>();
  #scans = 0;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: RepositoryOptions) {
    this.#options = options;
    this.#asked = new Set(options.loadModels ?? []);
  }

  /**
   * Looks at the whole repository. From the second time on, new and changed files are left until two scans have seen them
   * alike: they may still be being copied. Throws RepositoryError where the folder can't be read; what was known stays.
   */
  scan(): Promise<ScanResult> {
    return this.#inTurn(async () => {
      await this.#list();
      const names = this.#folders.filter((name) => this.#isWanted(name));
      const settle = this.#scans > 0;
      await atMost(SCANS_AT_ONCE, names, (name) => this.#scanFolder(name, settle));
      for (const name of this.#scanned.keys()) if (!names.includes(name)) this.#forget(name);
      this.#scans++;
      return this.#result();
    });
  }

  /**
   * Takes a model in at once, under explicit control; it is then wanted until it is unloaded. Loading one that is wanted
   * already looks at its files again. Throws RepositoryError where none of its versions can be served.
   */
  load(name: string): Promise<ScanResult> {
    return this.#inTurn(async () => {
      await this.#list();
      if (!this.#folders.includes(name)) throw this.#unknown(name);
      for (const [key, { model }] of this.#failed) if (model.name === name) this.#failed.delete(key);
      await this.#scanFolder(name, false);
      const scanned = this.#scanned.get(name);
      if (scanned === undefined) throw this.#unknown(name);
      const sound = scanned.versions.some((version) => version.state === "sound");
      if (!sound || this.#choose(scanned).length === 0) {
        const reasons = this.#unavailable(scanned).map(({ reason }) => reason);
        if (sound) reasons.push("its version policy picks none of the versions that there are");
        if (!this.#isWanted(name)) this.#forget(name);
        throw new RepositoryError("unavailable", `failed to load '${name}': ${reasons.join("; ")}`);
      }
      this.#asked.add(name);
      return this.#result();
    });
  }

  /** Gives a model up, under explicit control. Throws RepositoryError where there is none of that name. */
  unload(name: string): Promise<ScanResult> {
    return this.#inTurn(async () => {
      if (!this.#scanned.has(name) && !this.#folders.includes(name)) throw this.#unknown(name);
      if (this.#asked.delete("*")) for (const other of this.#folders) this.#asked.add(other);
      this.#asked.delete(name);
      this.#forget(name);
      return this.#result();
    });
  }

  /**
   * Records what became of a version. UNAVAILABLE means that it could not be loaded: until its files change, the version
   * policy then chooses among the others (see `reconsider`). A version that is gone for good is forgotten by UNKNOWN.
   */
  setState(key: string, state: ModelState, reason = ""): void {
    if (state === "UNKNOWN") this.#live.delete(key);
    else this.#live.set(key, { state, reason });
    const model = this.#wanted.get(key);
    if (state === "UNAVAILABLE" && model !== undefined) this.#failed.set(key, { model, reason });
    else if (state === "READY") this.#failed.delete(key);
  }

  /** What should be served now, without looking at the disk: differs from the last scan after versions failed to load. */
  reconsider(): Promise<ScanResult> {
    return this.#inTurn(async () => this.#result());
  }

  /** One line for each version that is served or can't be, and for each model that has none. */
  index(): readonly IndexEntry[] {
    const entries = new Map<string, IndexEntry>();
    const put = (name: string, version: string, state: ModelState, reason: string): void => {
      entries.set(`${name}/${version}`, { name, version, state, reason });
    };
    for (const name of this.#folders) {
      if (!this.#scanned.has(name) && !this.#isWanted(name)) put(name, "", "UNAVAILABLE", NOT_LOADED);
    }
    for (const scanned of this.#scanned.values()) {
      for (const { name, version, reason } of this.#unavailable(scanned)) {
        put(name, version === null ? "" : String(version), "UNAVAILABLE", reason);
      }
    }
    for (const model of this.#wanted.values()) {
      const live = this.#live.get(model.key) ?? { state: "LOADING", reason: "" };
      // Served as it was before its files broke: the reason says so.
      const broken = entries.get(model.key)?.reason;
      put(model.name, String(model.version), live.state, live.reason || broken || "");
    }
    for (const [key, live] of this.#live) {
      if (this.#wanted.has(key) || live.state === "UNAVAILABLE") continue;
      const slash = key.lastIndexOf("/");
      put(key.slice(0, slash), key.slice(slash + 1), live.state, live.reason);
    }
    const named = [...entries.values()];
    return named.sort((a, b) => (a.name === b.name ? Number(a.version) - Number(b.version) : a.name < b.name ? -1 : 1));
  }

  /** One after another: a scan and a load that overlap would each undo what the other found. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work, work);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  #isWanted(name: string): boolean {
    return this.#options.control !== "explicit" || this.#asked.has("*") || this.#asked.has(name);
  }

  async #list(): Promise<void> {
    const { dir } = this.#options;
    let entries: Dirent[];
    try {
      entries = await readdir(dir, { withFileTypes: true });
    } catch (error) {
      const hint = (error as NodeJS.ErrnoException).code === "ENOENT" ? "; give the folder with --models DIR" : "";
      throw new RepositoryError("repository", `model repository ${dir}: ${fileErrorText(error)}${hint}`, error);
    }
    const folders: string[] = [];
    const files: string[] = [];
    for (const entry of entries) {
      if (!isMeant(entry.name)) continue;
      const isFolder = entry.isSymbolicLink()
        ? ((await stat(path.join(dir, entry.name)).catch(() => null))?.isDirectory() ?? false)
        : entry.isDirectory();
      (isFolder ? folders : files).push(entry.name);
    }
    this.#folders = folders.sort();
    this.#files = files.sort();
  }

  async #scanFolder(name: string, settle: boolean): Promise<void> {
    const before = this.#scanned.get(name)?.memory ?? null;
    const dir = path.join(this.#options.dir, name);
    const scanned = await scanModel(dir, before, { defaults: this.#options.defaults, settle });
    if (scanned === null) this.#forget(name);
    else this.#scanned.set(name, scanned);
  }

  #forget(name: string): void {
    this.#scanned.delete(name);
    for (const [key, { model }] of this.#failed) if (model.name === name) this.#failed.delete(key);
  }

  #unknown(name: string): RepositoryError {
    const near = nearestName(name, this.#folders);
    const hint = near === null ? "" : `; did you mean '${near}'?`;
    return new RepositoryError("unknown-model", `no model '${name}' in the repository${hint}`);
  }

  /** The versions that the policy picks from those that can be served, ascending. */
  #choose(scanned: ScannedModel): readonly ModelVersion[] {
    if (scanned.isUncertain) return [...this.#wanted.values()].filter((model) => model.name === scanned.name);
    const candidates: ModelVersion[] = [];
    for (const version of scanned.versions) {
      // A version that is served keeps being served as it was while its files change, and when they broke.
      const served = this.#wanted.get(`${scanned.name}/${version.version}`);
      const model = version.state === "sound" ? version.model : served;
      if (model !== undefined && !this.#hasFailed(model)) candidates.push(model);
    }
    return pick(scanned.policy, candidates);
  }

  #hasFailed(model: ModelVersion): boolean {
    const failed = this.#failed.get(model.key);
    return failed !== undefined && isDeepStrictEqual(failed.model, model);
  }

  #unavailable(scanned: ScannedModel): Unavailable[] {
    const { name } = scanned;
    const list: Unavailable[] = [];
    for (const version of scanned.versions) {
      if (version.state === "broken") list.push({ name, version: version.version, reason: version.reason });
      else if (version.state === "settling") {
        list.push({ name, version: version.version, reason: "its files are still changing" });
      } else if (this.#hasFailed(version.model)) {
        const reason = this.#failed.get(version.model.key)?.reason ?? "";
        list.push({ name, version: version.version, reason });
      }
    }
    if (scanned.versions.length === 0) {
      if (scanned.reason !== null) list.push({ name, version: null, reason: scanned.reason });
    } else if (list.length === 0 && this.#choose(scanned).length === 0) {
      const found = scanned.versions.map(({ version }) => version).join(", ");
      list.push({ name, version: null, reason: `its configuration asks for other versions than there are: ${found}` });
    }
    return list;
  }

  #result(): ScanResult {
    const before = this.#wanted;
    const wanted = new Map<string, ModelVersion>();
    const added: ModelVersion[] = [];
    const changed: ModelVersion[] = [];
    const settling: string[] = [];
    const warnings: string[] = [];
    const scanned = [...this.#scanned.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const one of scanned) {
      warnings.push(...one.warnings, ...missingVersions(one));
      for (const version of one.versions) {
        if (version.state === "settling") settling.push(`${one.name}/${version.version}`);
        if (version.state === "sound")
          warnings.push(...version.warnings.map((text) => `${version.model.key}: ${text}`));
      }
      for (const model of this.#choose(one)) {
        const known = before.get(model.key);
        // The same object for as long as it says the same: what others derive from it is kept by identity.
        const kept = known !== undefined && isDeepStrictEqual(known, model) ? known : model;
        wanted.set(kept.key, kept);
        if (known === undefined) added.push(kept);
        else if (kept !== known) changed.push(kept);
      }
    }
    warnings.push(...overbooked([...wanted.values()]), ...this.#misplacedFiles(), ...this.#unknownNames());
    const fresh = warnings.filter((text) => !this.#warned.has(text));
    this.#warned = new Set(warnings);
    this.#wanted = wanted;
    const removed = [...before.keys()].filter((key) => !wanted.has(key));
    // What was said of a version that failed, or of its former files, is not true of the one that takes its place.
    for (const key of [...removed, ...added.map((model) => model.key)]) {
      if (this.#live.get(key)?.state === "UNAVAILABLE") this.#live.delete(key);
    }
    const unavailable = scanned.flatMap((one) => this.#unavailable(one));
    return {
      models: [...wanted.values()],
      added,
      changed,
      removed,
      unavailable,
      settling,
      warnings: fresh,
      emptyReason: wanted.size > 0 ? null : this.#emptyReason(unavailable),
    };
  }

  /** ONNX files beside the models' folders. */
  #misplacedFiles(): string[] {
    return onnxFiles(this.#files).map((file) => {
      const name = path.parse(file).name;
      return `${file} is not served: it belongs in ${name === "model" ? "MODEL" : name}/1/${MODEL_FILE}`;
    });
  }

  /** Asked for, and not there; under explicit control they can still be loaded once they are. */
  #unknownNames(): string[] {
    const unknown = [...this.#asked].filter((name) => name !== "*" && !this.#folders.includes(name));
    return unknown.map((name) => `load_models: ${this.#unknown(name).message}`);
  }

  #emptyReason(unavailable: readonly Unavailable[]): string {
    const { dir, control } = this.#options;
    if (unavailable.length > 0) {
      const isModel = this.#folders.every((name) => versionNumber(name) !== null);
      const hint = isModel ? `; if ${dir} is one model's folder, give the folder that holds it` : "";
      return `none of the models in ${dir} can be served: ${unavailable.map(({ reason }) => reason).join("; ")}${hint}`;
    }
    if (control === "explicit" && this.#folders.length > 0) return "no model is loaded yet (model_control: explicit)";
    const entries = [...this.#folders, ...this.#files];
    const found = entries.length === 0 ? "it is empty" : `found only ${entries.slice(0, 5).join(", ")}`;
    const misplaced = this.#misplacedFiles().map((text) => `; ${text}`);
    return `no models in ${dir}: expected MODEL/VERSION/${MODEL_FILE}, such as digits/1/${MODEL_FILE}; ${found}${misplaced[0] ?? ""}`;
  }
}

function pick(policy: VersionPolicy, ascending: readonly ModelVersion[]): readonly ModelVersion[] {
  if (policy === "all") return ascending;
  if ("latest" in policy) return ascending.slice(-policy.latest);
  return ascending.filter((model) => policy.includes(model.version));
}

function missingVersions({ name, policy, versions }: ScannedModel): string[] {
  if (policy === "all" || "latest" in policy) return [];
  const missing = policy.filter((wanted) => !versions.some(({ version }) => version === wanted));
  return missing.map((version) => `${name}: version ${version} is asked for by its configuration, but does not exist`);
}

function overbooked(models: readonly ModelVersion[]): string[] {
  const sum = models.reduce((total, model) => total + model.settings.minShare, 0);
  return sum > 1 ? [`the models' min_share add up to ${sum.toFixed(2)}, more than the whole device`] : [];
}

async function atMost<T>(limit: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  const worker = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
}
