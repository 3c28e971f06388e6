import { setTimeout as delay } from "node:timers/promises";
import type { Device } from "../engine/ports.ts";
import { RepositoryError } from "../repository/errors.ts";
import { type ModelVersion, referenceText } from "../repository/model.ts";
import type { ModelRepository, ScanResult } from "../repository/model-repository.ts";
import type { CatalogEntry, ModelCatalog, ModelLookup, RepositoryAction, RepositoryParameter } from "../rpc/ports.ts";
import type { ShapeProfiles } from "../scheduler/types.ts";
import { ColdShapes } from "./cold-shapes.ts";
import { difference } from "./interfaces.ts";
import { IDLE_CHECK_MS, Placement } from "./placement.ts";
import type { LifecycleLogger, LifecycleObserver, ModelHost, ModelLane, ReplicaPool } from "./ports.ts";
import { needsSameSessions, type ServedModel } from "./served-model.ts";
import { TrafficSplit } from "./traffic.ts";

export interface LifecycleParts {
  readonly repository: ModelRepository;
  readonly host: ModelHost;
  /** Device lanes; every model that is placed on the device is loaded on each. */
  readonly lanes: readonly ModelLane[];
  readonly replicas: ReplicaPool;
  readonly control: "none" | "poll" | "explicit";
  readonly pollMs: number;
  /** How long a version that goes answers what it accepted. */
  readonly drainMs: number;
  readonly reprofile: boolean;
  /** Whether models get CPU replicas for spill-over that have not asked for any. */
  readonly replicasByDefault: boolean;
  readonly observer: LifecycleObserver;
  readonly logger: LifecycleLogger;
}

interface LoadFailure {
  readonly version: ModelVersion;
  readonly reason: string;
}

/**
 * Brings models to lanes and takes them away again, as the repository's contents and operators ask, so that no request
 * is lost: a version that takes over is ready before the one it replaces goes, and one that goes first answers its queue, as
 * far as it can within a time limit: work without deadlines may wait for as long as others keep the devices busy.
 */
export class Lifecycle implements ModelCatalog {
  readonly #parts: LifecycleParts;
  readonly #placement: Placement;
  readonly #coldShapes: ColdShapes;
  readonly #byKey = new Map<string, ServedModel>();
  /** By name: what requests may ask for, ascending by version. */
  readonly #byName = new Map<string, readonly ServedModel[]>();
  /** By name, for models whose requests are shared out. */
  readonly #splits = new Map<string, TrafficSplit>();
  /** Changes are carried out one after another. */
  #work: Promise<unknown> = Promise.resolve();
  #poll: NodeJS.Timeout | undefined;
  #started = false;
  #closed = false;
  #activity: string | null = null;
  /** By what can't be served: the reason that the log has. */
  #reported = new Map<string, string>();
  #pollProblem: string | null = null;
  /** Warnings of what is not served which the log has. */
  #absent = new Set<string>();

