/** CPU replicas as the daemon keeps them: one process with a pool of threads for each model, every replica a lane. */
import { createRequire } from "node:module";
import { type Arena, OutOfArenaMemory, openArenaIfPossible } from "../device/arena.ts";
import { Backoff } from "../device/backoff.ts";
import { cpuName } from "../device/choose-device.ts";
import { CRASHES_MAX, CrashedBeside, Crashes, loadInSpiteOfOthers } from "../device/crashes.ts";
import { HANG_LIMITS, type HangLimits } from "../device/hang-limits.ts";
import { LaneDevice } from "../device/lane-device.ts";
import {
  type Culprit,
  type HostEvents,
  type LaneHost,
  startProcessHost,
  startThreadHost,
  type ThreadChannel,
} from "../device/lane-host.ts";
import { LoadError } from "../device/load-error.ts";
import { loadRequest, shapesToWarm } from "../device/load-request.ts";
import type { FromThread, WarmedModel } from "../device/messages.ts";
import { yieldToDaemon } from "../device/priority.ts";
import { identityOf, ProfileCache, type ProfileIdentity } from "../device/profile-cache.ts";
import { CPU_PROVIDER } from "../device/provider.ts";
import { ShapeTable } from "../device/shape-table.ts";
import { siblingModule } from "../device/sibling.ts";
import { NO_THREAD, SilenceWatch } from "../device/silence-watch.ts";
import type { Device } from "../engine/ports.ts";
import type { LoadedReplicas, ReplicaPool } from "../lifecycle/ports.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { Profile, ShapeProfiles } from "../scheduler/types.ts";
import type { PoolLoadRequest } from "./pool-main.ts";
import { bestSplit, candidateSplits, describeSplits, type MeasuredSplit, type Split } from "./splits.ts";

export interface CpuReplicasOptions {
  /** Cores to divide; all models share them. With 0 every load is refused. */
  readonly cores: number;
  /** Folder for measured profiles; null: none are kept. */
  readonly cacheFolder: string | null;
  /** Time to spend on measuring each shape of a model with each split; 2000 by default. */
  readonly profileBudgetMs?: number;
  /** When the process counts as hung, and is started again; `HANG_LIMITS` where not given. */
  readonly hangLimits?: Partial<HangLimits>;
  readonly events: ReplicaEvents;
}

export interface ReplicaEvents {
  /** After the process had died, which each replica's old device told as `lost`: a replica is back, its model loaded. */
  restored(model: string, device: Device, profiles: ShapeProfiles): void;
  /** A replica could not be brought back: it is gone until its model is loaded anew. */
  dropped(model: string, lane: string, error: Error): void;
  progress?(model: string, activity: string): void;
  log(level: "info" | "warn", message: string): void;
}

/** The sessions of one split of a model in one life of the pool's process. */
interface Sessions {
  readonly host: LaneHost;
  readonly channel: ThreadChannel;
  readonly warmed: WarmedModel;
}

interface Kept {
  readonly version: ModelVersion;
  readonly split: Split;
  readonly shapes: ShapeTable;
  readonly summary: string;
  sessions: Sessions;
  devices: LaneDevice[];
  /** Those in which its replicas were executing, or being loaded. */
  readonly crashes: Crashes;
}

interface Waiting {
  readonly resolve: (result: WarmedModel) => void;
  readonly reject: (error: Error) => void;
}

const NO_CORES =
  "pool_cores is 0, which leaves no cores to CPU replicas: raise it, or let the model run on the device alone (device: gpu)";