  constructor(parts: LifecycleParts) {
    this.#parts = parts;
    this.#placement = new Placement(parts, {
      doing: (activity) => {
        this.#activity = activity;
      },
      closed: () => this.#closed,
    });
    this.#coldShapes = new ColdShapes({
      isQuiet: (lane) => parts.host.isQuiet(lane),
      warmed: (lane, key, profiles) => {
        if (this.#byKey.get(key)?.isUpOn(lane)) parts.host.loaded(lane, key, profiles);
      },
      logger: parts.logger,
    });
  }

  /** What is being loaded now, in words; null when nothing is. */
  get activity(): string | null {
    return this.#activity;
  }

  get served(): readonly ServedModel[] {
    return [...this.#byKey.values()];
  }

  /**
   * Loads what the repository's first scan found; resolves when every model that can be served is.
   *
   * @throws RepositoryError where there is nothing to serve and nothing can come
   */
  async start(scan: ScanResult): Promise<void> {
    const { control, pollMs } = this.#parts;
    if (scan.emptyReason !== null && control === "none") {
      this.#report(scan);
      throw new RepositoryError("repository", scan.emptyReason);
    }
    if (scan.emptyReason !== null) this.#parts.logger.warn({}, scan.emptyReason);
    await this.#inTurn(() => this.#apply(scan));
    if (this.#closed) return;
    if (this.#byKey.size === 0 && control === "none") {
      throw new RepositoryError("repository", "no model in the repository could be loaded: the reasons are above");
    }
    this.#started = true;
    if (control === "poll") this.#armPoll(pollMs);
  }

  /** Stops looking for changes and loading; what is served goes on being served. */
  close(): void {
    this.#closed = true;
    this.#coldShapes.close();
    clearTimeout(this.#poll);
  }

  // What the wire asks.

  find(name: string, version: string): ModelLookup {
    const versions = this.#byName.get(name) ?? [];
    const served =
      version === "" ? this.#main(name, versions) : versions.find((one) => String(one.version.version) === version);
    if (served === undefined) return this.#notServed(name, version);
    if (served.isUp) return { type: "ready", model: served };
    return { type: "not-ready", reason: "its device is restarting", passing: true, model: served };
  }

  route(name: string, version: string, trafficKey: string | null): ModelLookup {
    const split = version === "" ? this.#splits.get(name) : undefined;
    if (split === undefined) return this.find(name, version);
    const chosen = split.choose(upAmong(this.#byName.get(name) ?? []), trafficKey);
    return this.find(name, chosen === null ? "" : String(chosen));
  }

  /** Part of the requests for a model without a version that this one gets, 0 to 1. */
  trafficPart({ name, version }: ModelVersion): number {
    const served = this.versions(name);
    const split = this.#splits.get(name);
    return split?.partOf(version, (one) => served.includes(one)) ?? (served.at(-1) === version ? 1 : 0);
  }

  /** The version that speaks for a model where none is named. */
  #main(name: string, versions: readonly ServedModel[]): ServedModel | undefined {
    const split = this.#splits.get(name);
    if (split === undefined) return versions.at(-1);
    const one = (number: number): ServedModel | undefined => versions.find(({ version }) => version.version === number);
    const main = split.main(upAmong(versions)) ?? split.main((version) => one(version) !== undefined);
    return main === null ? undefined : one(main);
  }

  list(): readonly CatalogEntry[] {
    return this.#parts.repository.index();
  }

  versions(name: string): readonly number[] {
    return (this.#byName.get(name) ?? []).map((served) => served.version.version);
  }

  ready(): boolean {
    return this.#started;
  }

  async load(name: string, parameters: ReadonlyMap<string, RepositoryParameter>): Promise<RepositoryAction> {
    for (const parameter of parameters.keys()) {
      const reason = `load parameter '${parameter}' is not supported: put files and config.yaml into the repository`;
      return { ok: false, kind: "invalid", reason };
    }
    return await this.#change(name, () => this.#parts.repository.load(name), true);
  }

  async unload(name: string): Promise<RepositoryAction> {
    return await this.#change(name, () => this.#parts.repository.unload(name), false);
  }

  /**
   * To be called before a request of this shape is submitted: lanes that have no profile for the shape yet are given one
   * that is guessed from the nearest they have, or are prepared for it when they have time.
   */
  announceShape(key: string, shape: string): void {
    const { lanes, replicas, host } = this.#parts;
    const served = this.#byKey.get(key);
    if (served === undefined) return;
    for (const lane of lanes) {
      if (!served.isUpOn(lane.lane)) continue;
      const profiles = lane.profilesFor(key, shape);
      if (profiles !== null) host.loaded(lane.lane, key, profiles);
      else if (lane.isCold(key, shape)) this.#coldShapes.wanted(lane, key, shape);
    }
    const profiles = replicas.profilesFor(key, shape);
    if (profiles === null) return;
    for (const [lane, { kind, up }] of served.lanes) if (kind === "replica" && up) host.loaded(lane, key, profiles);
  }

  // What lanes tell.

  /** A lane died: nothing is loaded on it any more. The engine has been told by the device itself. */
  laneLost(lane: string): void {
    this.#coldShapes.forgetLane(lane);
    this.#placement.laneLost(lane);
    for (const key of this.#byKey.keys()) this.#tellServing(key);
  }

  /** A model is back on a lane that had died. */
  laneReloaded(lane: string, key: string, profiles: ShapeProfiles): void {
    this.#placement.laneReloaded(lane, key, profiles);
    this.#tellServing(key);
  }

  /** A replica is back after its process had died. */
  replicaRestored(key: string, replica: Device, profiles: ShapeProfiles): void {
    this.#placement.replicaRestored(key, replica, profiles);
    this.#tellServing(key);
  }

  /** A model could not be brought back to a lane; without any lane left it is unavailable. */
  laneDropped(lane: string, key: string, reason: string): void {
    const { logger, repository, host } = this.#parts;
    const left = this.#placement.laneDropped(lane, key);
    if (left === null) return;
    logger.error({ model: key, lane, reason }, `${key} is lost on ${lane}: ${reason}`);
    if (left === "other lanes") return;
    const served = this.#byKey.get(key);
    if (served !== undefined) this.#forget(served);
    host.removeModel(key);
    // Whoever is loading or unloading it goes on from here.
    if (served === undefined) return;
    repository.setState(key, "UNAVAILABLE", reason);
    // The version policy may have another one to offer.
    this.#inTurn(async () => this.#apply(await repository.reconsider())).catch((error: unknown) => {
      logger.error({ model: key }, `what takes the place of ${key} can't be looked for: ${(error as Error).message}`);
    });
  }

  loading(key: string, activity: string): void {
    this.#activity = `profiling ${key}: ${activity}`;
  }

  // Changes.

  #notServed(name: string, version: string): ModelLookup {
    const entries = this.#parts.repository.index().filter((entry) => entry.name === name);
    const entry =
      version === ""
        ? (entries.find((one) => one.state === "LOADING") ?? entries.at(-1))
        : (entries.find((one) => one.version === version) ?? entries.find((one) => one.version === ""));
    if (entry === undefined) return { type: "unknown" };
    const state =
      entry.state === "READY"
        ? "none of the versions that its traffic names is served"
        : `it is ${entry.state.toLowerCase()}`;
    const reason = entry.reason === "" ? state : entry.reason;
    return { type: "not-ready", reason, passing: entry.state === "LOADING", model: null };
  }

  async #change(name: string, ask: () => Promise<ScanResult>, loads: boolean): Promise<RepositoryAction> {
    const { control, repository, logger } = this.#parts;
    if (control !== "explicit") {
      const reason = `explicit model load / unload is not allowed: model_control is '${control}', not 'explicit'`;
      return { ok: false, kind: "refused", reason };
    }
    let failures: readonly LoadFailure[];
    try {
      failures = await this.#inTurn(async () => this.#apply(await ask()));
    } catch (error) {
      if (!(error instanceof RepositoryError)) throw error;
      const { kind, message } = error;
      if (kind !== "repository")
        return { ok: false, kind: kind === "unknown-model" ? "unknown" : "failed", reason: message };
      // Where it lies is for the log alone.
      logger.error({}, `the repository could not be read: ${message}`);
      return { ok: false, kind: "failed", reason: "the model repository can't be read: the daemon's log says why" };
    }
    if (!loads) return { ok: true };
    const serving = this.versions(name);
    const failed = failures.find(({ version }) => version.name === name);
    if (failed !== undefined) {
      const rest = serving.length === 0 ? "" : `; version ${serving.join(", ")} goes on being served`;
      return {
        ok: false,
        kind: "failed",
        reason: `failed to load version ${failed.version.version}: ${failed.reason}${rest}`,
      };
    }
    if (serving.length > 0) return { ok: true };
    const entry = repository.index().find((one) => one.name === name && one.state === "UNAVAILABLE");
    return { ok: false, kind: "failed", reason: `failed to load: ${entry?.reason ?? "the reason is in the log"}` };
  }

  #armPoll(pollMs: number): void {
    if (this.#closed) return;
    this.#poll = setTimeout(() => void this.#look().finally(() => this.#armPoll(pollMs)), pollMs);
  }

  async #look(): Promise<void> {
    const { logger, repository } = this.#parts;
    let problem: string | null = null;
    try {
      await this.#inTurn(async () => this.#apply(await repository.scan()));
    } catch (error) {
      problem = (error as Error).message;
      if (problem !== this.#pollProblem) logger.error({}, `the repository could not be read: ${problem}`);
    }
    this.#pollProblem = problem;
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#work.then(change, change);
    this.#work = result.catch(() => undefined);
    return result;
  }

  async #apply(first: ScanResult): Promise<LoadFailure[]> {
    const leaving = new Set<string>();
    const failures: LoadFailure[] = [];
    // A version that fails to load may make the version policy pick another one, perhaps one that was about to leave.
    for (let scan = first; ; scan = await this.#parts.repository.reconsider()) {
      this.#report(scan);
      for (const key of scan.removed) leaving.add(key);
      const before = failures.length;
      for (const version of [...scan.added, ...scan.changed]) {
        if (this.#closed) return failures;
        leaving.delete(version.key);
        const reason = await this.#load(version);
        if (reason !== null) failures.push({ version, reason });
      }
      if (failures.length === before) break;
    }
    for (const key of leaving) await this.#remove(key);
    this.#reportAbsent();
    return failures;
  }

  /** Warns of what settings name and is not served, once for as long as it stays so. */
  #reportAbsent(): void {
    const before = this.#absent;
    this.#absent = new Set();
    const tell = (model: string, problem: string): void => {
      this.#absent.add(problem);
      if (!before.has(problem)) this.#parts.logger.warn({ model }, problem);
    };
    for (const { version } of this.#byKey.values()) {
      const { fallback } = version.settings;
      if (fallback === null) continue;
      const name = referenceText(fallback);
      const found = this.find(fallback.model, fallback.version);
      if (found.type === "ready") {
        const differs = difference(version, found.model.version);
        if (differs !== null)
          tell(version.key, `${version.key}: its fallback ${name} can't answer for it: it ${differs}`);
      } else {
        tell(version.key, `${version.key}: its fallback ${name} is not served; until it is, nothing falls back on it`);
      }
    }
    for (const [name, split] of this.#splits) {
      const served = this.versions(name);
      const absent = split.versions.filter((version) => !served.includes(version));
      if (absent.length === 0) continue;
      tell(name, `${name}: its traffic names version ${absent.join(", ")}, which is not served: others get that share`);
    }
  }

  /** Logs what is wrong, once for as long as it stays so. */
  #report(scan: ScanResult): void {
    const { logger } = this.#parts;
    for (const warning of scan.warnings) logger.warn({}, warning);
    const before = this.#reported;
    const now = new Map<string, string>();
    const kept = new Set(scan.models.map(({ key }) => key));
    // A bad configuration is the reason of all versions of its model.
    const fresh = new Map<string, { readonly reason: string; readonly models: string[] }>();
    for (const { name, version, reason } of scan.unavailable) {
      const model = version === null ? name : `${name}/${version}`;
      // Files that are still being copied are nothing to complain about.
      if (scan.settling.includes(model)) continue;
      now.set(model, reason);
      if (before.get(model) === reason) continue;
      const alike = fresh.get(`${name}: ${reason}`);
      if (alike === undefined) fresh.set(`${name}: ${reason}`, { reason, models: [model] });
      else alike.models.push(model);
    }
    for (const { reason, models } of fresh.values()) {
      const served = models.filter((model) => kept.has(model));
      const model = (served.length > 0 ? served : models).join(", ");
      const what = served.length > 0 ? "keeps its previous files and settings" : "can't be served";
      logger.error({ model, reason }, `${model} ${what}: ${reason}`);
    }
    this.#reported = now;
  }

  /** @returns why it could not be loaded; null where it is served */
  async #load(version: ModelVersion): Promise<string | null> {
    const { repository, logger } = this.#parts;
    const { key } = version;
    const before = this.#byKey.get(key);
    if (before !== undefined && needsSameSessions(before.asked, version)) {
      this.#adopt(before, version);
      repository.setState(key, "READY");
      return null;
    }
    repository.setState(key, "LOADING");
    this.#activity = `loading ${key}`;
    try {
      // The same version with other files: what it accepted is answered as it was asked, then the lanes change over.
      if (before !== undefined) {
        const gone = await this.#takeOff(before);
        if (!gone) return "the daemon ends";
      }
      const main = this.find(version.name, "");
      const served = await this.#placement.place(version);
      this.#byKey.set(key, served);
      this.#publish(served);
      repository.setState(key, "READY");
      this.#tellServing(key);
      logger.info(loadDetails(served), `${key} is ready`);
      const differs = main.type === "ready" ? difference(main.model.version, version) : null;
      // Callers that name no version may get either.
      if (differs !== null) logger.warn({ model: key }, `${key} ${differs} as the version that was served before`);
      return null;
    } catch (error) {
      const reason = (error as Error).message;
      repository.setState(key, "UNAVAILABLE", reason);
      if (!this.#closed) logger.error({ model: key, reason }, `${key} can't be served: ${reason}`);
      this.#reported.set(key, reason);
      return reason;
    } finally {
      this.#activity = null;
    }
  }

  /** Settings that concern queueing and scheduling alone: nothing is loaded anew. */
  #adopt(before: ServedModel, asked: ModelVersion): void {
    if (before.asked === asked) return;
    const served = before.withSettings(asked);
    this.#byKey.set(asked.key, served);
    this.#publish(served);
    this.#parts.host.addModel(served.spec());
    this.#parts.logger.info({ model: asked.key, slo_ms: served.sloUs / 1000 }, `${asked.key} has new settings`);
  }

  async #remove(key: string): Promise<void> {
    const { repository, logger } = this.#parts;
    const served = this.#byKey.get(key);
    if (served === undefined) {
      repository.setState(key, "UNKNOWN");
      return;
    }
    repository.setState(key, "UNLOADING");
    const gone = await this.#takeOff(served);
    if (!gone) return;
    repository.setState(key, "UNKNOWN");
    logger.info({ model: key }, `${key} is unloaded`);
  }

  /**
   * Takes a version off its lanes when what it accepted has been answered, or has had its time.
   *
   * @returns false where the daemon ends first: it stays loaded, and goes on answering
   */
  async #takeOff(served: ServedModel): Promise<boolean> {
    const { host, drainMs, logger } = this.#parts;
    const { key } = served.version;
    this.#forget(served);
    const untilMs = performance.now() + drainMs;
    while (!this.#closed && !host.isIdle(key) && performance.now() < untilMs) await delay(IDLE_CHECK_MS);
    if (this.#closed) return false;
    if (!host.isIdle(key)) {
      logger.warn({ model: key }, `${key} goes before its queue is answered: drain_timeout_ms is ${drainMs}`);
    }
    host.removeModel(key);
    await this.#placement.leave(key);
    return true;
  }

  /** Requests may ask for it from now on. */
  #publish(served: ServedModel): void {
    const { name } = served.version;
    const others = (this.#byName.get(name) ?? []).filter((one) => one.version.key !== served.version.key);
    this.#setServed(
      name,
      [...others, served].sort((a, b) => a.version.version - b.version.version),
    );
  }

  #setServed(name: string, versions: readonly ServedModel[]): void {
    const newest = versions.at(-1);
    if (newest === undefined) this.#byName.delete(name);
    else this.#byName.set(name, versions);
    const traffic = newest?.version.settings.traffic ?? null;
    if (traffic === null) this.#splits.delete(name);
    else this.#splits.set(name, new TrafficSplit(name, traffic));
  }

  /** Requests may not ask for it any more; those that have are still answered. */
  #forget(served: ServedModel): void {
    const { key, name, version } = served.version;
    this.#byKey.delete(key);
    this.#coldShapes.forgetModel(key);
    const rest = (this.#byName.get(name) ?? []).filter((one) => one !== served);
    this.#setServed(name, rest);
    this.#parts.observer.servingChanged(name, version, false);
  }

  #tellServing(key: string): void {
    const served = this.#byKey.get(key);
    if (served === undefined) return;
    const { name, version } = served.version;
    this.#parts.observer.servingChanged(name, version, served.isUp);
  }
}

function upAmong(versions: readonly ServedModel[]): (version: number) => boolean {
  return (version) => versions.some((served) => served.version.version === version && served.isUp);
}

function loadDetails(served: ServedModel): object {
  const { version, sloUs } = served;
  const inMs = (kind: "device" | "replica"): Record<string, number> | undefined => {
    const profile = served.profile(kind);
    if (profile === null) return undefined;
    return Object.fromEntries(profile.map(({ bucket, us }) => [bucket, us / 1000]));
  };
  return {
    model: version.key,
    lanes: served.upLanes,
    max_batch_size: version.maxBatchSize,
    slo_ms: sloUs / 1000,
    slo_from: version.settings.sloMs === null ? "max(100 ms, 4 × l(1))" : "settings",
    profile_ms: inMs("device"),
    replica_profile_ms: inMs("replica"),
    replicas: served.replicaSummary ?? undefined,
  };
}