export class CpuReplicas implements ReplicaPool {
  readonly #options: CpuReplicasOptions;
  readonly #cache: ProfileCache | null;
  readonly #runtimeVersion: string = createRequire(import.meta.url)("onnxruntime-node/package.json").version;
  readonly #models = new Map<string, Kept>();
  readonly #backoff = new Backoff({ firstMs: 100, mostMs: 30_000, resetMs: 60_000 });
  readonly #limits: HangLimits;
  readonly #silence: SilenceWatch;
  /** The load that waits for an answer of the process. */
  #loading: Waiting | null = null;
  readonly #unloading = new Map<ThreadChannel, () => void>();
  #arena: Arena | null = null;
  /** Null until the first model is loaded, and while the process restarts. */
  #host: LaneHost | null = null;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: CpuReplicasOptions) {
    this.#options = options;
    this.#limits = { ...HANG_LIMITS, ...options.hangLimits };
    this.#silence = new SilenceWatch(this.#limits, (reason) => this.#host?.kill(reason, null));
    this.#cache = options.cacheFolder === null ? null : new ProfileCache(options.cacheFolder);
  }

  /** Process that executes; null before the first load and while it restarts. */
  get pid(): number | null {
    return this.#host?.pid ?? null;
  }

  /** Rejects with a `LoadError`; replicas of other models go on. Replaces an earlier load under the same key. */
  load(
    version: ModelVersion,
    sloUs: number | null,
    { reprofile }: { readonly reprofile: boolean },
  ): Promise<LoadedReplicas> {
    return this.#inTurn(async () => {
      if (this.#options.cores === 0) throw new LoadError("no-cores", NO_CORES);
      if (this.#models.has(version.key)) await this.#unloadNow(version.key);
      const kept = await loadInSpiteOfOthers(() => this.#loadNow(version, sloUs, reprofile));
      this.#models.set(version.key, kept);
      const { devices, summary, split, sessions } = kept;
      const { profiles, coldShapes, padding, unbatchedOutputs, mixedOutputs } = sessions.warmed;
      return {
        devices,
        threadsEach: split.threads,
        summary,
        profiles,
        coldShapes,
        padding,
        unbatchedOutputs,
        mixedOutputs,
      };
    });
  }

  /** Nothing of the model may be executing any more. */
  unload(key: string): Promise<void> {
    return this.#inTurn(() => this.#unloadNow(key));
  }

  profilesFor(key: string, shape: string): ShapeProfiles | null {
    const shapes = this.#models.get(key)?.shapes;
    if (shapes === undefined || shapes.has(shape)) return null;
    shapes.get(shape);
    return shapes.profiles;
  }

  /** Ends the process at once. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#backoff.cancel();
    this.#loading?.reject(new LoadError("closed", "the CPU replicas were closed"));
    await this.#host?.close();
    this.#host = null;
    for (const { devices } of this.#models.values()) for (const device of devices) device.lose("the daemon ends");
    this.#arena?.close();
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(task);
    this.#queue = result.catch(() => {});
    return result;
  }

  async #loadNow(version: ModelVersion, sloUs: number | null, reprofile: boolean): Promise<Kept> {
    const { split, measured, sessions } = await this.#chooseSplit(version, sloUs, reprofile);
    const kept: Kept = {
      version,
      split: split.split,
      shapes: new ShapeTable(version, sessions.warmed.profiles),
      summary: describeSplits(measured, split, sloUs),
      sessions,
      devices: [],
      crashes: new Crashes(),
    };
    await this.#makeDevices(kept);
    return kept;
  }

  /** Loads the split that serves the model best, after measuring those that were not measured at an earlier start. */
  async #chooseSplit(
    version: ModelVersion,
    sloUs: number | null,
    reprofile: boolean,
  ): Promise<{ split: MeasuredSplit; measured: readonly MeasuredSplit[]; sessions: Sessions }> {
    const splits = this.#splitsOf(version);
    const measured: MeasuredSplit[] = [];
    let loaded: { readonly split: Split; readonly sessions: Sessions } | null = null;
    for (const split of splits) {
      const remembered = splits.length > 1 && !reprofile ? await this.#recall(version, split) : null;
      if (remembered !== null) {
        measured.push({ split, profile: firstProfile(remembered) });
        continue;
      }
      if (loaded !== null) await this.#close(version.key, loaded.sessions);
      if (splits.length > 1) {
        this.#options.events.progress?.(version.key, `${split.replicas} replicas × ${split.threads} threads`);
      }
      loaded = { split, sessions: await this.#loadSplit(version, split, reprofile, null) };
      measured.push({ split, profile: firstProfile(loaded.sessions.warmed) });
    }
    const best = bestSplit(measured, sloUs);
    if (loaded?.split === best.split) return { split: best, measured, sessions: loaded.sessions };
    if (loaded !== null) await this.#close(version.key, loaded.sessions);
    return { split: best, measured, sessions: await this.#loadSplit(version, best.split, false, null) };
  }

  #splitsOf({ settings }: ModelVersion): Split[] {
    const { cores } = this.#options;
    if (settings.replicas === "auto") return candidateSplits(cores, settings.threads);
    const replicas = Math.max(1, settings.replicas);
    return [{ replicas, threads: settings.threads ?? Math.max(1, Math.floor(cores / replicas)) }];
  }

  async #start(): Promise<LaneHost> {
    if (this.#closed) throw new LoadError("closed", "the CPU replicas were closed");
    if (this.#host !== null) return this.#host;
    this.#arena ??= openArenaIfPossible("CPU replicas", (text) => this.#options.events.log("warn", text));
    const events: HostEvents = {
      lost: (reason, culprit) => this.#lost(reason, culprit),
      output: (line) => this.#options.events.log("info", `CPU replicas: ${line}`),
    };
    const entry = siblingModule(import.meta.url, "pool-main");
    const host =
      this.#arena === null ? startThreadHost(events, entry) : await startProcessHost(this.#arena, events, entry);
    if (this.#closed) {
      await host.close();
      throw new LoadError("closed", "the CPU replicas were closed");
    }
    if (host.pid !== null) yieldToDaemon(host.pid);
    this.#host = host;
    return host;
  }

  /** @param before what was measured for these replicas before they were lost */
  async #loadSplit(
    version: ModelVersion,
    split: Split,
    reprofile: boolean,
    before: WarmedModel | null,
  ): Promise<Sessions> {
    // Before a line is opened: shapes that don't fit the model must not leave one behind.
    const warmShapes = shapesToWarm(version, before);
    const known = before ?? (reprofile ? null : await this.#recall(version, split));
    let host: LaneHost;
    let channel: ThreadChannel;
    try {
      host = await this.#start();
      const started = host;
      channel = await this.#silence.during(`starting replicas of ${version.key}`, NO_THREAD, () => {
        return started.openThread();
      });
    } catch (error) {
      if (error instanceof LoadError) throw error;
      throw new CrashedBeside("crashed", error instanceof Error ? error.message : String(error));
    }
    channel.onMessage((message, payload, buffer) => this.#received(version.key, channel, message, payload, buffer));
    const how = {
      provider: CPU_PROVIDER,
      threads: split.threads,
      warmShapes,
      known,
      profileBudgetMs: this.#options.profileBudgetMs ?? 2000,
    };
    const request: PoolLoadRequest = { ...loadRequest(version, before !== null, how), replicas: split.replicas };
    let warmed: WarmedModel;
    try {
      warmed = await this.#silence.during(`loading replicas of ${version.key}`, { channel, takesTurns: false }, () => {
        return new Promise<WarmedModel>((resolve, reject) => {
          this.#loading = { resolve, reject };
          channel.send({ type: "load", request });
        });
      });
    } catch (error) {
      host.closeThread(channel);
      throw error;
    } finally {
      this.#loading = null;
    }
    if (known === null) await this.#remember(version, split, warmed);
    if (host !== this.#host) throw new CrashedBeside("crashed", "the CPU replicas' process was lost");
    return { host, channel, warmed };
  }

  #received(
    key: string,
    channel: ThreadChannel,
    message: FromThread,
    payload: Uint8Array,
    buffer: ArrayBuffer | null,
  ): void {
    this.#silence.heard(channel);
    switch (message.type) {
      // Loads go one after another, so an answer is that of the only one that waits.
      case "loaded":
        this.#loading?.resolve(message.result);
        break;
      case "load-failed":
        this.#loading?.reject(new LoadError(message.code, message.message));
        break;
      case "unloaded":
        this.#unloading.get(channel)?.();
        break;
      case "done":
      case "failed":
        // Each device knows the execution it waits for and passes over those of the others.
        for (const device of this.#models.get(key)?.devices ?? []) device.ended(message, payload, buffer);
        break;
      case "progress":
      case "warmed":
      case "warm-failed":
        break;
    }
  }

  /** Rejects where there is no room for their batches; the sessions are closed then. */
  async #makeDevices(kept: Kept): Promise<void> {
    const { version, split, sessions } = kept;
    const { channel, warmed } = sessions;
    kept.devices = Array.from({ length: split.replicas }, (_, index) => {
      return new LaneDevice(`cpu/${version.key}#${index}`, "replica", this.#arena, this.#limits, {
        fatal: (model, message) => this.#host?.kill(`a CPU replica of ${model} died: ${message}`, model),
        hung: (model, reason) => this.#host?.kill(reason, model),
        // Replicas execute side by side, but not faster for it while others are being measured.
        occupied: () => this.#silence.watching,
      });
    });
    try {
      for (const device of kept.devices) {
        device.place(version, channel, warmed.slotBytes, Object.keys(warmed.profiles));
      }
    } catch (error) {
      for (const device of kept.devices) device.remove(version.key);
      await this.#close(version.key, sessions);
      if (!(error instanceof OutOfArenaMemory)) throw error;
      throw new LoadError(
        "memory",
        `two batches for each of ${split.replicas} replicas find no room: ${error.message}`,
      );
    }
  }

  async #unloadNow(key: string): Promise<void> {
    const kept = this.#models.get(key);
    if (kept === undefined) return;
    this.#models.delete(key);
    for (const device of kept.devices) device.remove(key);
    await this.#close(key, kept.sessions);
  }

  /** Ends sessions; those whose process died have ended already. */
  async #close(key: string, { host, channel }: Sessions): Promise<void> {
    if (host !== this.#host) return;
    await this.#silence.during(`unloading replicas of ${key}`, { channel, takesTurns: false }, () => {
      return new Promise<void>((resolve) => {
        this.#unloading.set(channel, resolve);
        channel.send({ type: "unload", model: key });
      });
    });
    this.#unloading.delete(channel);
    host.closeThread(channel);
  }

  #lost(reason: string, culprit: Culprit): void {
    this.#host = null;
    const text = `the CPU replicas' process was lost: ${reason}`;
    this.#options.events.log("warn", text);
    const suspects = [...this.#models.values()].filter(({ version, devices }) => {
      return culprit === undefined ? devices.some((one) => one.executing !== null) : version.key === culprit;
    });
    for (const { crashes } of suspects) crashes.count();
    for (const { devices } of this.#models.values()) for (const device of devices) device.lose(text);
    this.#loading?.reject(new (suspects.length === 0 ? LoadError : CrashedBeside)("crashed", text));
    for (const unloaded of this.#unloading.values()) unloaded();
    this.#unloading.clear();
    if (!this.#closed) this.#inTurn(() => this.#restore()).catch((error) => this.#failedToRestore(error));
  }

  /** Models whose sessions went with an earlier process. */
  #down(): Kept[] {
    return [...this.#models.values()].filter(({ sessions }) => sessions.host !== this.#host);
  }

  async #restore(): Promise<void> {
    while (!this.#closed && this.#down().length > 0) {
      await this.#backoff.wait();
      for (const kept of this.#down()) {
        try {
          await this.#bringBack(kept);
        } catch (error) {
          if (this.#closed) return;
          if (error instanceof CrashedBeside) {
            this.#failedToRestore(error);
            break;
          }
          if (error instanceof LoadError && error.code === "crashed" && this.#host === null) {
            kept.crashes.count();
            break;
          }
          this.#drop(kept, error as Error);
        }
      }
    }
  }

  #failedToRestore(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#options.events.log("warn", `the CPU replicas could not be brought back: ${reason}`);
  }

  async #bringBack(kept: Kept): Promise<void> {
    if (kept.crashes.areTooMany()) {
      throw new LoadError(
        "invalid",
        `it was in use each of the last ${CRASHES_MAX} times when the CPU replicas crashed`,
      );
    }
    kept.sessions = await this.#loadSplit(kept.version, kept.split, false, kept.sessions.warmed);
    await this.#makeDevices(kept);
    const { key } = kept.version;
    for (const device of kept.devices) this.#options.events.restored(key, device, kept.shapes.profiles);
    this.#options.events.log("info", `the CPU replicas of ${key} are back`);
  }

  #drop(kept: Kept, error: Error): void {
    const { key } = kept.version;
    this.#models.delete(key);
    for (const { lane } of kept.devices) this.#options.events.dropped(key, lane, error);
  }

  async #recall(version: ModelVersion, split: Split): Promise<Pick<WarmedModel, "buckets" | "profiles"> | null> {
    return (await this.#cache?.read(this.#identity(version, split))) ?? null;
  }

  async #remember(version: ModelVersion, split: Split, warmed: WarmedModel): Promise<void> {
    try {
      await this.#cache?.write(this.#identity(version, split), warmed);
    } catch (error) {
      this.#options.events.log("warn", `profiles cannot be kept for the next start: ${String(error)}`);
    }
  }

  #identity(version: ModelVersion, { replicas, threads }: Split): ProfileIdentity {
    return {
      ...identityOf(version),
      runtimeVersion: this.#runtimeVersion,
      device: `${replicas} replicas on ${cpuName()}`,
      threads,
    };
  }
}

function firstProfile({ profiles }: Pick<WarmedModel, "profiles">): Profile {
  return Object.values(profiles)[0] ?? [];
}
